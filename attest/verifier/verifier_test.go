// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
	"github.com/marblerun/marblerun/attest/verifier"
)

// handler answers requests without a network, so that tests can run in a synctest bubble.
type handler struct{ http.Handler }

func (h handler) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result(), nil
}

// world is a software TEE, its collateral service and a verifier that trusts it.
type world struct {
	platform *softtee.Platform
	server   *server.Server
	*verifier.Verifier
}

func newWorld(t testing.TB, change func(*verifier.Config)) world {
	t.Helper()
	p, err := softtee.New(softtee.Options{Seed: []byte("a seed for tests of the verifier")})
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(p)
	roots := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Root().Raw})
	cfg := verifier.Config{PCCS: []string{"http://pccs/sgx/certification/v4/"}, KDS: "http://kds",
		Client: &http.Client{Transport: handler{s}}, SoftwareRoots: roots}
	if change != nil {
		change(&cfg)
	}
	return build(t, p, s, cfg)
}

// newFullWorld trusts the AMD-like roots as well, whose keys take a second to make.
func newFullWorld(t testing.TB) world {
	t.Helper()
	w := newWorld(t, nil)
	roots, err := w.platform.RootsPEM()
	if err != nil {
		t.Fatal(err)
	}
	return build(t, w.platform, w.server, verifier.Config{PCCS: []string{"http://pccs"}, KDS: "http://kds",
		Client: &http.Client{Transport: handler{w.server}}, SoftwareRoots: roots})
}

func build(t testing.TB, p *softtee.Platform, s *server.Server, cfg verifier.Config) world {
	t.Helper()
	v, err := verifier.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return world{p, s, v}
}

func (w world) evidence(t testing.TB, r softtee.Request) []byte {
	t.Helper()
	if r.Machine.Name == "" {
		r.Machine.Name = "m"
	}
	raw, err := w.platform.Evidence(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (w world) requests() (n int) {
	for _, hits := range w.server.Hits() {
		n += hits
	}
	return n
}

func softwareIDs(c *attest.Claims) (ids []string) {
	for _, id := range c.Collateral {
		if strings.HasPrefix(id, "root:software:") {
			ids = append(ids, id)
		}
	}
	return ids
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	refusal := &attest.Refusal{}
	if !errors.As(err, &refusal) || !refusal.HasCode(code) {
		t.Errorf("want a refusal with code %s, got %v", code, err)
	}
}

// TestKinds: evidence of every kind is verified, and its claims say that a software root vouches.
func TestKinds(t *testing.T) {
	w := newFullWorld(t)
	for _, kind := range softtee.Kinds() {
		claims, err := w.Verify(t.Context(), w.evidence(t, softtee.Request{Kind: kind, ReportData: [64]byte{1, 2}}))
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if claims.TEE != kind.TEE() || claims.TCBStatus != attest.UpToDate || claims.ReportData != [64]byte{1, 2} {
			t.Errorf("%s: wrong claims %+v", kind, claims)
		}
		if ids := softwareIDs(claims); len(ids) != 1 {
			t.Errorf("%s: claims name the software roots %v, want one", kind, ids)
		}
	}
	notes := w.Notes()
	if len(notes) != 4 || !strings.Contains(notes[0], "software TEE (root sha256:") {
		t.Errorf("notes %q, want one for each root", notes)
	}
}

// TestSoftwareRootIsNoDefault: without the root nothing of a software TEE is believed, and its service is not even asked.
func TestSoftwareRootIsNoDefault(t *testing.T) {
	w := newWorld(t, func(c *verifier.Config) { c.SoftwareRoots = nil })
	for _, kind := range softtee.Kinds() {
		_, err := w.Verify(t.Context(), w.evidence(t, softtee.Request{Kind: kind}))
		code := attest.CodeUntrustedRoot
		if kind.TEE() == attest.SNP {
			code = snp.CodeRoot
		}
		wantCode(t, err, code)
	}
	if w.requests() != 0 {
		t.Errorf("evidence of strangers caused requests: %v", w.server.Hits())
	}
	if notes := w.Notes(); len(notes) != 0 {
		t.Errorf("notes %q of a verifier that trusts the vendors only", notes)
	}
}

// TestStrangersCauseNoRequests: evidence that is tampered with is refused before a service is asked.
func TestStrangersCauseNoRequests(t *testing.T) {
	w := newWorld(t, nil)
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5} {
		for _, part := range []softtee.Part{softtee.PartQEReport, softtee.PartQuote} {
			raw := w.evidence(t, softtee.Request{Kind: kind})
			if part == softtee.PartQuote {
				raw[16+60] ^= 1 // in the body
			} else {
				raw = w.evidence(t, softtee.Request{Kind: kind, Tamper: func(p softtee.Part, b []byte) []byte {
					if p == softtee.PartAttestKey {
						b[5] ^= 1
					}
					return b
				}})
			}
			if _, err := w.Verify(t.Context(), raw); err == nil || errors.Is(err, verifier.ErrUnavailable) {
				t.Errorf("%s %s: want refusal, got %v", kind, part, err)
			}
		}
	}
	if w.requests() != 0 {
		t.Errorf("requests: %v", w.server.Hits())
	}
	for _, raw := range [][]byte{nil, {1, 2, 3}, make([]byte, attest.MaxEvidence+1)} {
		_, err := w.Verify(t.Context(), raw)
		wantCode(t, err, attest.CodeQuoteFormat)
	}
}

// TestUnavailable: without collateral the answer is neither yes nor no.
func TestUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		raw := w.evidence(t, softtee.Request{Kind: softtee.SGXv3})
		w.server.SetFaults(server.Faults{Outage: true})
		claims, err := w.Verify(t.Context(), raw)
		refusal := &attest.Refusal{}
		if claims != nil || !errors.Is(err, verifier.ErrUnavailable) || errors.As(err, &refusal) {
			t.Errorf("outage: claims %v, error %v; want unavailable", claims, err)
		}
		w.server.SetFaults(server.Faults{})
		time.Sleep(10 * time.Minute)
		if _, err := w.Verify(t.Context(), raw); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		if got := w.Stats(); got.Unavailable != 1 || got.Verified != 1 {
			t.Errorf("stats %+v", got)
		}
	})
}

