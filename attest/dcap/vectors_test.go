// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// vector is one case of ../shared/vectors: real evidence and the right answer.
type vector struct {
	name       string
	quote      []byte
	collateral *dcap.Collateral
	time       time.Time
	crls       bool
	expect     expectation
	reject     bool // of dcap-negative
	what       string
}

type expectation struct {
	Status     attest.TCBStatus `json:"status"`
	Platform   attest.TCBStatus `json:"platform"`
	Module     attest.TCBStatus `json:"tdx_module"`
	QE         attest.TCBStatus `json:"qe"`
	Advisories []string         `json:"advisories"`
	TCBDate    time.Time        `json:"tcb_date"`
	Debug      bool             `json:"debug"`
	Error      string           `json:"error"`
}

// vectorsDir finds ../shared/vectors seen from the module's root, or skips.
func vectorsDir(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
	vectors := filepath.Join(dir, "..", "shared", "vectors")
	if _, err := os.Stat(vectors); err != nil {
		t.Skipf("SKIPPED: real evidence is not here: %v", err)
	}
	return vectors
}

// loadVectors reads all cases of a folder.
func loadVectors(t testing.TB, folder string) []vector {
	dirs, err := filepath.Glob(filepath.Join(vectorsDir(t), folder, "*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no vectors in %s: %v", folder, err)
	}
	var vectors []vector
	for _, dir := range dirs {
		vectors = append(vectors, loadVector(t, dir))
	}
	return vectors
}

func loadVector(t testing.TB, dir string) vector {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	col, err := dcap.ParseCollateral(read("collateral.json"))
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	v := vector{name: filepath.Base(dir), quote: read("quote.bin"), collateral: col}
	var doc struct {
		Time   int64           `json:"time"`
		CRLs   string          `json:"crls"`
		What   string          `json:"what"`
		Expect json.RawMessage `json:"expect"`
	}
	if err := json.Unmarshal(read("expect.json"), &doc); err != nil {
		t.Fatal(err)
	}
	v.time, v.crls, v.what = time.Unix(doc.Time, 0), doc.CRLs != "no-crls", doc.What
	if string(doc.Expect) == `"reject"` {
		v.reject = true
	} else if err := json.Unmarshal(doc.Expect, &v.expect); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v vector) options() dcap.Options {
	return dcap.Options{Roots: dcap.Roots{dcap.IntelRoot()}, Time: v.time, AllowMissingCRLs: !v.crls}
}

// TestVectors walks all genuine evidence and compares every part of the answer, cold and with a shared cache.
func TestVectors(t *testing.T) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "case\tstatus\tplatform\tmodule\tQE\tadvisories\tTCB date\t")
	cache := dcap.NewChainCache(1000)
	for _, v := range loadVectors(t, "dcap") {
		t.Run(v.name, func(t *testing.T) {
			got := verifyVector(t, w, v, v.options())
			cached := v.options()
			cached.Cache = cache
			for range 2 {
				again, _ := dcap.Verify(v.quote, v.collateral, cached)
				if diff := cmp.Diff(got, again); diff != "" {
					t.Errorf("with a cache the answer differs (-without +with):\n%s", diff)
				}
			}
		})
	}
	w.Flush()
	t.Log("\n" + table.String())
}

// verifyVector checks one answer, writes its line of the table, and returns the claims if there are any.
func verifyVector(t *testing.T, table *tabwriter.Writer, v vector, opts dcap.Options) *attest.Claims {
	claims, err := dcap.Verify(v.quote, v.collateral, opts)
	var refusal *attest.Refusal
	if err != nil && !errors.As(err, &refusal) {
		t.Fatalf("error is not a refusal: %v", err)
	}
	if v.expect.Error != "" {
		fmt.Fprintf(table, "%s\trefused\t\t\t\t\t\t\n", v.name)
		t.Logf("%s: %v", v.expect.Error, err)
		if err == nil {
			t.Fatalf("accepted, want refusal %q", v.expect.Error)
		}
		return nil
	}
	shown := claims
	if v.expect.Status == attest.NotSupported {
		if refusal == nil || !refusal.HasCode(attest.CodeNotSupported) {
			t.Fatalf("got %v, want refusal %s", err, attest.CodeNotSupported)
		}
		shown = refusal.Claims
	}
	if shown == nil {
		t.Fatalf("refused: %v", err)
	}
	fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t\n", v.name, shown.TCBStatus, shown.PlatformStatus, shown.ModuleStatus,
		shown.QEStatus, len(shown.Advisories), shown.TCBDate.Format(time.DateOnly))
	got := expectation{Status: shown.TCBStatus, Platform: shown.PlatformStatus, Module: shown.ModuleStatus,
		QE: shown.QEStatus, Advisories: shown.Advisories, TCBDate: shown.TCBDate, Debug: shown.Debug}
	want := v.expect
	want.Advisories = slices.Sorted(slices.Values(want.Advisories))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	return claims
}

// TestNegativeVectors wants each tampered case refused, and for the reason of the tampering.
func TestNegativeVectors(t *testing.T) {
	codes := map[string]string{
		"sgx-attkey":            attest.CodeQEReportData,
		"sgx-auth":              attest.CodeQEReportData,
		"sgx-debugbit":          attest.CodeQuoteSignature,
		"sgx-expired":           attest.CodeExpired,
		"sgx-header-userdata":   attest.CodeQuoteSignature,
		"sgx-header-vendor":     attest.CodeQuoteFormat,
		"sgx-measurement":       attest.CodeQuoteSignature,
		"sgx-notyet":            attest.CodeNotYetValid,
		"sgx-otherfmspc":        attest.CodeTCBInfoMismatch,
		"sgx-qeid-edited":       attest.CodeQEIdentitySign,
		"sgx-qereport-data":     attest.CodeQEReportData,
		"sgx-qereport-mrsigner": attest.CodeQEReportSignature,
		"sgx-qesig":             attest.CodeQEReportSignature,
		"sgx-quotesig":          attest.CodeQuoteSignature,
		"sgx-reportdata":        attest.CodeQuoteSignature,
		"sgx-tcbinfo-badsig":    attest.CodeTCBInfoSignature,
		"sgx-tcbinfo-edited":    attest.CodeTCBInfoSignature,
		"sgx-truncated":         attest.CodeQuoteFormat,
		"sgx-wrongcrl":          attest.CodePCKCRL,
	}
	for _, v := range loadVectors(t, "dcap-negative") {
		t.Run(v.name, func(t *testing.T) {
			_, err := dcap.Verify(v.quote, v.collateral, v.options())
			var refusal *attest.Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("%s: not refused: %v", v.what, err)
			}
			t.Logf("%s: %v", v.what, err)
			if code, known := codes[v.name]; known && !refusal.HasCode(code) {
				t.Errorf("%s: refused for another reason than %s: %+v", v.what, code, refusal.Reasons)
			}
		})
	}
}
