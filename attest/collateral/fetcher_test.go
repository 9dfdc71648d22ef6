// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral_test

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
)

// network sends requests to handlers by host, without a network, so that tests can run in a synctest bubble.
type network map[string]http.Handler

func (n network) RoundTrip(r *http.Request) (*http.Response, error) {
	h, ok := n[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

func (n network) client() *http.Client { return &http.Client{Transport: n} }

func newPlatform(t testing.TB) *softtee.Platform {
	t.Helper()
	p, err := softtee.New(softtee.Options{Seed: []byte("a seed for tests of collateral")})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newFetcher(t testing.TB, c collateral.Config) *collateral.Fetcher {
	t.Helper()
	f, err := collateral.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// quoteAndNeed issues a quote.
func quoteAndNeed(t testing.TB, p *softtee.Platform, k softtee.Kind) ([]byte, collateral.DCAPNeed) {
	t.Helper()
	quote, err := p.Quote(softtee.Request{Kind: k, Machine: softtee.Machine{Name: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	need, err := dcap.Needs(quote)
	if err != nil {
		t.Fatal(err)
	}
	return quote, collateral.DCAPNeed{Need: need}
}

// verified checks that collateral is good for a quote now.
func verified(t testing.TB, p *softtee.Platform, quote []byte, col *dcap.Collateral, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	root, err := dcapRoots(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dcap.Verify(quote, col, dcap.Options{Roots: root, Time: time.Now()}); err != nil {
		t.Fatalf("fetched collateral does not verify: %v", err)
	}
}

func total(hits map[string]int) (n int) {
	for _, h := range hits {
		n += h
	}
	return n
}

func TestFetchFromPCCSAndPCS(t *testing.T) {
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5} {
		for _, ders := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s der=%v", kind, ders), func(t *testing.T) {
				p := newPlatform(t)
				s := server.New(p)
				s.SetFaults(server.Faults{DERCRLs: ders})
				real := httptest.NewServer(s)
				defer real.Close()
				f := newFetcher(t, collateral.Config{PCCS: []string{real.URL + "/sgx/certification/v4/"}})
				quote, need := quoteAndNeed(t, p, kind)
				for range 3 {
					col, err := f.DCAP(t.Context(), need)
					verified(t, p, quote, col, err)
				}
				if got := total(s.Hits()); got != 4 {
					t.Errorf("%d requests for three calls, want 4: %v", got, s.Hits())
				}
				want := collateral.Stats{Requests: 4, MemoryHits: 8}
				if diff := cmp.Diff(want, f.Stats()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestIntelPCS: Intel has the root CRL on another host.
func TestIntelPCS(t *testing.T) {
	p := newPlatform(t)
	s := server.New(p)
	net := network{"api.trustedservices.intel.com": s, "certificates.trustedservices.intel.com": s}
	f := newFetcher(t, collateral.Config{Client: net.client()})
	quote, need := quoteAndNeed(t, p, softtee.SGXv3)
	col, err := f.DCAP(t.Context(), need)
	verified(t, p, quote, col, err)
	if s.Hits()["/IntelSGXRootCA.der"] != 1 {
		t.Errorf("root CRL is not asked for at Intel's host: %v", s.Hits())
	}
}

func TestFailover(t *testing.T) {
	notFound := http.NotFoundHandler()
	for name, a := range map[string]http.Handler{
		"outage":    http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
		"unknown":   notFound,
		"nonsense":  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>login</html>") }),
		"too large": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 2<<20)) }),
		"down":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t)
			b := server.New(p)
			net := network{"b": b}
			if a != nil {
				net["a"] = a
			}
			f := newFetcher(t, collateral.Config{PCCS: []string{"http://a", "http://b"}, Client: net.client()})
			quote, need := quoteAndNeed(t, p, softtee.SGXv3)
			col, err := f.DCAP(t.Context(), need)
			verified(t, p, quote, col, err)
		})
	}
}

// TestMissingCRL: a service without a CRL is passed over; if none has it, verification refuses.
func TestMissingCRL(t *testing.T) {
	p := newPlatform(t)
	p.Configure(func(s *softtee.Settings) { s.NoPCKCRL = true })
	net := network{"a": server.New(p)}
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: net.client()})
	quote, need := quoteAndNeed(t, p, softtee.SGXv3)
	col, err := f.DCAP(t.Context(), need)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := dcapRoots(p)
	if err != nil {
		t.Fatal(err)
	}
	_, err = dcap.Verify(quote, col, dcap.Options{Roots: roots, Time: time.Now()})
	if refusal := (&attest.Refusal{}); !errors.As(err, &refusal) || !refusal.HasCode(attest.CodeCRLMissing) {
		t.Errorf("want refusal for the missing CRL, got %v", err)
	}
}

func TestUnknownAndWithdrawn(t *testing.T) {
	p := newPlatform(t)
	s := server.New(p)
	net := network{"a": s}
	_, need := quoteAndNeed(t, p, softtee.SGXv3)
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: net.client()})
	unknown := need
	unknown.FMSPC = "00906ED50000"
	for range 3 {
		_, err := f.DCAP(t.Context(), unknown)
		if !errors.Is(err, collateral.ErrUnknown) || errors.Is(err, collateral.ErrUnavailable) ||
			!strings.Contains(err.Error(), "00906ED50000") {
			t.Fatalf("want unknown FMSPC, got %v", err)
		}
	}
	if got := total(s.Hits()); got != 1 {
		t.Errorf("%d requests for an unknown FMSPC, want 1", got)
	}
	f = newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: net.client(), EvaluationNumber: 3})
	if _, err := f.DCAP(t.Context(), need); !errors.Is(err, collateral.ErrWithdrawn) {
		t.Errorf("want withdrawn, got %v", err)
	}
}

func TestThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		s := server.New(p)
		f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client()})
		quote, need := quoteAndNeed(t, p, softtee.SGXv3)
		s.SetFaults(server.Faults{Throttle: 1, RetryAfter: 7 * time.Second})
		start := time.Now()
		col, err := f.DCAP(t.Context(), need)
		verified(t, p, quote, col, err)
		if got := time.Since(start); got < 7*time.Second || got > 10*time.Second {
			t.Errorf("waited %v, want 7 s", got)
		}

		f = newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client()})
		s.SetFaults(server.Faults{Throttle: 1, RetryAfter: 10 * time.Minute})
		before := total(s.Hits())
		for range 3 {
			if _, err := f.DCAP(t.Context(), need); !errors.Is(err, collateral.ErrUnavailable) {
				t.Fatalf("want unavailable, got %v", err)
			}
			time.Sleep(3 * time.Minute)
		}
		if got := total(s.Hits()) - before; got != 1 {
			t.Errorf("%d requests while throttled, want 1", got)
		}
		time.Sleep(2 * time.Minute)
		col, err = f.DCAP(t.Context(), need)
		verified(t, p, quote, col, err)
	})
}

// TestBackoff: a host that fails is asked at growing intervals, at most every five minutes.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		s := server.New(p)
		s.SetFaults(server.Faults{Outage: true})
		f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client(), Retries: -1})
		_, need := quoteAndNeed(t, p, softtee.SGXv3)
		for range 2 * 60 * 60 {
			if _, err := f.DCAP(t.Context(), need); !errors.Is(err, collateral.ErrUnavailable) {
				t.Fatalf("want unavailable, got %v", err)
			}
			time.Sleep(time.Second)
		}
		if got := total(s.Hits()); got < 24 || got > 40 {
			t.Errorf("%d requests in two hours of outage, want about 30", got)
		}
	})
}