// TestUnknownPlatform: a genuine platform that the services know nothing of is refused.
func TestUnknownPlatform(t *testing.T) {
	w := newWorld(t, func(c *verifier.Config) { c.Client = &http.Client{Transport: handler{http.NotFoundHandler()}} })
	_, err := w.Verify(t.Context(), w.evidence(t, softtee.Request{Kind: softtee.SGXv3}))
	wantCode(t, err, attest.CodeCollateral)
}

// TestFleet: a thousand Marbles on ten machines cost ten PCK chains, one collateral and four requests.
func TestFleet(t *testing.T) {
	w := newWorld(t, nil)
	var wg sync.WaitGroup
	for machine := range 10 {
		wg.Go(func() {
			for marble := range 100 {
				var data [64]byte
				binary.BigEndian.PutUint32(data[:], uint32(machine*100+marble))
				raw := w.evidence(t, softtee.Request{Kind: softtee.SGXv3, ReportData: data,
					Machine: softtee.Machine{Name: fmt.Sprint("machine ", machine)}})
				claims, err := w.Verify(t.Context(), raw)
				if err != nil || claims.ReportData != data {
					t.Errorf("machine %d marble %d: %v", machine, marble, err)
					return
				}
			}
		})
	}
	wg.Wait()
	// Only successes are remembered and nothing was evicted, so entries count the verifications of chains.
	if got := w.Stats(); got.Verified != 1000 || got.Chains != 11 {
		t.Errorf("stats %+v, want 1000 verified with 11 chains and collaterals", got)
	}
	if w.requests() != 4 {
		t.Errorf("%d requests, want 4: %v", w.requests(), w.server.Hits())
	}
}

// TestRevocationArrives: a machine that gets revoked is refused once the CRL is refreshed, chain cache or not.
func TestRevocationArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go w.Run(ctx)
		raw := w.evidence(t, softtee.Request{Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "m"}})
		if _, err := w.Verify(ctx, raw); err != nil {
			t.Fatal(err)
		}
		w.platform.Configure(func(s *softtee.Settings) { s.RevokedMachines = []string{"m"} })
		time.Sleep(25 * time.Hour)
		_, err := w.Verify(ctx, raw)
		wantCode(t, err, attest.CodeRevoked)
	})
}

