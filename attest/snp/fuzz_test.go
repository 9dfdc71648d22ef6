// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// Fuzzing starts from stored evidence, since a fuzzer's instrumented process takes long to make an RSA key.
var update = flag.Bool("update", false, "write testdata anew")

// golden lists the stored evidence: of each report version with a VCEK, and one VLEK.
func golden() map[string]softtee.Kind {
	return map[string]softtee.Kind{"v2": softtee.SNPv2, "v3": softtee.SNPv3, "v5": softtee.SNPv5, "vlek": softtee.SNPv3}
}

// TestGolden: the stored evidence is what the software TEE issues, byte for byte, and verifies.
func TestGolden(t *testing.T) {
	for name, kind := range golden() {
		s := issueSoft(t, kind, softtee.Machine{VLEK: name == "vlek"}, nil)
		p, err := world()
		if err != nil {
			t.Fatal(err)
		}
		roots, err := p.RootsPEM()
		if err != nil {
			t.Fatal(err)
		}
		for file, content := range map[string][]byte{"report": s.report, "vek": s.certs.VEK, "ask": s.certs.ASK,
			"crl": s.certs.CRL, "roots": roots} {
			path := filepath.Join("testdata", name, file)
			if *update {
				store(t, path, content)
			}
			if stored := read(t, path); !bytes.Equal(stored, content) {
				t.Errorf("%s is not what is issued; run with -update if that is right", path)
			}
		}
		if _, err := stored(t, name).verify(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func store(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// stored loads stored evidence.
func stored(t testing.TB, name string) soft {
	t.Helper()
	part := func(file string) []byte { return read(t, "testdata", name, file) }
	roots, err := snp.ParseRoots(part("roots"))
	if err != nil {
		t.Fatal(err)
	}
	return soft{part("report"), snp.Certificates{VEK: part("vek"), ASK: part("ask"), CRL: part("crl")},
		snp.Options{Roots: roots, Time: softNow}}
}

// FuzzParseReport: no panic, and what parses can be asked for its needs.
func FuzzParseReport(f *testing.F) {
	for name := range golden() {
		f.Add(stored(f, name).report)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := snp.ParseReport(b)
		if err != nil {
			return
		}
		n, err := r.Needs()
		if err != nil {
			return
		}
		for _, p := range n.Products {
			if path := n.VEKPath(p); n.Key == snp.VCEK && n.ChipID != nil != (path != "") {
				t.Errorf("path %q for %+v", path, n)
			}
		}
	})
}

// FuzzVerifyReport: only the genuine report is accepted.
func FuzzVerifyReport(f *testing.F) {
	genuine := stored(f, "v3")
	genuine.opts.Cache = snp.NewCache(1)
	f.Add(genuine.report)
	f.Add(stored(f, "v5").report)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := genuine
		s.report = b
		if _, err := s.verify(); err == nil && !bytes.Equal(b, genuine.report) {
			t.Errorf("a forged report is accepted: %x", b)
		}
	})
}

// FuzzVerifyCertificates: no DER but the genuine is accepted as certificate or CRL.
func FuzzVerifyCertificates(f *testing.F) {
	genuine := stored(f, "v5")
	for name := range golden() {
		c := stored(f, name).certs
		f.Add(c.VEK, c.ASK, c.CRL)
	}
	f.Fuzz(func(t *testing.T, vek, ask, crl []byte) {
		s := genuine
		s.certs.VEK, s.certs.ASK, s.certs.CRL = vek, ask, crl
		if _, err := s.verify(); err != nil || bytes.Contains(slices.Concat(vek, ask, crl), []byte("-----")) {
			return
		}
		if c := genuine.certs; !bytes.Equal(vek, c.VEK) || !bytes.Equal(ask, c.ASK) || !bytes.Equal(crl, c.CRL) {
			t.Errorf("forged certificates are accepted: %x %x %x", vek, ask, crl)
		}
	})
}

// FuzzParseCertTable: no panic, and what parses renders to a table that reads the same.
func FuzzParseCertTable(f *testing.F) {
	f.Add(snp.CertTable{VCEK: []byte("vcek"), ASK: []byte("ask")}.Marshal())
	f.Add(make([]byte, 48))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := snp.ParseCertTable(b)
		if err != nil || len(table.VCEK)+len(table.VLEK)+len(table.ASK)+len(table.ARK)+len(table.CRL) > 1<<19 {
			return
		}
		again, err := snp.ParseCertTable(table.Marshal())
		if err != nil || !bytes.Equal(again.VCEK, table.VCEK) || !bytes.Equal(again.CRL, table.CRL) {
			t.Errorf("%q reads again as %q, %v", table, again, err)
		}
	})
}
