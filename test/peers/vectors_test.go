// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// quoteCase is a quote with all that is needed to decide on it.
type quoteCase struct {
	name  string
	quote []byte
	col   *dcap.Collateral
	root  *x509.Certificate // of the chain in the quote
	key   dcap.Roots
	at    time.Time
	crls  bool
}

func (c quoteCase) options() dcap.Options {
	return dcap.Options{Roots: c.key, Time: c.at, AllowMissingCRLs: !c.crls}
}

func (c quoteCase) verify(cache *dcap.ChainCache) (*attest.Claims, error) {
	opts := c.options()
	opts.Cache = cache
	return dcap.Verify(c.quote, c.col, opts)
}

// reportCase is an SNP report with its certificates.
type reportCase struct {
	name    string
	product snp.Product
	report  []byte
	certs   snp.Certificates
	roots   snp.Roots
	at      time.Time
	refused bool // the right answer
}

func (c reportCase) verify(cache *snp.Cache) (*attest.Claims, error) {
	opts := snp.Options{Roots: c.roots, Time: c.at, AllowMissingCRL: len(c.certs.CRL) == 0, Cache: cache}
	return snp.Verify(c.report, c.certs, opts)
}

// vectors is the folder of evidence from real hardware, beside the project; the test is skipped without it.
func vectors(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../../../shared/vectors")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: real evidence is not here: %v", err)
	}
	return dir
}

func read(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func folders(t testing.TB, pattern ...string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(pattern...))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no vectors %v: %v", pattern, err)
	}
	return dirs
}

func loadQuote(t testing.TB, dir string) quoteCase {
	t.Helper()
	col, err := dcap.ParseCollateral(read(t, dir, "collateral.json"))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	var expect struct {
		Time int64  `json:"time"`
		CRLs string `json:"crls"`
	}
	if err := json.Unmarshal(read(t, dir, "expect.json"), &expect); err != nil {
		t.Fatal(err)
	}
	c := quoteCase{name: filepath.Base(dir), quote: read(t, dir, "quote.bin"), col: col, at: time.Unix(expect.Time, 0),
		key: dcap.Roots{dcap.IntelRoot()}, crls: expect.CRLs != "no-crls"}
	if chain := quoteChain(c.quote); len(chain) == 3 {
		c.root = chain[2]
	}
	return c
}

// quoteChain finds the PCK chain in a quote: leaf, CA, root.
func quoteChain(quote []byte) []*x509.Certificate {
	if at := bytes.Index(quote, []byte("-----BEGIN")); at >= 0 {
		return parseChain(quote[at:])
	}
	return nil
}

func parseChain(chain []byte) []*x509.Certificate {
	var certs []*x509.Certificate
	for {
		block, rest := pem.Decode(chain)
		if block == nil {
			return certs
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			certs = append(certs, cert)
		}
		chain = rest
	}
}

func loadReport(t testing.TB, dir string) reportCase {
	t.Helper()
	var expect struct{ Expect, Product string }
	if err := json.Unmarshal(read(t, dir, "expect.json"), &expect); err != nil {
		t.Fatal(err)
	}
	// Within the validity of all certificates; the VLEK's ended in 2025.
	c := reportCase{name: filepath.Base(dir), product: snp.Product(expect.Product), report: read(t, dir, "report.bin"),
		roots: snp.AMDRoots(), at: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), refused: expect.Expect != "ok"}
	key := snp.VCEK
	if strings.Contains(c.name, "vlek") {
		key, c.at = snp.VLEK, c.at.AddDate(-1, 0, 0)
	}
	c.certs.VEK = read(t, folders(t, dir, "vek.*")[0])
	c.certs.ASK, c.certs.ARK = snp.AMDChain(c.product, key)
	return c
}

// wantCode wants a refusal with the code, or none if there is no code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *attest.Refusal
	if code == "" && err != nil || code != "" && (!errors.As(err, &refusal) || !refusal.HasCode(code)) {
		t.Errorf("we should say %q, but say %v", code, err)
	}
}