// TestBadCollateralHeals: collateral that is tampered with is refused, and asked for anew by itself.
func TestBadCollateralHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.platform.Configure(func(s *softtee.Settings) {
			s.Tamper = func(part softtee.Part, b []byte) []byte {
				if part == softtee.PartPCKCRL {
					b[len(b)-1] ^= 1
				}
				return b
			}
		})
		raw := w.evidence(t, softtee.Request{Kind: softtee.SGXv3})
		_, err := w.Verify(t.Context(), raw)
		wantCode(t, err, attest.CodePCKCRL)
		for range 100 { // strangers cannot make it ask again and again
			_, err = w.Verify(t.Context(), raw)
			wantCode(t, err, attest.CodePCKCRL)
		}
		if w.requests() > 8 {
			t.Errorf("%d requests, want at most 8", w.requests())
		}
		w.platform.Configure(func(s *softtee.Settings) { s.Tamper = nil })
		time.Sleep(2 * time.Minute)
		if _, err := w.Verify(t.Context(), raw); err != nil {
			t.Errorf("after the service is repaired: %v", err)
		}
	})
}

// TestBadCRLHeals: a list of AMD's that is tampered with and claims to be new does not stay.
func TestBadCRLHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFullWorld(t)
		evidence, err := attest.Parse(w.evidence(t, softtee.Request{Kind: softtee.SNPv3}))
		if err != nil {
			t.Fatal(err)
		}
		tamper := func(part softtee.Part, b []byte) []byte {
			if part == softtee.PartAMDCRL {
				b[len(b)-1] ^= 1
			}
			return b
		}
		w.platform.Configure(func(s *softtee.Settings) { s.Tamper = tamper })
		for range 100 {
			_, err := w.Verify(t.Context(), evidence.Quote)
			wantCode(t, err, snp.CodeCRL)
		}
		if w.requests() > 6 {
			t.Errorf("%d requests, want at most 6: %v", w.requests(), w.server.Hits())
		}
		w.platform.Configure(func(s *softtee.Settings) { s.Tamper, s.Age = nil, 2*time.Hour }) // older than the bad one
		time.Sleep(2 * time.Minute)
		if _, err := w.Verify(t.Context(), evidence.Quote); err != nil {
			t.Errorf("after the service is repaired: %v", err)
		}
	})
}

// TestEarly: a machine that a TCB recovery will leave behind is reported once, and its verdict stays.
func TestEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []verifier.EarlyChange
		var log bytes.Buffer
		w := newWorld(t, func(c *verifier.Config) {
			c.WatchEarly, c.OnEarlyChange = true, func(e verifier.EarlyChange) { changes = append(changes, e) }
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		for range 5 {
			claims, err := w.Verify(ctx, w.evidence(t, softtee.Request{Kind: softtee.TDXv5}))
			if err != nil || claims.TCBStatus != attest.UpToDate {
				t.Fatalf("verdict under the standard data: %v %v", claims, err)
			}
			synctest.Wait()
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(changes) != 1 || changes[0].Status != attest.UpToDate || changes[0].EarlyStatus != attest.OutOfDate ||
			changes[0].EarlyEvaluationNumber != changes[0].EvaluationNumber+1 {
			t.Errorf("changes %+v, want one from UpToDate to OutOfDate", changes)
		}
		if !strings.Contains(log.String(), "earlyStatus=OutOfDate") {
			t.Errorf("no warning in the log: %s", log.String())
		}
	})
}

