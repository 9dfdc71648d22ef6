// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi/apitest"
)

const (
	configName = "marble-injector-ns"
	secretName = "marble-injector-ca"
	day        = 24 * time.Hour
)

// counted is an Observer.
type counted struct {
	certificates, failures atomic.Int64
	ca                     atomic.Pointer[time.Time]
}

func (c *counted) Certificate(_, ca time.Time) { c.certificates.Add(1); c.ca.Store(&ca) }
func (c *counted) CertificateFailed()          { c.failures.Add(1) }

// world is a cluster with a clock.
type world struct {
	now  time.Time
	api  *apitest.Server
	away atomic.Bool // the API server cannot be reached
	seen counted
	log  bytes.Buffer
}

func newWorld() *world {
	w := &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), api: apitest.New()}
	w.api.PutWebhooks(configName, "ns/marble-injector")
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.away.Load() {
		return nil, errors.New("no route to host")
	}
	return w.api.RoundTrip(r)
}

func (w *world) replica() *Managed {
	return NewManaged(ManagedConfig{
		Cluster:   kubeapi.New("https://api", w, func() (string, error) { return apitest.Token, nil }),
		Namespace: "ns", Secret: secretName, Webhooks: configName, Service: "marble-injector", ClusterDomain: "cluster.local",
		ServingLife: 30 * day, CALife: 360 * day, Now: func() time.Time { return w.now },
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Observer: &w.seen,
	})
}

func (w *world) sync(t *testing.T, replicas ...*Managed) {
	t.Helper()
	for _, m := range replicas {
		if err := m.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// trusts is what the API server does at a call: verify the certificate against the CA bundle for the Service's name.
func (w *world) trusts(m *Managed) error {
	c := m.Certificate()
	if c == nil {
		return errors.New("no certificate")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.api.CABundle(configName, 0))
	_, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: w.now, DNSName: "marble-injector.ns.svc"})
	return err
}

