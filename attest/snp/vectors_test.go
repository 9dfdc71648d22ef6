// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
)

// vectors finds ../shared/vectors/snp beside the module, or skips.
func vectors(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(dir, "..", "shared", "vectors", "snp")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: no vectors from real hardware: %v", err)
	}
	return dir
}

type vector struct {
	name   string
	report []byte
	certs  snp.Certificates
	expect struct {
		Expect, Product string
		ReportVersion   uint32 `json:"report_version"`
	}
}

// vectorTime is within the validity of all certificates but the VLEK's, which ended in 2025.
var (
	vectorTime = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	vlekTime   = time.Date(2025, 3, 1, 0, 0, 0, 0, time.UTC)
)

func (v vector) time() time.Time {
	if strings.Contains(v.name, "vlek") {
		return vlekTime
	}
	return vectorTime
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func loadVector(t testing.TB, dir, name string) vector {
	t.Helper()
	v := vector{name: name, report: read(t, dir, name, "report.bin")}
	if err := json.Unmarshal(read(t, dir, name, "expect.json"), &v.expect); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, name, "vek.*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s: want one vek file, got %v (%v)", name, files, err)
	}
	v.certs.VEK = read(t, files[0])
	key := snp.VCEK
	if strings.Contains(name, "vlek") {
		key = snp.VLEK
	}
	v.certs.ASK, v.certs.ARK = snp.AMDChain(snp.Product(v.expect.Product), key)
	return v
}

func loadVectors(t testing.TB) []vector {
	t.Helper()
	dir := vectors(t)
	reports, err := filepath.Glob(filepath.Join(dir, "*", "report.bin"))
	if err != nil || len(reports) < 5 {
		t.Fatalf("want at least five cases in %s, got %d (%v)", dir, len(reports), err)
	}
	var all []vector
	for _, r := range reports {
		all = append(all, loadVector(t, dir, filepath.Base(filepath.Dir(r))))
	}
	return all
}

func options(at time.Time) snp.Options {
	return snp.Options{Roots: snp.AMDRoots(), Time: at, AllowMissingCRL: true}
}

// TestVectors gives the right answer on every report from real hardware. The vectors have no CRL.
func TestVectors(t *testing.T) {
	t.Logf("%-24s %-8s %-8s %-8s %s", "case", "expect", "got", "product", "why")
	for _, v := range loadVectors(t) {
		c, err := snp.Verify(v.report, v.certs, options(v.time()))
		got, product, why := "ok", "", ""
		if err != nil {
			got, why = "reject", err.Error()
		} else {
			product = c.SNP.Product
			if product != v.expect.Product || c.TCBStatus != attest.UpToDate || c.Debug || c.Machine.ChipID == "" &&
				c.SNP.SigningKey == "VCEK" {
				t.Errorf("%s: wrong claims: %+v %+v", v.name, c, c.SNP)
			}
		}
		t.Logf("%-24s %-8s %-8s %-8s %s", v.name, v.expect.Expect, got, product, why)
		if got != v.expect.Expect {
			t.Errorf("%s: want %s, got %s: %v", v.name, v.expect.Expect, got, err)
		}
		r, err := snp.ParseReport(v.report)
		if err != nil || r.Version != v.expect.ReportVersion {
			t.Errorf("%s: ParseReport: %v, version %v", v.name, err, r)
		}
	}
}

// TestVectorClaims pins what is read from the Turin report, whose TCB layout differs.
func TestVectorClaims(t *testing.T) {
	v := loadVector(t, vectors(t), "turin-vcek-ms")
	c, err := snp.Verify(v.report, v.certs, options(v.time()))
	if err != nil {
		t.Fatal(err)
	}
	want := attest.SNPTCB{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 0x51}
	if c.SNP.Reported != want || c.SNP.Committed != want || c.SNP.Launch != want {
		t.Errorf("TCB: %+v", c.SNP)
	}
	if c.Machine.ChipID != "59790fb1c39f35c1" || c.SNP.GuestSVN != 2 || c.SNP.Policy != 0x3001f ||
		!strings.HasPrefix(c.SNP.Measurement, "6d6c354511d6") || !strings.HasPrefix(c.SNP.HostData, "b3452a0e") {
		t.Errorf("claims: %+v %+v", c.SNP, c.Machine)
	}
	if ids := strings.Join(c.Collateral, " "); !strings.Contains(ids, "VCEK:Turin:sha256:") ||
		!strings.Contains(ids, "ARK-key:Turin:sha256:") || !strings.Contains(ids, "CRL:Turin:missing") {
		t.Errorf("collateral: %s", ids)
	}
}

// TestVectorBits flips each bit-carrying byte of real reports: every one must be refused.
func TestVectorBits(t *testing.T) {
	for _, v := range loadVectors(t) {
		if v.expect.Expect != "ok" {
			continue
		}
		opts := options(v.time())
		opts.Cache = snp.NewCache(4)
		for i := 0; i < len(v.report); i += 3 {
			flipped := slices.Clone(v.report)
			flipped[i] ^= 1 << (i % 8)
			if _, err := snp.Verify(flipped, v.certs, opts); err == nil {
				t.Fatalf("%s: byte %#x flipped and still accepted", v.name, i)
			}
		}
	}
}