// TestOffline: a bundle made of evidence is enough to verify it, and expired collateral is refused.
func TestOffline(t *testing.T) {
	w := newWorld(t, nil)
	raw := w.evidence(t, softtee.Request{Kind: softtee.SGXv3})
	f, err := collateral.New(collateral.Config{PCCS: []string{"http://pccs"}, Client: &http.Client{Transport: handler{w.server}}})
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := attest.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	need, err := dcap.Needs(evidence.Quote)
	if err != nil {
		t.Fatal(err)
	}
	b, err := f.Bundle(t.Context(), []collateral.DCAPNeed{{Need: need}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bundle.json")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.Export(file), file.Close()); err != nil {
		t.Fatal(err)
	}
	late := false
	off := newWorld(t, func(c *verifier.Config) {
		c.BundlePath, c.Client = path, nil
		c.Now = func() time.Time {
			if late {
				return time.Now().Add(31 * 24 * time.Hour)
			}
			return time.Now()
		}
	})
	if _, err := off.Verify(t.Context(), raw); err != nil {
		t.Error(err)
	}
	late = true
	_, err = off.Verify(t.Context(), raw)
	wantCode(t, err, attest.CodeExpired)
	_, err = off.Verify(t.Context(), off.evidence(t, softtee.Request{Kind: softtee.TDXv4}))
	wantCode(t, err, attest.CodeCollateral)
}

// TestVectors: evidence of real hardware is verified offline by its collateral.json, also with a software root around.
func TestVectors(t *testing.T) {
	dir := sharedVectors(t)
	name := "tdx-v4-00806F050000-00b2526a-eval21-20260612"
	quote, err := os.ReadFile(filepath.Join(dir, "dcap", name, "quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	var expect struct{ Time int64 }
	data, err := os.ReadFile(filepath.Join(dir, "dcap", name, "expect.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &expect); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *verifier.Config) {
		c.BundlePath = filepath.Join(dir, "dcap", name, "collateral.json")
		c.Now = func() time.Time { return time.Unix(expect.Time, 0) }
	})
	for _, raw := range [][]byte{quote, attest.WrapQuote(quote)} {
		claims, err := w.Verify(t.Context(), raw)
		if err != nil {
			t.Fatal(err)
		}
		if claims.TCBStatus != attest.OutOfDate || len(softwareIDs(claims)) != 0 {
			t.Errorf("status %s, software roots %v", claims.TCBStatus, softwareIDs(claims))
		}
	}
}

// TestSNPVectors: a real VLEK report with its certificate verifies by the built-in chain; the CRL is missing.
func TestSNPVectors(t *testing.T) {
	dir := filepath.Join(sharedVectors(t), "snp", "genoa-vcek-ms")
	report, err := os.ReadFile(filepath.Join(dir, "report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	vek, err := os.ReadFile(filepath.Join(dir, "vek.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(vek)
	raw := attest.WrapSNP(report, snp.CertTable{VCEK: block.Bytes}.Marshal())
	b, err := collateral.Import(strings.NewReader(`{"format":"marblerun-collateral","version":1}`))
	if err != nil {
		t.Fatal(err)
	}
	strict := newWorld(t, func(c *verifier.Config) { c.Source = b })
	_, err = strict.Verify(t.Context(), raw)
	wantCode(t, err, snp.CodeCRL)
	lax := newWorld(t, func(c *verifier.Config) { c.Source, c.AllowMissingCRLs = b, true })
	claims, err := lax.Verify(t.Context(), raw)
	if err != nil || claims.SNP.Product != "Genoa" || len(softwareIDs(claims)) != 0 {
		t.Errorf("claims %+v, error %v", claims, err)
	}
	if !slices.ContainsFunc(lax.Notes(), func(n string) bool { return strings.Contains(n, "revocation") }) {
		t.Errorf("notes %q do not say that CRLs may be missing", lax.Notes())
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, ark := snp.AMDChain(snp.Milan, snp.VCEK)
	for name, cfg := range map[string]verifier.Config{
		"roots not PEM":     {SoftwareRoots: []byte("root")},
		"AMD's own root":    {SoftwareRoots: ark},
		"no bundle":         {BundlePath: filepath.Join(dir, "missing")},
		"broken bundle":     {BundlePath: write("bundle", "{}")},
		"no QCNL file":      {QCNLPath: filepath.Join(dir, "missing")},
		"broken QCNL file":  {QCNLPath: write("broken.conf", `{"pccs_url": 1}`)},
		"PCCS is not a URL": {PCCS: []string{"pccs:8081"}},
		"KDS is not a URL":  {KDS: "ftp://kds"},
	} {
		if _, err := verifier.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w := newWorld(t, func(c *verifier.Config) {
		c.PCCS, c.QCNLPath = nil, write("ok.conf", `{"pccs_url": "http://pccs/sgx/certification/v4/"} // mine`)
	})
	if _, err := w.Verify(t.Context(), w.evidence(t, softtee.Request{Kind: softtee.SGXv4})); err != nil {
		t.Errorf("by the service of the QCNL file: %v", err)
	}
}

// sharedVectors finds ../shared/vectors seen from the module's root, or skips.
func sharedVectors(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for filepath.Dir(dir) != dir {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(dir, "..", "shared", "vectors")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: no vectors: %v", err)
	}
	return dir
}
