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
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi/apitest"
	"pgregory.net/rapid"
)

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
	w.away.Store(true)
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
		replica := func() *Managed {
			m := w.replica()
			m.cfg.CALife = 120 * day
			return m
		}
		replicas := []*Managed{replica(), replica(), replica()}
		w.sync(t, replicas...)
		start := w.now
		for w.now.Sub(start) < 150*day {
			w.now = w.now.Add(time.Duration(rapid.IntRange(12, 24*10).Draw(rt, "hours")) * time.Hour)
			i := rapid.IntRange(0, len(replicas)-1).Draw(rt, "who")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				replicas[i] = replica() // restarted
			case 1:
				w.away.Store(true)
				_ = replicas[i].Sync(t.Context())
				w.away.Store(false)
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
		m.cfg.Now, m.cfg.ServingLife, m.cfg.CALife = time.Now, 15*time.Minute, 90*time.Minute
		m.cfg.Log = slog.New(slog.DiscardHandler)
		w.away.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		go m.Run(ctx)
		time.Sleep(4 * time.Second) // tries after 0, 1 and 3 seconds
		synctest.Wait()
		if n := w.seen.failures.Load(); n != 3 {
			t.Errorf("%d failures, want 3", n)
		}
		w.away.Store(false)
		time.Sleep(4 * time.Second)
		for range 20 {
			synctest.Wait()
			w.now = time.Now()
			w.mustTrust(t, m)
			time.Sleep(15 * time.Minute)
		}
		// 5 hours of certificates that are renewed every 10 minutes, and a few changes of CA.
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
	if err != nil || !again.current.key.Equal(s.current.key) || !again.next.key.Equal(s.next.key) ||
		len(again.previous) != 2 || !bytes.Equal(again.bundle(), s.bundle()) {
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
