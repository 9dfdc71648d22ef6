// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

func (w *world) evidence(t *testing.T, name string, request softtee.Request) string {
	t.Helper()
	if request.Machine.Name == "" {
		request.Machine.Name = "m"
	}
	evidence, err := w.platform.Evidence(request)
	if err != nil {
		t.Fatal(err)
	}
	return w.write(t, name, evidence)
}

// verify runs 'evidence verify' and returns its JSON.
func (w *world) verify(t *testing.T, args ...string) (code int, v verified, stderr string) {
	t.Helper()
	code, out, stderr := w.run(slices.Concat([]string{"evidence", "verify", "-o", "json"}, w.services(), args)...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		t.Fatalf("%v: %v: %s%s", args, err, out, stderr)
	}
	return code, v, stderr
}

// TestEvidenceForms reads evidence however it was written down.
func TestEvidenceForms(t *testing.T) {
	w := newWorld(t)
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5, softtee.SNPv3} {
		path := w.evidence(t, "binary", softtee.Request{Kind: kind, Workload: workload()})
		wrapped, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := attest.Parse(wrapped)
		if err != nil {
			t.Fatal(err)
		}
		quoted := base64.StdEncoding.EncodeToString(wrapped)
		forms := map[string][]byte{
			"binary": wrapped, "bare": parsed.Quote, "padded": append(bytes.Clone(wrapped), make([]byte, 70)...),
			"hex":    []byte("0x" + hex.EncodeToString(wrapped) + "\n"),
			"upper":  []byte(strings.ToUpper(hex.EncodeToString(wrapped))),
			"base64": []byte(quoted[:64] + "\n" + quoted[64:] + "\n"),
			"url":    []byte(base64.RawURLEncoding.EncodeToString(wrapped)),
			"v2":     []byte(`{"status":"success","data":{"cert":"-","quote":"` + quoted + `"}}`),
			"v1":     []byte(`{"status":"success","data":{"Cert":"-","Quote":"` + quoted + `"}}`),
			"data":   []byte(`{"quote":"` + quoted + `"}`),
		}
		if kind.TEE() == attest.SNP {
			forms["extended"] = slices.Concat(parsed.Quote, parsed.CertTable)
		}
		for name, data := range forms {
			path := w.write(t, "evidence", data)
			code, out, stderr := w.run("evidence", "show", path)
			if code != 0 || !strings.Contains(out, strings.ToUpper(string(kind.TEE())[:3])) {
				t.Errorf("%s %s: %d %s%s", kind, name, code, out, stderr)
			}
			if kind.TEE() == attest.SNP && name == "bare" {
				continue // verified without the host's certificates, AMD would be asked
			}
			if code, v, stderr := w.verify(t, path); code != 0 || v.TEE != kind.TEE() || !v.Simulated {
				t.Errorf("%s %s: %d %+v%s", kind, name, code, v, stderr)
			}
		}
	}
	for name, data := range map[string]string{
		"empty": "", "text": "hello, world!", "rubbish": "\x00\x01", "no JSON": "{", "short hex": "00ff",
		"no quote": `{"status":"success","data":{"cert":"x","quote":null}}`,
	} {
		path := w.write(t, "evidence", []byte(data))
		if code, _, stderr := w.run("evidence", "show", path); code != 1 || !strings.Contains(stderr, "Error: ") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
}