// TestRefreshInBackground: while Run runs, nobody waits for a refresh, and it comes before collateral expires.
func TestRefreshInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		s := server.New(p)
		f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client()})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.Run(ctx) }()
		synctest.Wait()
		quote, need := quoteAndNeed(t, p, softtee.SGXv3)
		for day := range 5 {
			before := total(s.Hits())
			col, err := f.DCAP(t.Context(), need)
			verified(t, p, quote, col, err)
			if got := total(s.Hits()) - before; day > 0 && got != 0 {
				t.Errorf("day %d: %d requests in the way of a verification", day, got)
			}
			time.Sleep(24*time.Hour + time.Minute)
		}
		if got := s.Hits()["/sgx/certification/v4/tcb"]; got < 5 || got > 8 {
			t.Errorf("TCB info was fetched %d times in five days, want 5 to 8", got)
		}
		// What nobody asks for is not kept fresh.
		time.Sleep(8 * 24 * time.Hour)
		idle := total(s.Hits())
		time.Sleep(5 * 24 * time.Hour)
		if got := total(s.Hits()); got != idle {
			t.Errorf("%d requests for idle items", got-idle)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestOutage: what is cached stays in use through an outage, but never past nextUpdate.
func TestOutage(t *testing.T) {
	for _, background := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPlatform(t)
			s := server.New(p)
			f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client(), Retries: -1})
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			if background {
				go f.Run(ctx)
			}
			quote, need := quoteAndNeed(t, p, softtee.SGXv3)
			col, err := f.DCAP(t.Context(), need)
			verified(t, p, quote, col, err)
			s.SetFaults(server.Faults{Outage: true})
			issued := time.Now().Add(-p.Settings().Age)
			for time.Since(issued) < p.Settings().Validity-time.Hour {
				col, err := f.DCAP(t.Context(), need)
				verified(t, p, quote, col, err)
				time.Sleep(5 * time.Hour)
			}
			time.Sleep(time.Until(issued.Add(p.Settings().Validity + time.Minute)))
			if _, err := f.DCAP(t.Context(), need); !errors.Is(err, collateral.ErrUnavailable) {
				t.Errorf("background=%v: collateral past nextUpdate: %v", background, err)
			}
			s.SetFaults(server.Faults{})
			time.Sleep(10 * time.Minute)
			col, err = f.DCAP(t.Context(), need)
			verified(t, p, quote, col, err)
		})
	}
}

// TestServedExpired: a service that serves expired collateral has none.
func TestServedExpired(t *testing.T) {
	p := newPlatform(t)
	p.Configure(func(s *softtee.Settings) { s.Age, s.Validity = 31*24*time.Hour, 30*24*time.Hour })
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": server.New(p)}.client(), Retries: -1})
	_, need := quoteAndNeed(t, p, softtee.SGXv3)
	_, err := f.DCAP(t.Context(), need)
	if !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), "expired") {
		t.Errorf("want unavailable since expired, got %v", err)
	}
}

// TestNoRollback: older data does not replace newer.
func TestNoRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": server.New(p)}.client()})
		_, need := quoteAndNeed(t, p, softtee.SGXv3)
		first, err := f.DCAP(t.Context(), need)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Hour)
		p.Configure(func(s *softtee.Settings) { s.Age = 10 * 24 * time.Hour })
		second, err := f.DCAP(t.Context(), need)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("older collateral replaced newer:\n%s", diff)
		}
		if got := f.Stats().Requests; got != 8 {
			t.Errorf("%d requests, want 8: the refresh did not happen", got)
		}
	})
}

