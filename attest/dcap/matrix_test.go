// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/dcap/pck"
)

// kinds are all the quotes that there are.
func kinds() map[string]func(t testing.TB) *forge {
	td15 := func(t testing.TB) *forge {
		f := newForge(t, attest.TDX)
		f.version = 5
		f.body = append(f.body, make([]byte, 64)...)
		copy(f.body[584:], f.body[:16])
		return f
	}
	version := func(tee attest.TEE, v uint16) func(t testing.TB) *forge {
		return func(t testing.TB) *forge {
			f := newForge(t, tee)
			f.version = v
			return f
		}
	}
	return map[string]func(t testing.TB) *forge{
		"sgx v3": version(attest.SGX, 3), "sgx v4": version(attest.SGX, 4), "sgx v5": version(attest.SGX, 5),
		"tdx v4": version(attest.TDX, 4), "tdx v5 1.0": version(attest.TDX, 5), "tdx v5 1.5": td15,
	}
}

// newestTDX sets all components of a TD but the module's.
func newestTDX(f *forge, svn byte) {
	if f.tee == attest.TDX {
		for i := 2; i < 16; i++ {
			f.body[i] = svn
		}
	}
}

// TestStatusMatrix: every kind of quote in every status that platform and quoting enclave can have.
func TestStatusMatrix(t *testing.T) {
	platform := map[int]attest.TCBStatus{5: attest.UpToDate, 6: attest.UpToDate, 4: attest.SWHardeningNeeded,
		3: attest.OutOfDate, 2: attest.Revoked, 1: attest.NotSupported}
	qe := map[byte]attest.TCBStatus{9: attest.UpToDate, 8: attest.UpToDate, 7: attest.OutOfDate, 6: attest.OutOfDate,
		3: attest.Revoked, 2: attest.NotSupported}
	for kind, forge := range kinds() {
		for svn, want := range platform {
			for qeSVN, wantQE := range qe {
				f := forge(t)
				newestTDX(f, 5)
				f.setSVN(svn, 13)
				f.qeReport[258] = qeSVN
				quote, col, opts := f.make(t)
				claims, err := dcap.Verify(quote, col, opts)
				var refusal *attest.Refusal
				if errors.As(err, &refusal) {
					claims = refusal.Claims
				}
				if claims == nil {
					t.Fatalf("%s %s %s: %v", kind, want, wantQE, err)
				}
				got := [3]attest.TCBStatus{claims.TCBStatus, claims.PlatformStatus, claims.QEStatus}
				if wantAll := [3]attest.TCBStatus{want.Merge(wantQE), want, wantQE}; got != wantAll {
					t.Errorf("%s with SVN %d, QE SVN %d: got %v, want %v", kind, svn, qeSVN, got, wantAll)
				}
				if (err != nil) != (claims.TCBStatus == attest.NotSupported) {
					t.Errorf("%s with SVN %d, QE SVN %d: status %s, error %v", kind, svn, qeSVN, claims.TCBStatus, err)
				}
			}
		}
	}
}