// TestEvidencePolicies holds evidence against manifests, era files and report data.
func TestEvidencePolicies(t *testing.T) {
	w := newWorld(t)
	request := softtee.Request{Kind: softtee.TDXv4, Workload: workload()}
	copy(request.ReportData[:], "0123456789")
	quote := w.evidence(t, "quote", request)
	old := w.evidence(t, "old", softtee.Request{Kind: softtee.SGXv3, Workload: workload(),
		Machine: softtee.Machine{Name: "old", Status: attest.OutOfDate}})
	m := w.write(t, "packages.json", []byte(`{"Packages": {
		"vm": {"TDX": {"MRTD": "`+workload().TDX.MRTD+`"}},
		"other": {"TDX": {"MRTD": "`+strings.Repeat("ab", 48)+`", "XFAM": "0000000000000000"}},
		"enclave": {"UniqueID": "`+workload().SGX.MRENCLAVE+`"},
		"signed": {"SignerID": "`+workload().SGX.MRSIGNER+`", "ProductID": 3, "SecurityVersion": 9}}}`))
	tests := map[string]struct {
		args   []string
		policy string   // accepted by
		fields []string // else refused for
		change string
	}{
		"any package": {args: []string{quote, "--manifest", m}, policy: `package "vm"`},
		"named":       {args: []string{quote, "--manifest", m, "--package", "vm"}, policy: `package "vm"`},
		"all reasons": {
			args: []string{quote, "--manifest", m, "--package", "other"}, fields: []string{"TDX.MRTD", "TDX.XFAM"},
		},
		"other TEE":   {args: []string{quote, "--manifest", m, "--package", "enclave"}, fields: []string{"TEE"}},
		"report data": {args: []string{quote, "--report-data", hex.EncodeToString([]byte("0123456789"))}},
		"other data":  {args: []string{quote, "--report-data", "00"}, fields: []string{"ReportData"}},
		"status": {
			args:   []string{old, "--manifest", m, "--package", "enclave"},
			fields: []string{"AcceptedTCBStatuses"}, change: `"OutOfDate"`,
		},
		"version, too": {
			args:   []string{old, "--manifest", m, "--package", "signed"},
			fields: []string{"SecurityVersion", "AcceptedTCBStatuses"}, change: "lower",
		},
		"no policy": {args: []string{old}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			code, v, stderr := w.verify(t, test.args...)
			var fields []string
			for _, r := range v.Reasons {
				fields = append(fields, r.Field)
			}
			if !slices.Equal(fields, test.fields) || v.Policy != test.policy || !v.Genuine ||
				(code == 0) != (len(test.fields) == 0) {
				t.Fatalf("exit code %d, %+v\n%s", code, v, stderr)
			}
			if len(v.Reasons) > 0 && !strings.Contains(v.Reasons[0].Change, test.change) {
				t.Errorf("change %q", v.Reasons[0].Change)
			}
			_, text, _ := w.run(slices.Concat([]string{"evidence", "verify"}, w.services(), test.args)...)
			for _, r := range v.Reasons {
				if !strings.Contains(text, r.Text) || !strings.Contains(text, r.Want) || !strings.Contains(text, r.Got) ||
					!strings.Contains(text, r.Path) {
					t.Errorf("the text lacks %+v:\n%s", r, text)
				}
			}
		})
	}
	era := w.write(t, "era.json", []byte(policyFor(workload())))
	if code, v, stderr := w.verify(t, old, "--era-config", era, "--accepted-tcb-statuses", "OutOfDate"); code != 0 {
		t.Errorf("era file: %+v %s", v, stderr)
	}
	for _, args := range [][]string{
		{"--package", "vm"}, {"--manifest", m, "--era-config", era}, {"--manifest", m, "--package", "none"},
		{"--accepted-tcb-statuses", "OutOfDate"}, {"--time", "yesterday"}, {"--report-data", "xyz"},
		{"--vek", w.path("none")}, {"--root", w.path("none")}, {"--collateral", w.path("none")},
	} {
		if code, _, _ := w.run(slices.Concat([]string{"evidence", "verify", quote}, args)...); code != 1 {
			t.Errorf("%q was taken", args)
		}
	}
}

// TestEvidenceTrust: neither a root nor a revocation list goes without saying.
func TestEvidenceTrust(t *testing.T) {
	w := newWorld(t)
	quote := w.evidence(t, "quote", softtee.Request{Kind: softtee.SGXv4, Workload: workload()})
	code, v := evidenceVerify(t, quote, "--collateral", w.bundle(t, func(*softtee.Settings) {}))
	if code == 0 || v.Genuine || v.Reasons[0].Code != attest.CodeUntrustedRoot {
		t.Errorf("without root: %+v", v)
	}
	old := softtee.Request{Kind: softtee.SGXv4, Machine: softtee.Machine{Status: tcbdata.NotSupported}}
	unrated := w.evidence(t, "old", old)
	code, v = evidenceVerify(t, unrated, "--collateral", w.bundle(t, func(*softtee.Settings) {}), "--root",
		w.path("roots.pem"))
	if code == 0 || !v.Genuine || v.TCBStatus != attest.NotSupported || !v.Simulated {
		t.Errorf("not supported: %+v", v)
	}
	missing := w.bundle(t, func(s *softtee.Settings) { s.NoPCKCRL, s.NoRootCRL = true, true })
	args := []string{quote, "--collateral", missing, "--root", w.path("roots.pem")}
	code, v = evidenceVerify(t, args...)
	if code == 0 || v.Genuine || v.Reasons[0].Code != attest.CodeCRLMissing || v.TCBStatus != attest.UpToDate ||
		len(v.Notes) == 0 {
		t.Errorf("without CRLs: %+v", v)
	}
	code, v = evidenceVerify(t, append([]string{unrated}, args[1:]...)...)
	if code == 0 || v.Genuine || v.TCBStatus != attest.NotSupported || len(v.Reasons) != 3 {
		t.Errorf("not supported, without CRLs: %+v", v)
	}
	if code, v = evidenceVerify(t, append(args, "--allow-missing-crls")...); code != 0 || !v.Genuine {
		t.Errorf("with --allow-missing-crls: %+v", v)
	}
	late := time.Now().AddDate(0, 6, 0).Format(time.RFC3339)
	code, v = evidenceVerify(t, append(args, "--allow-missing-crls", "--time", late)...)
	if code == 0 || v.Genuine || v.Reasons[0].Code != attest.CodeExpired {
		t.Errorf("late: %+v", v)
	}
	// A network that is away is not a verdict on the evidence.
	w.service.Close()
	code, v, stderr := w.verify(t, quote)
	if code == 0 || v.Reasons[0].Code != "unavailable" || !strings.Contains(stderr, "Hint: Name another service") {
		t.Errorf("outage: %+v %s", v, stderr)
	}
}

// bundle writes the platform's collateral for SGX as a file.
func (w *world) bundle(t *testing.T, change func(*softtee.Settings)) string {
	t.Helper()
	w.platform.Configure(change)
	col, err := w.platform.Collateral(attest.SGX, false)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(col)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dcap.ParseCollateral(data); err != nil {
		t.Fatal(err)
	}
	if _, err := collateral.Import(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return w.write(t, "collateral.json", data)
}
