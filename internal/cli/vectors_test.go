// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/cli"
)

// vectorsDir finds ../shared/vectors seen from the module's root, or skips.
func vectorsDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the test")
		}
	}
	vectors := filepath.Join(dir, "..", "shared", "vectors")
	if _, err := os.Stat(vectors); err != nil {
		t.Skipf("SKIPPED: evidence from real hardware is not here: %v", err)
	}
	return vectors
}

// cases are the folders of vectors that have a file of that name.
func cases(t *testing.T, folder, evidence string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(vectorsDir(t), folder, "*", evidence))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", folder, err)
	}
	return files
}

// verified is what 'evidence verify -o json' prints.
type verified struct {
	TEE               attest.TEE
	Genuine, Accepted bool
	TCBStatus         attest.TCBStatus
	PlatformStatus    attest.TCBStatus
	ModuleStatus      attest.TCBStatus
	QEStatus          attest.TCBStatus
	TCBDate           time.Time
	Advisories        []string
	Debug             bool
	Simulated         bool
	Policy            string
	ReportData        string
	Reasons           []struct{ Code, Field, Path, Text, Want, Got, Change string }
	Notes             []string
}

// runAlone runs the program without home and network: nothing may be fetched.
func runAlone(args ...string) (code int, out, stderr string) {
	var stdout, errout bytes.Buffer
	code = cli.Run(context.Background(), cli.Env{
		Args: args, Stdout: &stdout, Stderr: &errout,
		ConfigDir: func() (string, error) { return "", errors.New("none") },
	})
	return code, stdout.String(), errout.String()
}

// evidenceVerify runs the command and wants JSON whatever the outcome.
func evidenceVerify(t *testing.T, args ...string) (int, verified) {
	t.Helper()
	code, out, stderr := runAlone(append([]string{"evidence", "verify", "-o", "json"}, args...)...)
	var v verified
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, out, stderr)
	}
	if (code == 0) != v.Accepted || code != 0 && (len(v.Reasons) == 0 || !strings.Contains(stderr, "Error: ")) {
		t.Errorf("%v: exit code %d with %+v and %q", args, code, v, stderr)
	}
	return code, v
}

func expectation(t *testing.T, evidence string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(evidence), "expect.json"))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestEvidenceVectors gives the right answer for all evidence from real hardware, offline, as the command does.
func TestEvidenceVectors(t *testing.T) {
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, quote := range cases(t, "dcap", "quote.bin") {
		name := filepath.Base(filepath.Dir(quote))
		t.Run(name, func(t *testing.T) {
			v := checkVector(t, quote)
			fmt.Fprintf(w, "%s\t%v\t%s\t%s\t%s\t%s\n", name, v.Accepted, v.TCBStatus, v.PlatformStatus, v.ModuleStatus,
				v.QEStatus)
		})
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}

func checkVector(t *testing.T, quote string) verified {
	var e struct {
		Time   int64
		CRLs   string
		Expect struct {
			Status, Platform, QE, Error string
			Module                      string `json:"tdx_module"`
			Advisories                  []string
			TCBDate                     time.Time `json:"tcb_date"`
			Debug                       bool
		}
	}
	expectation(t, quote, &e)
	args := []string{quote, "--collateral", filepath.Join(filepath.Dir(quote), "collateral.json"),
		"--time", strconv.FormatInt(e.Time, 10)}
	if e.CRLs == "no-crls" {
		if code, v := evidenceVerify(t, args...); code == 0 || v.Genuine {
			t.Error("accepted without revocation lists")
		}
		args = append(args, "--allow-missing-crls")
	}
	code, v := evidenceVerify(t, args...)
	want := e.Expect
	if want.Error != "" {
		if v.Genuine || code != 1 {
			t.Errorf("want refusal (%s), got %+v", want.Error, v)
		}
		return v
	}
	if wantCode := map[bool]int{true: 1, false: 0}[want.Status == "NotSupported"]; code != wantCode || !v.Genuine {
		t.Errorf("exit code %d, genuine %v: %+v", code, v.Genuine, v.Reasons)
	}
	got := want
	got.Status, got.Platform, got.QE, got.Module = string(v.TCBStatus), string(v.PlatformStatus), string(v.QEStatus),
		string(v.ModuleStatus)
	got.TCBDate, got.Debug, got.Advisories = v.TCBDate, v.Debug, v.Advisories
	slices.Sort(want.Advisories)
	if want.Advisories == nil {
		want.Advisories = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	return v
}

// TestEvidenceNegativeVectors refuses everything that was tampered with.
func TestEvidenceNegativeVectors(t *testing.T) {
	for _, quote := range cases(t, "dcap-negative", "quote.bin") {
		var e struct {
			Time int64
			What string
		}
		expectation(t, quote, &e)
		code, v := evidenceVerify(t, quote, "--collateral", filepath.Join(filepath.Dir(quote), "collateral.json"),
			"--time", time.Unix(e.Time, 0).UTC().Format(time.RFC3339))
		if code != 1 || v.Genuine || v.ReportData != "" {
			t.Errorf("%s: %+v", e.What, v)
		} else {
			t.Logf("%s: %s", e.What, v.Reasons[0].Text)
		}
	}
}

// TestEvidenceSNPVectors has a time of its own for the VLEK, whose certificate ended in 2025.
func TestEvidenceSNPVectors(t *testing.T) {
	for _, report := range cases(t, "snp", "report.bin") {
		name := filepath.Base(filepath.Dir(report))
		at := "2026-03-01T00:00:00Z"
		if strings.Contains(name, "vlek") {
			at = "2025-03-01T00:00:00Z"
		}
		var e struct{ Expect, Product string }
		expectation(t, report, &e)
		veks, err := filepath.Glob(filepath.Join(filepath.Dir(report), "vek.*"))
		if err != nil || len(veks) != 1 {
			t.Fatalf("%s: %v %v", name, veks, err)
		}
		if filepath.Ext(veks[0]) == ".pem" {
			veks = append(veks, withChain(t, veks[0]))
		}
		for _, vek := range veks {
			code, v := evidenceVerify(t, report, "--vek", vek, "--time", at)
			if ok := e.Expect == "ok"; (code == 0) != ok || v.Genuine != ok || ok && v.TCBStatus != attest.UpToDate {
				t.Errorf("%s by %s: exit code %d, %+v", name, vek, code, v)
			}
		}
	}
}

// withChain is a copy of a certificate in PEM with others after it, as some tools write it.
func withChain(t *testing.T, vek string) string {
	certificate, err := os.ReadFile(vek)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := os.ReadFile(filepath.Join(vectorsDir(t), "snp", "roots", "ask_ark_genoa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(path, append(certificate, chain...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestEvidenceShowVectors explains all of it.
func TestEvidenceShowVectors(t *testing.T) {
	files := slices.Concat(cases(t, "dcap", "quote.bin"), cases(t, "snp", "report.bin"))
	for _, file := range files {
		code, out, stderr := runAlone("evidence", "show", file)
		if code != 0 || !strings.Contains(out, "TEE: ") || strings.Contains(out, "Cannot be read") ||
			!strings.Contains(stderr, "Nothing of this is verified") {
			t.Errorf("%s: %d %s%s", file, code, out, stderr)
		}
		code, out, _ = runAlone("evidence", "show", file, "-o", "json")
		if code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"verified": false`) {
			t.Errorf("%s: %d %s", file, code, out)
		}
	}
}