// TestClaims looks at everything that a quote says, once for SGX and once for TDX.
func TestClaims(t *testing.T) {
	machine := attest.Machine{PPID: strings.Repeat("bb", 16), PlatformInstanceID: strings.Repeat("cc", 16),
		FMSPC: "f0f1f2f3f4f5"}
	date := func(s string) time.Time { d, _ := time.Parse(time.DateOnly, s); return d }
	zero48 := zeros(48)
	sgx := &attest.Claims{TEE: attest.SGX, Debug: true, TCBStatus: attest.OutOfDate,
		PlatformStatus: attest.SWHardeningNeeded, QEStatus: attest.OutOfDate, TCBDate: date("2025-05-14"),
		QEDate: date("2023-08-09"), TCBEvaluationDataNumber: 20, QEEvaluationDataNumber: 20,
		PlatformAdvisories: []string{"INTEL-SA-00004"}, Advisories: []string{"INTEL-SA-00004", "INTEL-SA-00477"},
		Machine: machine, SGX: &attest.SGXClaims{MRENCLAVE: strings.Repeat("e1", 32), MRSIGNER: strings.Repeat("51", 32),
			ISVPRODID: 7, ISVSVN: 3, Attributes: "07" + zeros(15), MISCSELECT: zeros(4), ConfigID: zeros(64)}}
	sgx.Short = append(sgx.Short, attest.ShortComponent{Name: "sgx[0]", Got: 4, Want: 5})
	tdx := &attest.Claims{TEE: attest.TDX, TCBStatus: attest.OutOfDate, PlatformStatus: attest.UpToDate,
		ModuleStatus: attest.OutOfDate, QEStatus: attest.UpToDate, TCBDate: date("2025-05-14"),
		ModuleDate: date("2024-03-13"), QEDate: date("2024-11-13"), TCBEvaluationDataNumber: 20, QEEvaluationDataNumber: 20,
		Advisories: []string{"INTEL-SA-01036"}, Machine: machine,
		Short: []attest.ShortComponent{{Name: "module", Got: 5, Want: 6}},
		TDX: &attest.TDXClaims{MRTD: strings.Repeat("d0", 48), RTMR: [4]string{zero48, zero48, zero48, zero48},
			MRConfigID: zero48, MROwner: zero48, MROwnerConfig: zero48, MRSEAM: zero48, TDAttributes: zeros(8),
			XFAM: zeros(8), TEETCBSVN: "0501" + strings.Repeat("05", 14)}}
	for want, change := range map[*attest.Claims]func(*forge){
		sgx: func(f *forge) {
			f.body[48] |= 1 << 1
			f.qeReport[258] = 7
			f.extension = pckItems(5, 13)
			f.extension[1] = item(sub(2), oneLower(4))
		},
		tdx: func(f *forge) { newestTDX(f, 5); f.body[0] = 5 },
	} {
		f := newForge(t, want.TEE)
		change(f)
		data := f.body[len(f.body)-64:]
		data[0], data[63] = 0xaa, 0xbb
		want.ReportData = [64]byte(data)
		quote, col, opts := f.make(t)
		got, err := dcap.Verify(quote, col, opts)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Collateral) != 4 || !strings.HasPrefix(got.Collateral[0],
			"tcbinfo:"+string(want.TEE)+":f0f1f2f3f4f5:eval20:") {
			t.Errorf("collateral %q", got.Collateral)
		}
		got.Collateral = nil
		if want == sgx {
			want.Short = append(want.Short[:1], attest.ShortComponent{Name: "qe", Got: 7, Want: 8})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestTolerance: what may differ without harm.
func TestTolerance(t *testing.T) {
	cases := map[string]func(f *forge){
		"root before the CA": func(f *forge) { f.reverseChain = true },
		"zeros after":        func(f *forge) { f.padding = make([]byte, 3000) },
		"garbage after":      func(f *forge) { f.padding = []byte("padding") },
		"no QE auth data":    func(f *forge) { f.authRaw = nil },
		"CRLs in hex":        col(func(c *dcap.Collateral) { c.PCKCRL = []byte(hex.EncodeToString(c.PCKCRL)) }),
		"processor CA":       func(f *forge) { f.caName = "Test SGX PCK Processor CA" },
		"CRLs in PEM": col(func(c *dcap.Collateral) {
			c.RootCACRL = pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: c.RootCACRL})
		}),
		"levels not in order": func(f *forge) { slices.Reverse(f.info["tcbLevels"].([]any)) },
		"unknown members":     func(f *forge) { f.info["new"] = map[string]any{"a": []any{1.5, nil, true, "\n"}} },
		"TCB info version 2": func(f *forge) {
			delete(f.info, "id")
			f.info["version"] = 2
			parts := map[string]any{"pcesvn": 13}
			for _, n := range []string{"01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14", "15",
				"16"} {
				parts["sgxtcbcomp"+n+"svn"] = 5
			}
			f.info["tcbLevels"] = []any{map[string]any{"tcb": parts, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate"}}
		},
	}
	for name, change := range cases {
		f := newForge(t, attest.SGX)
		change(f)
		quote, col, opts := f.make(t)
		claims, err := dcap.Verify(quote, col, opts)
		if err != nil || claims.TCBStatus != attest.UpToDate {
			t.Errorf("%s: %v %v", name, claims, err)
		}
	}
}

// TestByteFlips flips every byte of the signed parts of a quote, and wants the code of the part.
func TestByteFlips(t *testing.T) {
	for kind, forge := range kinds() {
		t.Run(kind, func(t *testing.T) {
			f := forge(t)
			newestTDX(f, 5)
			quote, col, opts := f.make(t)
			opts.Cache = dcap.NewChainCache(10)
			body := bytes.Index(quote, f.body)
			end := body + len(f.body)
			key := end + 4 + 64
			report := bytes.Index(quote, f.qeReport[:320])
			auth := bytes.Index(quote, f.authRaw)
			chain := bytes.Index(quote, []byte("-----BEGIN"))
			parts := []struct {
				from, to int
				codes    []string // all that can come first
			}{
				{0, 4, []string{attest.CodeQuoteFormat}},
				{4, 8, []string{attest.CodeQuoteFormat}},
				{8, 12, []string{attest.CodeQuoteSignature}},
				{12, 28, []string{attest.CodeQuoteFormat}},
				{28, 48, []string{attest.CodeQuoteSignature}},
				{48, body, []string{attest.CodeQuoteFormat}},
				{body, end, []string{attest.CodeQuoteSignature}},
				{end, end + 4, []string{attest.CodeQuoteFormat}},
				{end + 4, key, []string{attest.CodeQuoteSignature}},
				{key, key + 64, []string{attest.CodeQEReportData}},
				{report, report + 384, []string{attest.CodeQEReportSignature}},
				{report + 384, report + 448, []string{attest.CodeQEReportSignature}},
				{report + 448, report + 450, []string{attest.CodeQuoteFormat, attest.CodeCertificationData}},
				{auth, auth + len(f.authRaw), []string{attest.CodeQEReportData}},
				{auth + len(f.authRaw), chain, []string{attest.CodeCertificationData, attest.CodeQuoteFormat}},
			}
			for _, part := range parts {
				for i := part.from; i < part.to; i++ {
					bit := byte(1) << (i % 8)
					quote[i] ^= bit
					_, err := dcap.Verify(quote, col, opts)
					quote[i] ^= bit
					var refusal *attest.Refusal
					if !errors.As(err, &refusal) || !slices.Contains(part.codes, refusal.Reasons[0].Code) {
						t.Fatalf("byte %d (part %d to %d): got %v, want one of %v", i, part.from, part.to, err, part.codes)
					}
				}
			}
			for i := chain; i < len(quote)-1; i += 29 {
				quote[i] ^= 1
				if _, err := dcap.Verify(quote, col, opts); err == nil {
					t.Fatalf("byte %d, in the PCK chain: accepted", i)
				}
				quote[i] ^= 1
			}
			for i := range len(quote) {
				if _, err := dcap.Verify(quote[:i], col, opts); err == nil {
					t.Fatalf("accepted when cut to %d of %d bytes", i, len(quote))
				}
			}
		})
	}
}

func TestIntelRootCertificates(t *testing.T) {
	v := findVector(t, "sgx-v3-00606A000000-c81a90ee-eval17-20250815")
	if _, err := dcap.Verify(v.quote, v.collateral, v.options()); err != nil {
		t.Fatal(err)
	}
	// The last byte of the root certificate's signature.
	_, rest := pem.Decode([]byte(v.collateral.TCBInfoIssuerChain))
	root, _ := pem.Decode(rest)
	root.Bytes[len(root.Bytes)-1] ^= 1
	tampered := *v.collateral
	tampered.TCBInfoIssuerChain = strings.Replace(tampered.TCBInfoIssuerChain, string(rest),
		string(pem.EncodeToMemory(root)), 1)
	claims, err := dcap.Verify(v.quote, &tampered, v.options())
	wantRefusal(t, claims, err, attest.CodeUntrustedRoot)
}

func TestNeeds(t *testing.T) {
	f := newForge(t, attest.TDX)
	quote, _, _ := f.make(t)
	got, err := dcap.Needs(quote)
	want := dcap.Need{TEE: attest.TDX, FMSPC: "F0F1F2F3F4F5", CA: pck.PlatformCA}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for kind, size := range map[uint16]int{1: 16 + 20, 2: 256 + 20, 3: 384 + 20} {
		f.certType = kind
		if _, err := dcap.Needs(f.quote(t, make([]byte, size))); err == nil ||
			!strings.Contains(err.Error(), "it needs the PCK certificate of PCE-ID 0000") {
			t.Errorf("type %d: %v", kind, err)
		}
		if _, err := dcap.Needs(f.quote(t, make([]byte, size+1))); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Errorf("type %d of a wrong size: %v", kind, err)
		}
	}
	for _, kind := range []uint16{4, 6, 7, 8} {
		f.certType = kind
		if _, err := dcap.Needs(f.quote(t, nil)); err == nil || !strings.Contains(err.Error(), "type") {
			t.Errorf("type %d: %v", kind, err)
		}
	}
}

// oneLower is a list of TCB items with SVN 5 but for the first component.
func oneLower(first int) any {
	items := tcbItems(5, 13)
	items[0] = item(sub(2, 1), first)
	return items
}
