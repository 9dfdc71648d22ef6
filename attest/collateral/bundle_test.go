// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package collateral_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
)

// exported makes a bundle of a software TEE's machines and returns its file.
func exported(t testing.TB, p *softtee.Platform) []byte {
	t.Helper()
	net := network{"a": server.New(p)}
	f := newFetcher(t, collateral.Config{PCCS: []string{"http://a"}, KDS: "http://a", Client: net.client()})
	_, sgx := quoteAndNeed(t, p, softtee.SGXv3)
	_, tdx := quoteAndNeed(t, p, softtee.TDXv5)
	_, bare := snpNeed(t, p, softtee.Machine{Name: "m", Product: snp.Milan}, softtee.SNPv3, false)
	_, table := snpNeed(t, p, softtee.Machine{Name: "t", Product: snp.Turin}, softtee.SNPv5, true)
	b, err := f.Bundle(t.Context(), []collateral.DCAPNeed{sgx, tdx, sgx}, []collateral.SNPNeed{bare, table})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Export(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestBundle: what is exported verifies without a network.
func TestBundle(t *testing.T) {
	p := newPlatform(t)
	data := exported(t, p)
	b, err := collateral.Import(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5} {
		quote, need := quoteAndNeed(t, p, kind)
		col, err := b.DCAP(t.Context(), need)
		verified(t, p, quote, col, err)
		need.FMSPC = "00906ED50000"
		if _, err := b.DCAP(t.Context(), need); !errors.Is(err, collateral.ErrUnknown) {
			t.Errorf("other FMSPC: want unknown, got %v", err)
		}
	}
	for _, m := range []softtee.Machine{{Name: "m", Product: snp.Milan}, {Name: "t", Product: snp.Turin}} {
		kind := map[snp.Product]softtee.Kind{snp.Milan: softtee.SNPv3, snp.Turin: softtee.SNPv5}[m.Product]
		for _, table := range []bool{false, true} {
			report, need := snpNeed(t, p, m, kind, table)
			certs, err := b.SNP(t.Context(), need)
			verifiedSNP(t, p, report, certs, err)
		}
	}
	_, need := snpNeed(t, p, softtee.Machine{Name: "other", Product: snp.Milan}, softtee.SNPv3, false)
	if _, err := b.SNP(t.Context(), need); !errors.Is(err, collateral.ErrUnknown) {
		t.Errorf("other chip: want unknown, got %v", err)
	}
	var again bytes.Buffer
	if err := b.Export(&again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(data), again.String()); diff != "" {
		t.Errorf("import and export change the bundle:\n%s", diff)
	}
}

func TestShow(t *testing.T) {
	p := newPlatform(t)
	b, err := collateral.Import(bytes.NewReader(exported(t, p)))
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, c := range b.Show() {
		counts[c.Kind]++
		if len(c.SHA256) != 64 || c.Of == "" {
			t.Errorf("incomplete: %+v", c)
		}
		if c.Kind == "TCB info" && c.TCBEvaluationDataNumber != p.Settings().Standard.EvaluationNumber {
			t.Errorf("evaluation number of %+v", c)
		}
	}
	want := map[string]int{"TCB info": 2, "QE identity": 2, "PCK CRL": 1, "root CRL": 1, "VCEK": 2,
		"AMD certificate chain": 2, "AMD CRL": 2}
	// Root and PCK CRL were fetched once, so both platforms have the same.
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
	soon := time.Now().Add(p.Settings().Validity)
	if next := b.NextUpdate(); next.After(soon) || next.Before(soon.Add(-2*time.Hour)) {
		t.Errorf("first expiry %v, want a little before %v", next, soon)
	}
}

func TestImportRefuses(t *testing.T) {
	good := exported(t, newPlatform(t))
	edit := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %q in the bundle", old)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	for name, data := range map[string]string{
		"empty":         "",
		"not JSON":      "collateral",
		"something":     `{"version": 1}`,
		"other format":  edit("marblerun-collateral", "other"),
		"newer version": edit(`"version": 1`, `"version": 2`),
		"no TCB info":   edit(`"tcb_info"`, `"info"`),
		"broken CRL":    edit(`"pck_crl": "3082`, `"pck_crl": "3182`),
		"broken item":   edit(`/crl": "MI`, `/crl": "AA`),
		"cut":           string(good[:len(good)/2]),
	} {
		if b, err := collateral.Import(strings.NewReader(data)); err == nil {
			t.Errorf("%s: accepted with %v", name, b.Show())
		}
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

// TestImportVectors: the collateral.json of real platforms is a bundle of one.
func TestImportVectors(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sharedVectors(t), "dcap", "*", "collateral.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) { importVector(t, dir) })
	}
}

func importVector(t *testing.T, dir string) {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var expect struct {
		Time   int64
		CRLs   string
		Expect struct {
			Status attest.TCBStatus
			Error  string
		}
	}
	if err := json.Unmarshal(read("expect.json"), &expect); err != nil {
		t.Fatal(err)
	}
	b, err := collateral.Import(bytes.NewReader(read("collateral.json")))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := b.Export(&file); err != nil {
		t.Fatal(err)
	}
	if b, err = collateral.Import(&file); err != nil {
		t.Fatal(err)
	}
	quote := read("quote.bin")
	need, err := dcap.Needs(quote)
	if err != nil {
		t.Fatal(err)
	}
	col, err := b.DCAP(t.Context(), collateral.DCAPNeed{Need: need})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := dcap.Verify(quote, col, dcap.Options{Roots: dcap.Roots{dcap.IntelRoot()}, Time: time.Unix(expect.Time, 0),
		AllowMissingCRLs: expect.CRLs != "with-crls"})
	if expect.Expect.Error != "" {
		if err == nil {
			t.Error("accepted, but must be refused")
		}
		return
	}
	if refusal := (&attest.Refusal{}); errors.As(err, &refusal) && refusal.Claims != nil {
		claims = refusal.Claims
	} else if err != nil {
		t.Fatal(err)
	}
	if claims.TCBStatus != expect.Expect.Status {
		t.Errorf("status %s, want %s", claims.TCBStatus, expect.Expect.Status)
	}
}

func FuzzImport(f *testing.F) {
	f.Add(exported(f, newPlatform(f)))
	f.Add([]byte(`{"format":"marblerun-collateral","version":1,"dcap":[{}],"snp":{"/crl":""}}`))
	f.Add([]byte(`{"tcb_info":"{}","qe_identity":"{}"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := collateral.Import(bytes.NewReader(data))
		if err != nil {
			return
		}
		b.Show()
		var out bytes.Buffer
		if err := b.Export(&out); err != nil {
			t.Fatalf("cannot export what was imported: %v", err)
		}
		if _, err := collateral.Import(&out); err != nil {
			t.Fatalf("cannot import what was exported: %v", err)
		}
	})
}