func (w *world) mustTrust(t *testing.T, replicas ...*Managed) {
	t.Helper()
	for _, m := range replicas {
		if err := w.trusts(m); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFirstStart(t *testing.T) {
	for name, prepare := range map[string]func(*world){
		"no Secret": func(*world) {},
		"an empty Secret": func(w *world) {
			w.api.Put(apitest.SecretPath("ns")+"/"+secretName, map[string]any{"type": "Opaque"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			prepare(w)
			m := w.replica()
			if m.Certificate() != nil {
				t.Error("a certificate before the first look")
			}
			w.sync(t, m)
			w.mustTrust(t, m)
			if n := w.api.Writes(); n != 2 {
				t.Errorf("%d writes, want Secret and bundle", n)
			}
			w.sync(t, m)
			if n := w.api.Writes(); n != 2 || w.seen.certificates.Load() != 1 {
				t.Errorf("%d writes, %d certificates after nothing has happened", n, w.seen.certificates.Load())
			}
			if ca := *w.seen.ca.Load(); !ca.Equal(w.now.Add(360 * day)) {
				t.Errorf("the CA expires %v", ca)
			}
		})
	}
}

func TestServingCertificate(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	leaf := m.Certificate().Leaf
	want := []string{"marble-injector.ns.svc", "marble-injector.ns", "marble-injector",
		"marble-injector.ns.svc.cluster.local"}
	if !slices.Equal(leaf.DNSNames, want) {
		t.Errorf("names %v", leaf.DNSNames)
	}
	if leaf.IsCA || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) ||
		leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.SerialNumber.Bytes()) != 16 {
		t.Error("not a plain serving certificate")
	}
	if life := leaf.NotAfter.Sub(w.now); life != 30*day {
		t.Errorf("lives %v", life)
	}
	if !leaf.NotBefore.Equal(w.now.Add(-5 * time.Minute)) {
		t.Errorf("valid from %v", leaf.NotBefore)
	}
}

func TestServingCertificateIsRenewedAfterTwoThirds(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	first := m.Certificate()
	w.now = w.now.Add(20*day - 10*time.Minute)
	w.sync(t, m)
	if m.Certificate() != first {
		t.Error("renewed before 2/3 of its life")
	}
	w.now = w.now.Add(10 * time.Minute)
	w.sync(t, m)
	if m.Certificate() == first {
		t.Error("not renewed after 2/3 of its life")
	}
	w.mustTrust(t, m)
}

// The time line of docs/reference/injector.md.
func TestCARotation(t *testing.T) {
	w := newWorld()
	a, b := w.replica(), w.replica()
	w.sync(t, a, b)
	old := a.signer.cert
	bundleOf := func() int { return len(readCerts(w.api.CABundle(configName, 0))) }
	for _, step := range []struct {
		name    string
		at      time.Duration
		bundle  int
		rotated bool
	}{
		{"before 2/3", 239 * day, 1, false},
		{"after 2/3: the next one is trusted, too", 240 * day, 2, false},
		{"before 5/6", 299 * day, 2, false},
		{"after 5/6: the next one signs", 300*day + time.Hour, 2, true},
		{"before the end", 359 * day, 2, true},
		{"after the end: only the new one is left", 360*day + time.Hour, 1, true},
	} {
		w.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(step.at)
		w.sync(t, a)
		// The other replica has not looked yet, and still serves with what it has, as far as that is valid.
		if w.now.Before(b.Certificate().Leaf.NotAfter) {
			w.mustTrust(t, b)
		}
		w.sync(t, b, a)
		w.mustTrust(t, a, b)
		if bundleOf() != step.bundle {
			t.Errorf("%s: %d CAs in the bundle, want %d", step.name, bundleOf(), step.bundle)
		}
		if rotated := a.Certificate().Leaf.CheckSignatureFrom(old) != nil; rotated != step.rotated {
			t.Errorf("%s: another CA signed: %v", step.name, rotated)
		}
	}
	if data := w.api.SecretData("ns", secretName); data[nextKey] != nil || data[previousCerts] != nil {
		t.Error("the Secret still has the old CA")
	}
}

// When the next CA comes late, because nobody was there in time, it signs no sooner than all API servers can know it,
// whoever looks next.
func TestTheNextCAIsKnownBeforeItSigns(t *testing.T) {
	for _, life := range []time.Duration{3 * time.Minute, time.Hour, 360 * day} {
		w := newWorld()
		a, b := w.replica(), w.replica()
		for _, m := range []*Managed{a, b} {
			m.cfg.CALife, m.cfg.ServingLife = life, life/3
		}
		w.sync(t, a)
		old := a.signer.cert
		w.now = w.now.Add(life / 8 * 7)
		w.sync(t, a, b)
		w.now = w.now.Add(interval - time.Second)
		w.sync(t, b, a)
		if !a.signer.cert.Equal(old) || !b.signer.cert.Equal(old) {
			t.Errorf("life %v: the next CA signs before an interval is over", life)
		}
		w.now = w.now.Add(time.Second)
		w.sync(t, b, a)
		if a.signer.cert.Equal(old) || b.signer.cert.Equal(old) {
			t.Errorf("life %v: the next CA does not sign after an interval", life)
		}
		w.mustTrust(t, a, b)
	}
}

func TestNoRotationWithoutTrust(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	old := m.signer.cert
	w.api.Forbid = func(method, path string) bool {
		return method == http.MethodPatch && strings.Contains(path, "webhook")
	}
	for at := 240 * day; at < 360*day; at += 10 * day {
		w.now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(at)
		err := m.Sync(t.Context())
		if err == nil || !strings.Contains(err.Error(), "get and patch on the Secret ns/marble-injector-ca") {
			t.Fatalf("error %v", err)
		}
		w.mustTrust(t, m)
		if m.Certificate().Leaf.CheckSignatureFrom(old) != nil {
			t.Fatal("serves with a CA that nobody trusts")
		}
		if kept, err := readStore(w.api.SecretData("ns", secretName)); err != nil || !kept.current.cert.Equal(old) {
			t.Fatal("a CA that nobody trusts signs now", err)
		}
		fresh := w.replica() // a restart in between is no harm
		_ = fresh.Sync(t.Context())
		w.mustTrust(t, fresh)
	}
}

func TestReplicasThatStartTogetherAgree(t *testing.T) {
	w := newWorld()
	a, b := w.replica(), w.replica()
	between := false
	w.api.Before = func(method, path string) {
		if method == http.MethodPost && !between {
			between = true // b is faster
			w.sync(t, b)
		}
	}
	w.sync(t, a)
	if !between || !a.signer.cert.Equal(b.signer.cert) {
		t.Error("two CAs")
	}
	w.mustTrust(t, a, b)
}

func TestRotationByTwoAtOnce(t *testing.T) {
	for _, where := range []string{"secrets", "mutatingwebhookconfigurations"} {
		t.Run(where, func(t *testing.T) {
			w := newWorld()
			a, b := w.replica(), w.replica()
			w.sync(t, a, b)
			w.now = w.now.Add(241 * day)
			between := 0
			w.api.Before = func(method, path string) {
				if method == http.MethodPatch && strings.Contains(path, where) && between == 0 {
					between++
					w.sync(t, b)
				}
			}
			w.sync(t, a)
			w.mustTrust(t, a, b)
			s, err := readStore(w.api.SecretData("ns", secretName))
			if between != 1 || err != nil || !bytes.Equal(s.bundle(), w.api.CABundle(configName, 0)) {
				t.Errorf("Secret and bundle differ; error %v", err)
			}
		})
	}
}
