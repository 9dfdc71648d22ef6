// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

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
	away bool // the API server cannot be reached
	seen counted
	log  bytes.Buffer
}

func newWorld() *world {
	w := &world{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), api: apitest.New()}
	w.api.PutWebhooks(configName, "ns/marble-injector")
	return w
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.away {
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
		"no Secret":       func(*world) {},
		"an empty Secret": func(w *world) { w.api.Put(apitest.SecretPath("ns")+"/"+secretName, map[string]any{"type": "Opaque"}) },
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
	want := []string{"marble-injector.ns.svc", "marble-injector.ns", "marble-injector", "marble-injector.ns.svc.cluster.local"}
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

func TestNoRotationWithoutTrust(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	old := m.signer.cert
	w.api.Forbid = func(method, path string) bool { return method == http.MethodPatch && strings.Contains(path, "webhook") }
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

func TestABundleThatWasResetIsRestored(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	w.api.PutWebhooks(configName, "other/marble-injector", "ns/marble-injector", "ns/other", "ns/marble-injector")
	w.sync(t, m)
	for i, want := range []bool{false, true, false, true} {
		if got := len(w.api.CABundle(configName, i)) > 0; got != want {
			t.Errorf("webhook %d has a bundle: %v, want %v", i, got, want)
		}
	}
}

func TestWithoutWebhookConfiguration(t *testing.T) {
	w := newWorld()
	w.api.Delete(apitest.WebhookPath + "/" + configName)
	m := w.replica()
	w.sync(t, m, m, m)
	if m.Certificate() == nil {
		t.Error("no certificate, so the Pod would never be ready")
	}
	if n := strings.Count(w.log.String(), "No webhook calls this injector yet"); n != 1 {
		t.Errorf("told %d times", n)
	}
	w.api.PutWebhooks(configName, "ns/marble-injector")
	w.sync(t, m)
	w.mustTrust(t, m)
}

func TestABrokenSecretIsReplaced(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	good := w.api.SecretData("ns", secretName)
	other, err := newAuthority(w.now, day)
	if err != nil {
		t.Fatal(err)
	}
	otherKey, err := other.keyPEM()
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := other.issue(w.now, day, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]map[string]any{
		"nothing":        {},
		"garbage":        {currentCert: []byte("x"), currentKey: []byte("y")},
		"no key":         {currentCert: good[currentCert]},
		"another key":    {currentCert: good[currentCert], currentKey: otherKey},
		"no CA":          {currentCert: certPEM(leaf.Leaf), currentKey: otherKey},
		"garbage beside": {currentCert: good[currentCert], currentKey: good[currentKey], nextKey: []byte("y")},
	} {
		t.Run(name, func(t *testing.T) {
			w.api.Put(apitest.SecretPath("ns")+"/"+secretName, map[string]any{"data": data})
			w.sync(t, m)
			w.mustTrust(t, m)
			if _, err := readStore(w.api.SecretData("ns", secretName)); err != nil {
				t.Error(err)
			}
			fresh := w.replica()
			w.sync(t, fresh)
			w.mustTrust(t, m, fresh)
		})
	}
	for _, key := range [][]byte{good[currentKey], otherKey} {
		if strings.Contains(w.log.String(), strings.Split(string(key), "\n")[1]) {
			t.Error("a key is in the log")
		}
	}
}

func TestRenewalWhileTheAPIServerIsAway(t *testing.T) {
	w := newWorld()
	m := w.replica()
	w.sync(t, m)
	w.away = true
	for range 30 { // 300 days
		w.now = w.now.Add(10 * day)
		if err := m.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "no route to host") {
			t.Fatalf("error %v", err)
		}
		w.mustTrust(t, m)
	}
}

func TestForbiddenAtFirst(t *testing.T) {
	w := newWorld()
	forbidden := true
	w.api.Forbid = func(string, string) bool { return forbidden }
	m := w.replica()
	if err := m.Sync(t.Context()); !errors.Is(err, kubeapi.ErrForbidden) || m.Certificate() != nil {
		t.Errorf("error %v", err)
	}
	forbidden = false
	w.sync(t, m)
	w.mustTrust(t, m)
}

// Whatever happens in which order, every replica with a certificate that has not expired is trusted.
func TestTrustAtAllTimes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld()
		replicas := []*Managed{w.replica(), w.replica(), w.replica()}
		w.sync(t, replicas...)
		start := w.now
		for w.now.Sub(start) < 450*day {
			w.now = w.now.Add(time.Duration(rapid.IntRange(1, 24*20).Draw(rt, "hours")) * time.Hour)
			i := rapid.IntRange(0, len(replicas)-1).Draw(rt, "who")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				replicas[i] = w.replica() // restarted
			case 1:
				w.away = true
				_ = replicas[i].Sync(t.Context())
				w.away = false
			}
			// Sync of one between the requests of another.
			nested := rapid.IntRange(0, 6).Draw(rt, "between")
			w.api.Before = func(string, string) {
				if nested--; nested == 0 {
					w.sync(t, replicas[(i+1)%len(replicas)])
				}
			}
			w.sync(t, replicas[i])
			w.api.Before = nil
			for _, m := range replicas { // those that have not looked since, too
				if c := m.Certificate(); c == nil || w.now.After(c.Leaf.NotAfter) {
					w.sync(t, m)
				}
				if err := w.trusts(m); err != nil {
					rt.Fatalf("after %v: %v", w.now.Sub(start), err)
				}
			}
		}
	})
}

func TestRunLooksAfterItAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		m := w.replica()
		m.cfg.Now, m.cfg.ServingLife, m.cfg.CALife = time.Now, time.Hour, 6*time.Hour
		m.cfg.Log = slog.New(slog.DiscardHandler)
		w.away = true
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		time.Sleep(4 * time.Second) // tries after 0, 1 and 3 seconds
		synctest.Wait()
		if n := w.seen.failures.Load(); n != 3 {
			t.Errorf("%d failures, want 3", n)
		}
		w.away = false
		time.Sleep(4 * time.Second)
		for range 20 {
			synctest.Wait()
			w.now = time.Now()
			w.mustTrust(t, m)
			time.Sleep(time.Hour)
		}
		// 20 hours of certificates that live an hour and are renewed every 40 minutes, and a few changes of CA.
		if n := w.seen.certificates.Load(); n < 30 || n > 36 {
			t.Errorf("%d certificates", n)
		}
		cancel()
		synctest.Wait() // Run has ended, or synctest would complain
	})
}

func TestTheStoreKeepsWhatItHolds(t *testing.T) {
	now := time.Now()
	make := func() *authority {
		a, err := newAuthority(now, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	s := store{current: make(), next: make(), previous: []*x509.Certificate{make().cert, make().cert}}
	data, err := s.data()
	if err != nil {
		t.Fatal(err)
	}
	again, err := readStore(data)
	if err != nil || !again.current.key.Equal(s.current.key) || !again.next.key.Equal(s.next.key) || len(again.previous) != 2 ||
		!bytes.Equal(again.bundle(), s.bundle()) {
		t.Error("the store came back changed", err)
	}
	if got := fmt.Sprint(len(readCerts(s.bundle()))); got != "4" {
		t.Errorf("%s certificates in the bundle", got)
	}
}

func FuzzStore(f *testing.F) {
	a, err := newAuthority(time.Now(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	key, err := a.keyPEM()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(certPEM(a.cert), key, certPEM(a.cert))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{}, []byte("x"))
	f.Fuzz(func(t *testing.T, cert, key, previous []byte) {
		s, err := readStore(map[string][]byte{currentCert: cert, currentKey: key, previousCerts: previous})
		if (s.current == nil) != (err != nil) && len(cert)+len(key) > 0 {
			t.Errorf("CA %v with error %v", s.current, err)
		}
		if s.current != nil && !s.current.cert.IsCA {
			t.Error("a CA that is none")
		}
	})
}