func TestDiskCache(t *testing.T) {
	p := newPlatform(t)
	s := server.New(p)
	dir := filepath.Join(t.TempDir(), "cache")
	config := collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": s}.client(), Dir: dir, Retries: -1}
	quote, need := quoteAndNeed(t, p, softtee.SGXv3)
	col, err := newFetcher(t, config).DCAP(t.Context(), need)
	verified(t, p, quote, col, err)

	s.SetFaults(server.Faults{Outage: true})
	f := newFetcher(t, config)
	col, err = f.DCAP(t.Context(), need)
	verified(t, p, quote, col, err)
	if got := f.Stats(); got.DiskHits != 4 || got.Requests != 0 {
		t.Errorf("second instance: %+v, want four hits on disk and no request", got)
	}

	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("cache has %v (%v), want four files", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v (%v), want 0600", file, info.Mode(), err)
		}
		if err := os.WriteFile(file, []byte(`{"url":"broken`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newFetcher(t, config).DCAP(t.Context(), need); !errors.Is(err, collateral.ErrUnavailable) {
		t.Errorf("broken cache in an outage: want unavailable, got %v", err)
	}
	s.SetFaults(server.Faults{})
	col, err = newFetcher(t, config).DCAP(t.Context(), need)
	verified(t, p, quote, col, err)

	config.MaxFiles = 3
	_, tdx := quoteAndNeed(t, p, softtee.TDXv4)
	if _, err := newFetcher(t, config).DCAP(t.Context(), tdx); err != nil {
		t.Fatal(err)
	}
	if files, _ = filepath.Glob(filepath.Join(dir, "*")); len(files) != 3 {
		t.Errorf("%d files, the limit is 3", len(files))
	}
}

// TestSingleFlight: who needs the same at the same time waits for one request.
func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		s := server.New(p)
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			s.ServeHTTP(w, r)
		})
		f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, Client: network{"a": slow}.client()})
		_, need := quoteAndNeed(t, p, softtee.SGXv3)
		// A caller that gives up does not take the others along.
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.DCAP(impatient, need); !errors.Is(err, collateral.ErrUnavailable) {
				t.Errorf("impatient caller: %v", err)
			}
		})
		for range 50 {
			wg.Go(func() {
				if _, err := f.DCAP(t.Context(), need); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := total(s.Hits()); got != 4 {
			t.Errorf("%d requests, want 4", got)
		}
	})
}

// TestAdmit: nobody is asked for what is not admitted, and what is cached needs no admission.
func TestAdmit(t *testing.T) {
	p := newPlatform(t)
	s := server.New(p)
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a", "http://a"}, Client: network{"a": s}.client()})
	_, need := quoteAndNeed(t, p, softtee.SGXv3)
	no, asked := errors.New("no"), 0
	need.Admit = func() error { asked++; return no }
	if _, err := f.DCAP(t.Context(), need); err != no || asked != 1 || total(s.Hits()) != 0 {
		t.Errorf("got %v after %d questions and %d requests", err, asked, total(s.Hits()))
	}
	need.Admit = nil
	if _, err := f.DCAP(t.Context(), need); err != nil {
		t.Fatal(err)
	}
	need.Admit = func() error { return no }
	if _, err := f.DCAP(t.Context(), need); err != nil {
		t.Errorf("cached: %v", err)
	}
}

// TestDistrust: collateral that verification refused is asked for anew, of another service first.
func TestDistrust(t *testing.T) {
	bad, good := newPlatform(t), newPlatform(t)
	bad.Configure(func(s *softtee.Settings) {
		s.Tamper = func(part softtee.Part, b []byte) []byte {
			if part == softtee.PartRootCRL {
				b[len(b)-1] ^= 1
			}
			return b
		}
	})
	net := network{"a": server.New(bad), "b": server.New(good)}
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a", "http://b"}, Client: net.client()})
	quote, need := quoteAndNeed(t, good, softtee.SGXv3)
	col, err := f.DCAP(t.Context(), need)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := dcapRoots(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dcap.Verify(quote, col, dcap.Options{Roots: roots, Time: time.Now()}); err == nil {
		t.Fatal("tampered CRL is accepted")
	}
	if !f.Distrust(need) {
		t.Fatal("distrust has no effect")
	}
	if f.Distrust(need) {
		t.Error("distrust can be repeated at once")
	}
	col, err = f.DCAP(t.Context(), need)
	verified(t, good, quote, col, err)
}

func dcapRoots(p *softtee.Platform) (dcap.Roots, error) {
	key, ok := p.Root().PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the root key is not ECDSA")
	}
	return dcap.Roots{key}, nil
}

