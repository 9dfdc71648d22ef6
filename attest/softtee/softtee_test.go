// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

var (
	seed = []byte("a seed for the tests of softtee")
	now  = time.Date(2026, 5, 17, 12, 30, 0, 0, time.UTC)
)

func clock() time.Time { return now }

func newPlatform(t testing.TB) *softtee.Platform {
	t.Helper()
	p, err := softtee.New(softtee.Options{Seed: seed, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func issue(t testing.TB, p *softtee.Platform, r softtee.Request) []byte {
	t.Helper()
	if r.Machine.Name == "" {
		r.Machine.Name = "machine"
	}
	evidence, err := p.Evidence(r)
	if err != nil {
		t.Fatal(err)
	}
	return evidence
}

// collateral is the platform's, in the JSON form that it has in common with the real one.
func collateral(t testing.TB, p *softtee.Platform, tee attest.TEE, processorCA bool) *dcap.Collateral {
	t.Helper()
	c, err := p.Collateral(tee, processorCA)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	col, err := dcap.ParseCollateral(raw)
	if err != nil {
		t.Fatal(err)
	}
	return col
}

func intelRoots(t testing.TB, p *softtee.Platform) dcap.Roots {
	t.Helper()
	key, ok := p.Root().PublicKey.(*ecdsa.PublicKey)
	if !ok {
		t.Fatalf("root key is %T", p.Root().PublicKey)
	}
	return dcap.Roots{key}
}

// verify takes evidence from the wire to claims, with the one real verifier.
func verify(t testing.TB, p *softtee.Platform, evidence []byte, processorCA bool) (*attest.Claims, error) {
	t.Helper()
	e, err := attest.Parse(evidence)
	if err != nil {
		return nil, err
	}
	if e.TEE == attest.SNP {
		return verifySNP(t, p, e)
	}
	return dcap.Verify(e.Quote, collateral(t, p, e.TEE, processorCA), dcap.Options{Roots: intelRoots(t, p), Time: now})
}

func verifySNP(t testing.TB, p *softtee.Platform, e attest.Evidence) (*attest.Claims, error) {
	t.Helper()
	table, err := snp.ParseCertTable(e.CertTable)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := p.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	key := snp.VCEK
	if table.VLEK != nil {
		key = snp.VLEK
	}
	return snp.Verify(e.Quote, table.Certificates(key), snp.Options{Roots: roots, Time: now})
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *attest.Refusal
	if !errors.As(err, &refusal) || !refusal.HasCode(code) {
		t.Fatalf("want a refusal with code %q, got %T %v", code, err, err)
	}
}

// TestWorkload: what was asked to be measured is what the verifier finds, for every kind of evidence.
func TestWorkload(t *testing.T) {
	p := newPlatform(t)
	h := func(b string, n int) string { return strings.Repeat(b, n) }
	workload := softtee.Workload{
		SGX: attest.SGXClaims{MRENCLAVE: h("a1", 32), MRSIGNER: h("b2", 32), ISVPRODID: 7, ISVSVN: 3,
			ConfigID: h("c3", 64), ConfigSVN: 2},
		TDX: attest.TDXClaims{MRTD: h("d4", 48), RTMR: [4]string{h("00", 48), h("01", 48), h("02", 48), h("03", 48)},
			MRConfigID: h("e5", 48), MROwner: h("f6", 48), MROwnerConfig: h("a7", 48)},
		SNP: attest.SNPClaims{Measurement: h("b8", 48), HostData: h("c9", 32), IDKeyDigest: h("da", 48),
			AuthorKeyDigest: h("eb", 48), FamilyID: h("fc", 16), ImageID: h("0d", 16), GuestSVN: 5, Policy: 0xB001F, VMPL: 2},
	}
	data := [64]byte{1, 2, 3, 63: 4}
	for _, kind := range softtee.Kinds() {
		for _, debug := range []bool{false, true} {
			workload.Debug = debug
			c, err := verify(t, p, issue(t, p, softtee.Request{Kind: kind, Workload: workload, ReportData: data}), false)
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if c.TEE != kind.TEE() || c.Debug != debug || c.ReportData != data || c.TCBStatus != attest.UpToDate {
				t.Errorf("%s debug=%t: %+v", kind, debug, c)
			}
			checkMeasured(t, kind, workload, c)
			machine, err := p.Identity(softtee.Machine{Name: "machine"}, kind)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(machine, c.Machine); diff != "" {
				t.Errorf("%s: machine (-told +found):\n%s", kind, diff)
			}
		}
	}
}

func checkMeasured(t *testing.T, kind softtee.Kind, w softtee.Workload, c *attest.Claims) {
	t.Helper()
	switch c.TEE {
	case attest.SGX:
		g := *c.SGX
		g.Attributes, g.MISCSELECT = "", ""
		if diff := cmp.Diff(w.SGX, g); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", kind, diff)
		}
	case attest.TDX:
		g := *c.TDX
		g.MRSEAM, g.MRServiceTD, g.TDAttributes, g.XFAM, g.TEETCBSVN, g.TEETCBSVN2 = "", "", "", "", "", ""
		if diff := cmp.Diff(w.TDX, g); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", kind, diff)
		}
	case attest.SNP:
		g := *c.SNP
		want := w.SNP // and what is the machine's
		want.Product, want.Reported, want.Committed, want.Launch = g.Product, g.Reported, g.Committed, g.Launch
		want.SigningKey, want.PlatformInfo, want.Policy = "VCEK", g.PlatformInfo, 0x3001F
		if w.Debug {
			want.Policy |= 1 << 19
		}
		if diff := cmp.Diff(want, g); diff != "" {
			t.Errorf("%s: (-want +got):\n%s", kind, diff)
		}
	}
}

// TestNeverReal: the real roots refuse all of it, and everything says that it is a simulation.
func TestNeverReal(t *testing.T) {
	p := newPlatform(t)
	for _, kind := range softtee.Kinds() {
		e, err := attest.Parse(issue(t, p, softtee.Request{Kind: kind}))
		if err != nil {
			t.Fatal(err)
		}
		if e.TEE == attest.SNP {
			table, err := snp.ParseCertTable(e.CertTable)
			if err != nil {
				t.Fatal(err)
			}
			_, err = snp.Verify(e.Quote, table.Certificates(snp.VCEK), snp.Options{Roots: snp.AMDRoots(), Time: now})
			wantCode(t, err, snp.CodeRoot)
			continue
		}
		opts := dcap.Options{Roots: dcap.Roots{dcap.IntelRoot()}, Time: now}
		_, err = dcap.Verify(e.Quote, collateral(t, p, e.TEE, false), opts)
		wantCode(t, err, attest.CodeUntrustedRoot)
	}
	roots, err := p.RootsPEM()
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 4; n++ {
		var block *pem.Block
		if block, roots = pem.Decode(roots); block == nil {
			t.Fatalf("%d roots, want 4", n)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !strings.Contains(cert.Subject.CommonName, "Simulation") {
			t.Errorf("root %v: %v", cert.Subject, err)
		}
	}
}

// TestDifferentSeeds: platforms do not vouch for each other.
func TestDifferentSeeds(t *testing.T) {
	p := newPlatform(t)
	other, err := softtee.New(softtee.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	e, err := attest.Parse(issue(t, other, softtee.Request{Kind: softtee.SGXv3}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = dcap.Verify(e.Quote, collateral(t, p, attest.SGX, false), dcap.Options{Roots: intelRoots(t, p), Time: now})
	wantCode(t, err, attest.CodeUntrustedRoot)
}

func TestBadRequests(t *testing.T) {
	p := newPlatform(t)
	m := softtee.Machine{Name: "m"}
	sgx := softtee.Workload{SGX: attest.SGXClaims{MRENCLAVE: "00"}}
	tdx := softtee.Workload{TDX: attest.TDXClaims{MRTD: "zz"}}
	guest := softtee.Workload{SNP: attest.SNPClaims{HostData: strings.Repeat("00", 33)}}
	for name, r := range map[string]softtee.Request{
		"no kind":          {Machine: m},
		"no name":          {Kind: softtee.SGXv3},
		"unknown status":   {Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "m", Status: "Fine"}},
		"unknown module":   {Kind: softtee.TDXv4, Machine: softtee.Machine{Name: "m", Module: "Fine"}},
		"SNP status":       {Kind: softtee.SNPv3, Machine: softtee.Machine{Name: "m", Status: attest.Revoked}},
		"unknown product":  {Kind: softtee.SNPv3, Machine: softtee.Machine{Name: "m", Product: "Rome"}},
		"short measure":    {Kind: softtee.SGXv3, Machine: m, Workload: sgx},
		"measure not hex":  {Kind: softtee.TDXv5, Machine: m, Workload: tdx},
		"measure too long": {Kind: softtee.SNPv5, Machine: m, Workload: guest},
	} {
		if e, err := p.Evidence(r); err == nil {
			t.Errorf("%s: got %d bytes", name, len(e))
		}
	}
	if _, err := softtee.New(softtee.Options{Seed: []byte("short")}); err == nil {
		t.Error("a short seed is accepted")
	}
}