// TestVectorTrust: the right evidence is refused without the right root, CRL or time.
func TestVectorTrust(t *testing.T) {
	v := loadVector(t, vectors(t), "genoa-vcek-ms")
	type (
		opts  = snp.Options
		certs = snp.Certificates
	)
	chain := func(p snp.Product, k snp.Key) (ask, ark []byte) { return snp.AMDChain(p, k) }
	tests := map[string]struct {
		code   string
		change func(*opts, *certs)
	}{
		"no roots":       {snp.CodeRoot, func(o *opts, _ *certs) { o.Roots = nil }},
		"other root":     {snp.CodeRoot, func(o *opts, _ *certs) { o.Roots[snp.Genoa] = o.Roots[snp.Milan] }},
		"no CRL":         {snp.CodeCRL, func(o *opts, _ *certs) { o.AllowMissingCRL = false }},
		"no time":        {snp.CodeValidity, func(o *opts, _ *certs) { o.Time = time.Time{} }},
		"too early":      {snp.CodeValidity, func(o *opts, _ *certs) { o.Time = o.Time.AddDate(-1, 0, 0) }},
		"too late":       {snp.CodeValidity, func(o *opts, _ *certs) { o.Time = o.Time.AddDate(30, 0, 0) }},
		"no VEK":         {snp.CodeFormat, func(_ *opts, c *certs) { c.VEK = nil }},
		"no ASK":         {snp.CodeFormat, func(_ *opts, c *certs) { c.ASK = nil }},
		"VLEK's ASVK":    {snp.CodeProduct, func(_ *opts, c *certs) { c.ASK, _ = chain(snp.Genoa, snp.VLEK) }},
		"Milan's ASK":    {snp.CodeProduct, func(_ *opts, c *certs) { c.ASK, _ = chain(snp.Milan, snp.VCEK) }},
		"Milan's ARK":    {snp.CodeChain, func(_ *opts, c *certs) { _, c.ARK = chain(snp.Milan, snp.VCEK) }},
		"ARK as ASK":     {snp.CodeProduct, func(_ *opts, c *certs) { c.ASK = c.ARK }},
		"chain as ASK":   {snp.CodeFormat, func(_ *opts, c *certs) { c.ASK = slices.Concat(c.ASK, c.ARK) }},
		"rubbish CRL":    {snp.CodeCRL, func(_ *opts, c *certs) { c.CRL = []byte("rubbish") }},
		"oversized cert": {snp.CodeFormat, func(_ *opts, c *certs) { c.VEK = make([]byte, 1<<20) }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			opts, certs := options(v.time()), v.certs
			test.change(&opts, &certs)
			_, err := snp.Verify(v.report, certs, opts)
			wantCode(t, err, test.code)
		})
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *attest.Refusal
	if !errors.As(err, &refusal) {
		t.Fatalf("want a refusal with %s, got %v", code, err)
	}
	if !refusal.HasCode(code) {
		t.Fatalf("want %s, got %+v", code, refusal.Reasons)
	}
}

// TestMissingARKCertificate: the pinned key is enough.
func TestMissingARKCertificate(t *testing.T) {
	v := loadVector(t, vectors(t), "milan-vcek-trustee")
	v.certs.ARK = nil
	if _, err := snp.Verify(v.report, v.certs, options(v.time())); err != nil {
		t.Fatal(err)
	}
}

func TestNeeds(t *testing.T) {
	dir := vectors(t)
	tests := map[string][]string{
		"milan-vcek-trustee": {
			"/vcek/v1/Milan/c38427a30d4c7af9d96f7a15b97269825a64cb76a2352ffd5d18115d89ad473f8e8c0bcd9a5d9286612bad4aadfb4426" +
				"205a3b9e4fea82301135a170e477524e?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115",
			"/vcek/v1/Genoa/c38427a30d4c7af9d96f7a15b97269825a64cb76a2352ffd5d18115d89ad473f8e8c0bcd9a5d9286612bad4aadfb4426" +
				"205a3b9e4fea82301135a170e477524e?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115",
		},
		"turin-vcek-ms":      {"/vcek/v1/Turin/59790fb1c39f35c1?blSPL=1&teeSPL=1&snpSPL=4&ucodeSPL=81&fmcSPL=1"},
		"milan-vlek-trustee": {""},
	}
	for name, want := range tests {
		r, err := snp.ParseReport(loadVector(t, dir, name).report)
		if err != nil {
			t.Fatal(err)
		}
		n, err := r.Needs()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range n.Products {
			got = append(got, n.VEKPath(p))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", name, got)
		}
		wantCRL := fmt.Sprintf("/%s/v1/%s/crl", strings.ToLower(string(n.Key)), n.Products[0])
		if got := n.CRLPath(n.Products[0]); got != wantCRL {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestAMDRoots(t *testing.T) {
	roots := snp.AMDRoots()
	for _, p := range snp.Products() {
		if len(roots[p]) != 1 || roots[p][0].N.BitLen() != 4096 {
			t.Errorf("%s: %v", p, roots[p])
		}
		for _, k := range []snp.Key{snp.VCEK, snp.VLEK} {
			ask, ark := snp.AMDChain(p, k)
			parsed, err := snp.ParseRoots(slices.Concat(ask, ark))
			if err != nil || len(parsed) != 1 || !parsed[p][0].Equal(roots[p][0]) {
				t.Errorf("%s %s: the chain's root is another key: %v", p, k, err)
			}
		}
	}
	if ask, _ := snp.AMDChain("Rome", snp.VCEK); ask != nil {
		t.Error("a chain for an unknown product")
	}
}