// snpNeed issues a report and tells its need; with table, the host's certificates are part of it.
func snpNeed(t testing.TB, p *softtee.Platform, m softtee.Machine, k softtee.Kind, table bool) ([]byte, collateral.SNPNeed) {
	t.Helper()
	report, certs, err := p.Report(softtee.Request{Kind: k, Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	needs, err := r.Needs()
	if err != nil {
		t.Fatal(err)
	}
	need := collateral.SNPNeed{Needs: needs}
	if table {
		need.Have = certs.Certificates(needs.Key)
	}
	return report, need
}

func verifiedSNP(t testing.TB, p *softtee.Platform, report []byte, certs snp.Certificates, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	roots, err := p.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snp.Verify(report, certs, snp.Options{Roots: roots, Time: time.Now()}); err != nil {
		t.Fatalf("fetched certificates do not verify: %v", err)
	}
}

func TestSNP(t *testing.T) {
	p := newPlatform(t)
	s := server.New(p)
	dir := t.TempDir()
	config := collateral.Config{KDS: "http://kds", Client: network{"kds": s}.client(), Dir: dir, Retries: -1}
	f := newFetcher(t, config)
	for _, k := range []softtee.Kind{softtee.SNPv2, softtee.SNPv3} {
		report, need := snpNeed(t, p, softtee.Machine{Name: "m", Product: snp.Milan}, k, false)
		certs, err := f.SNP(t.Context(), need)
		verifiedSNP(t, p, report, certs, err)
	}
	if got := total(s.Hits()); got != 3 {
		t.Errorf("%d requests for two reports of one chip, want 3 (VCEK, chain, CRL): %v", got, s.Hits())
	}
	s.SetFaults(server.Faults{Outage: true})
	report, need := snpNeed(t, p, softtee.Machine{Name: "m", Product: snp.Milan}, softtee.SNPv3, false)
	certs, err := newFetcher(t, config).SNP(t.Context(), need)
	verifiedSNP(t, p, report, certs, err)

	// With the host's table, an outage does not matter.
	report, need = snpNeed(t, p, softtee.Machine{Name: "vlek", Product: snp.Genoa, VLEK: true}, softtee.SNPv3, true)
	certs, err = f.SNP(t.Context(), need)
	verifiedSNP(t, p, report, certs, err)

	for _, m := range []softtee.Machine{{Name: "v", VLEK: true}, {Name: "m", MaskChip: true}} {
		_, need = snpNeed(t, p, m, softtee.SNPv3, false)
		if _, err := f.SNP(t.Context(), need); !errors.Is(err, collateral.ErrUnknown) {
			t.Errorf("%+v without certificates: want unknown, got %v", m, err)
		}
	}
}

// TestKDSPacing: AMD's service is asked at most three times at once and then every ten seconds.
func TestKDSPacing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlatform(t)
		var mu sync.Mutex
		var at []time.Duration
		start := time.Now()
		s := server.New(p)
		kds := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			at = append(at, time.Since(start))
			mu.Unlock()
			s.ServeHTTP(w, r)
		})
		f := newFetcher(t, collateral.Config{Client: network{"kdsintf.amd.com": kds}.client(), Retries: -1})
		for i := range 12 {
			_, need := snpNeed(t, p, softtee.Machine{Name: fmt.Sprint(i), Product: snp.Milan}, softtee.SNPv3, false)
			certs, err := f.SNP(t.Context(), need)
			if err != nil {
				t.Fatal(err)
			}
			if ask, _ := snp.AMDChain(snp.Milan, snp.VCEK); string(certs.ASK) != string(ask) || len(certs.VEK) == 0 {
				t.Error("want the VCEK from the service and the built-in chain")
			}
		}
		if len(at) != 13 {
			t.Errorf("%d requests, want 13: twelve VCEKs and a CRL", len(at))
		}
		for i := 3; i < len(at); i++ {
			if at[i]-at[i-3] < 10*time.Second {
				t.Errorf("requests %d to %d came within %v", i-3, i, at[i]-at[i-3])
			}
		}
	})
}
