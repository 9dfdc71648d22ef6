// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

const caSecret = "marble-injector-ca"

// testBundle: a CA bundle that somebody has overwritten is restored. The API server does not look into it: rubbish gets
// there as well as somebody else's certificate.
func testBundle(in *installation) {
	right := in.bundle()
	another, _ := newCA(in.Kit, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s := in.keepCreating()
	for _, wrong := range [][]byte{[]byte("rubbish"), another} {
		s.more(10)
		in.patchBundle(wrong)
		changed := time.Now()
		in.Eventually("the CA bundle is restored", func(context.Context) error {
			if !bytes.Equal(in.bundle(), right) {
				return errors.New("it is still another one")
			}
			return nil
		})
		in.Figure("CA bundle overwritten: restored after %.1f s", time.Since(changed).Seconds())
	}
	s.more(10)
	created, failed, _ := s.stop()
	in.Figure("CA bundle overwritten twice: %d Pods were created, %d were not", created, failed)
}

// testSecret: a CA whose key is lost is replaced, by both replicas together.
func testSecret(in *installation) {
	old := in.secret()["ca.crt"]
	s := in.keepCreating()
	s.more(10)
	in.patchSecret(map[string][]byte{"ca.crt": []byte("garbage"), "ca.key": nil})
	changed := time.Now()
	in.eventuallyServing("with a new CA", func(ca []byte) bool {
		return !bytes.Equal(ca, old) && bytes.HasPrefix(ca, []byte("-----BEGIN"))
	})
	took := time.Since(changed)
	s.more(10)
	created, failed, _ := s.stop()
	in.Figure("CA lost: replaced after %.1f s; %d Pods were created, %d were not", took.Seconds(), created, failed)
}

// testRotation: a CA that is near its end hands over to the next one while Pods are created, and nobody notices.
func testRotation(in *installation) {
	in.Kubectl("-n", in.ns, "scale", "deployment/marble-injector", "--replicas=0")
	in.Eventually("the injector is gone", func(ctx context.Context) error {
		pods, err := in.Kube.CoreV1().Pods(in.ns).List(ctx, selecting("app.kubernetes.io/name=marble-injector"))
		if err == nil && len(pods.Items) > 0 {
			return fmt.Errorf("%d Pods are left", len(pods.Items)) // on their way out they serve, and look after the CA
		}
		return err
	})
	_, err := in.create(in.Context(), idle("refused-"), true)
	if err == nil || !strings.Contains(err.Error(), in.hooks()) {
		in.Errorf("without an injector: %v; want the webhook's name", err)
	}
	now := time.Now()
	old, key := newCA(in.Kit, now.Add(-9*time.Hour), now.Add(time.Hour)) // 9/10 of its life are over
	in.patchSecret(map[string][]byte{"ca.crt": old, "ca.key": key, "next.crt": nil, "next.key": nil, "previous.crt": nil})
	s := in.keepCreating() // before they start: they hand over at their second look
	in.Kubectl("-n", in.ns, "scale", "deployment/marble-injector", "--replicas=2")
	s.more(1)
	if !bytes.Equal(in.secret()["ca.crt"], old) {
		in.Log("this machine is slow: the CA had handed over before Pods were created")
	}
	in.DeploymentReady(in.ns, "marble-injector")
	in.eventuallyServing("with the next CA", func(ca []byte) bool { return !bytes.Equal(ca, old) })
	s.more(20)
	s.stopWithoutFailure("CA and certificates rotated")
	if got := in.secret()["previous.crt"]; !bytes.Equal(got, old) {
		in.Error("the old CA is not kept as the previous one")
	}
	if !bytes.Contains(in.bundle(), old) {
		in.Error("the old CA is no longer trusted, though it is valid")
	}
}

// TestLongRotation: with lives of a minute and of three, CAs and certificates are rotated by the clock while Pods are
// created.
func TestLongRotation(t *testing.T) {
	k := kit.New(t)
	k.Long()
	in := install(k, "rotation", "marbleInjector.replicas=2", "marbleInjector.resourceKey=sgx.intel.com/epc")
	in.Kubectl("-n", in.ns, "patch", "deployment", "marble-injector", "--type=json", "-p", `[
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "-certLife=1m"},
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "-caLife=3m"}]`)
	in.ready()
	old := in.secret()["ca.crt"] // for a year, of the injector without these arguments
	in.patchSecret(map[string][]byte{"ca.crt": nil, "ca.key": nil})
	in.eventuallyServing("with a CA of three minutes", func(ca []byte) bool { return len(ca) > 0 && !bytes.Equal(ca, old) })
	s := in.keepCreating()
	seen := map[string]bool{}
	for end := time.Now().Add(7 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		seen[string(in.secret()["ca.crt"])] = true
	}
	s.stopWithoutFailure(fmt.Sprintf("7 minutes with %d CAs", len(seen)))
	if len(seen) < 3 {
		t.Errorf("only %d CAs were seen", len(seen))
	}
	if err := in.neverRestarted(); err != nil {
		t.Error(err)
	}
}

// eventuallyServing waits until the Secret has a CA as wanted, and every replica a certificate of that CA.
func (in *installation) eventuallyServing(how string, wanted func(ca []byte) bool) {
	in.Helper()
	addrs := map[string]string{}
	for _, pod := range in.replicas() {
		addrs[pod.Name] = in.Forward(in.ns, "pod/"+pod.Name, 8443)
	}
	in.Eventually("all replicas serve "+how, func(ctx context.Context) error {
		ca := in.secret()["ca.crt"]
		if !wanted(ca) {
			return errors.New("the Secret does not have it")
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		for name, addr := range addrs {
			if err := serves(ctx, addr, "marble-injector."+in.ns+".svc", roots); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
}

func serves(ctx context.Context, addr, name string, roots *x509.CertPool) error {
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name}}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

func (in *installation) bundle() []byte {
	in.Helper()
	c, err := in.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(in.Context(), in.hooks(),
		metav1.GetOptions{})
	if err != nil {
		in.Fatal(err)
	}
	return c.Webhooks[0].ClientConfig.CABundle
}

func (in *installation) patchBundle(bundle []byte) {
	in.Helper()
	patch, err := json.Marshal([]map[string]any{{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle}})
	if err != nil {
		in.Fatal(err)
	}
	_, err = in.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(in.Context(), in.hooks(),
		types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		in.Fatal(err)
	}
}

func (in *installation) secret() map[string][]byte {
	in.Helper()
	s, err := in.Kube.CoreV1().Secrets(in.ns).Get(in.Context(), caSecret, metav1.GetOptions{})
	if err != nil {
		in.Fatal(err)
	}
	return s.Data
}

func (in *installation) patchSecret(data map[string][]byte) {
	in.Helper()
	patch, err := json.Marshal(map[string]any{"data": data})
	if err != nil {
		in.Fatal(err)
	}
	_, err = in.Kube.CoreV1().Secrets(in.ns).Patch(in.Context(), caSecret, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		in.Fatal(err)
	}
}

// newCA makes a CA as the injector does, in PEM.
func newCA(k *kit.Kit, notBefore, notAfter time.Time) (cert, key []byte) {
	k.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		k.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "e2e CA"},
		NotBefore: notBefore, NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		k.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		k.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
