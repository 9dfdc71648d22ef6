// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubeapi_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi/apitest"
)

func token() (string, error) { return apitest.Token, nil }

func newClient() (*kubeapi.Client, *apitest.Server) {
	s := apitest.New()
	return kubeapi.New("https://cluster/", s, token), s
}

func TestSecrets(t *testing.T) {
	c, s := newClient()
	ctx := t.Context()
	if _, err := c.Secret(ctx, "ns", "ca"); !errors.Is(err, kubeapi.ErrNotFound) {
		t.Errorf("reading nothing: %v", err)
	}
	if err := c.CreateSecret(ctx, "ns", "ca", map[string][]byte{"a": []byte("1"), "b": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateSecret(ctx, "ns", "ca", nil); !errors.Is(err, kubeapi.ErrConflict) {
		t.Errorf("creating it again: %v", err)
	}
	secret, err := c.Secret(ctx, "ns", "ca")
	if err != nil || string(secret.Data["a"]) != "1" {
		t.Fatal(secret, err)
	}
	change := map[string][]byte{"a": nil, "c": []byte("3"), "absent": nil}
	if err := c.PatchSecret(ctx, "ns", "ca", secret.Version, change); err != nil {
		t.Fatal(err)
	}
	if err := c.PatchSecret(ctx, "ns", "ca", secret.Version, change); !errors.Is(err, kubeapi.ErrConflict) {
		t.Errorf("changing an older version: %v", err)
	}
	want := map[string][]byte{"b": []byte("2"), "c": []byte("3")}
	if diff := cmp.Diff(want, s.SecretData("ns", "ca")); diff != "" {
		t.Error(diff)
	}
}

func TestWebhooks(t *testing.T) {
	c, s := newClient()
	ctx := t.Context()
	s.PutWebhooks("config", "other/service", "ns/marble-injector")
	hooks, err := c.Webhooks(ctx, "config")
	if err != nil {
		t.Fatal(err)
	}
	want := []kubeapi.Webhook{{Name: "hook-0.cluster.local", Namespace: "other", Service: "service"},
		{Name: "hook-1.cluster.local", Namespace: "ns", Service: "marble-injector"}}
	if diff := cmp.Diff(want, hooks.Webhooks); diff != "" {
		t.Error(diff)
	}
	bundle := []byte(anotherCA(t))
	if err := c.PatchCABundle(ctx, "config", hooks.Version, []int{1}, bundle); err != nil {
		t.Fatal(err)
	}
	if err := c.PatchCABundle(ctx, "config", hooks.Version, []int{1}, bundle); !errors.Is(err, kubeapi.ErrConflict) {
		t.Errorf("changing an older version: %v", err)
	}
	if len(s.CABundle("config", 0)) != 0 || string(s.CABundle("config", 1)) != string(bundle) {
		t.Error("the wrong webhook was changed")
	}
}

func TestRefusals(t *testing.T) {
	answer := func(code int, body string) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Location", "https://elsewhere/")
			w.WriteHeader(code)
			_, err := w.WriteString(body)
			return w.Result(), err
		})
	}
	for _, c := range []struct {
		name      string
		transport http.RoundTripper
		is        error
		says      string
	}{
		{"status", answer(403, `{"kind":"Status","message":"no way"}`), kubeapi.ErrForbidden, "HTTP 403: no way"},
		{"token expired", answer(401, `{"message":"Unauthorized"}`), kubeapi.ErrForbidden, "HTTP 401"},
		{"no JSON", answer(500, `<html>`), nil, "HTTP 500: Internal Server Error"},
		{"redirect", answer(302, ``), nil, "HTTP 302"},
		{"too large", answer(200, strings.Repeat(" ", 5<<20)), nil, "larger than 4 MiB"},
		{"garbage", answer(200, `[]`), nil, "reading the answer"},
		{"unreachable", roundTripper(func(*http.Request) (*http.Response, error) { return nil, net.ErrClosed }),
			net.ErrClosed, "use of closed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := kubeapi.New("https://cluster", c.transport, token).Secret(t.Context(), "ns", "ca")
			if err == nil || !strings.Contains(err.Error(), c.says) || (c.is != nil && !errors.Is(err, c.is)) {
				t.Fatalf("error %v", err)
			}
			if !strings.HasPrefix(err.Error(), "GET /api/v1/namespaces/ns/secrets/ca: ") {
				t.Errorf("%q does not say what was done", err)
			}
			if strings.Contains(err.Error(), apitest.Token) {
				t.Error("the token is in the error")
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestNamesAreOnePathSegmentEach(t *testing.T) {
	var asked string
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.RequestURI()
		return nil, net.ErrClosed
	})
	_, err := kubeapi.New("https://cluster", transport, token).Secret(t.Context(), "ns/../x", "a?b")
	if want := "/api/v1/namespaces/ns%2F..%2Fx/secrets/a%3Fb"; asked != want || !errors.Is(err, net.ErrClosed) {
		t.Errorf("asked for %s, want %s; error %v", asked, want, err)
	}
}

// apiServer serves TLS on loopback.
func apiServer(t *testing.T, h http.Handler) *httptest.Server {
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	return server
}

func anotherCA(t *testing.T) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestInCluster(t *testing.T) {
	s := apitest.New()
	server := apiServer(t, s)
	host, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
	getenv := func(name string) string { return env[name] }
	folder := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := kubeapi.InCluster(func(string) string { return "" }, folder); err == nil {
		t.Error("no error outside of a cluster")
	}
	_, _, err = kubeapi.InCluster(getenv, folder)
	if err == nil || !strings.Contains(err.Error(), "automountServiceAccountToken") {
		t.Errorf("without a service account: %v", err)
	}
	write("namespace", "marblerun")
	c, namespace, err := kubeapi.InCluster(getenv, folder)
	if err != nil || namespace != "marblerun" {
		t.Fatal(namespace, err)
	}
	try := func() error { _, err := c.Secret(context.Background(), namespace, "ca"); return err }
	write("token", "stale\n")
	if err := try(); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("without a CA: %v", err)
	}
	write("ca.crt", "no certificate")
	if err := try(); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Errorf("with a broken CA: %v", err)
	}
	write("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	if err := try(); !errors.Is(err, kubeapi.ErrForbidden) {
		t.Errorf("with a stale token: %v", err)
	}
	write("token", apitest.Token+"\n") // replaced by the kubelet
	if err := try(); !errors.Is(err, kubeapi.ErrNotFound) {
		t.Errorf("with everything: %v", err)
	}
	write("ca.crt", anotherCA(t))
	if err := try(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with another CA: %v", err)
	}
}
