// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/attest"
)

func reportData() (data [64]byte) {
	for i := range data {
		data[i] = byte(i + 1)
	}
	return data
}

// empty is a machine without any TEE interface.
func empty(t *testing.T) Config {
	return Config{Root: t.TempDir(), seams: seams{
		uname:  func() Uname { return Uname{"Linux", "6.18.0", "#1 SMP", "x86_64"} },
		getenv: func(string) string { return "" },
		ego:    &egoCalls{free: syscall.ENOSYS},
	}}
}

func wantOEHeader(t *testing.T, evidence, quote []byte) {
	t.Helper()
	header := []byte{1, 0, 0, 0, 2, 0, 0, 0}
	header = binary.LittleEndian.AppendUint64(header, uint64(len(quote)))
	if !bytes.Equal(evidence, append(header, quote...)) {
		t.Errorf("evidence is not header and quote: %d bytes, begins %x", len(evidence), evidence[:min(32, len(evidence))])
	}
}

func TestDetectNothing(t *testing.T) {
	issuer, tried, err := Detect(t.Context(), empty(t))
	if issuer != nil || !errors.Is(err, ErrNoTEE) {
		t.Fatalf("got %v, %v", issuer, err)
	}
	var names []string
	for _, one := range tried {
		names = append(names, one.Name)
		if !errors.Is(one.Err, errAbsent) {
			t.Errorf("%s: %v is not the normal case", one.Name, one.Err)
		}
	}
	if diff := cmp.Diff([]string{"gramine", "occlum", "ego", "configfs-tsm"}, names); diff != "" {
		t.Error(diff)
	}
	const want = "no source of TEE evidence found (gramine: not present; occlum: not present; ego: not present; " +
		"configfs-tsm: not present)"
	if err.Error() != want {
		t.Errorf("got %q", err)
	}
}

// TestDetectThisMachine runs the real drivers: whatever they find, they must not harm this process.
func TestDetectThisMachine(t *testing.T) {
	t.Setenv(egoMarker, "1") // a host that lies
	issuer, tried, err := Detect(t.Context(), Config{})
	if (issuer == nil) != errors.Is(err, ErrNoTEE) {
		t.Errorf("issuer %v with error %v", issuer, err)
	}
	for _, one := range tried {
		if one.Name == "ego" && one.Err == nil {
			t.Error("EGo found outside an enclave")
		}
	}
}

func TestDetectChooses(t *testing.T) {
	gramine := &gramineFiles{kind: "dcap\n", quote: sgxQuote}
	tdx, snp := newTSMKernel("tdx_guest"), newTSMKernel("sev_guest")
	occlum := &occlumDev{size: 8192, quote: sgxQuote}
	uname := func() Uname { return Uname{Sysname: "Occlum"} }
	marker := func(name string) string { return map[string]string{egoMarker: "0"}[name] }
	for _, test := range []struct {
		name   string
		change func(*seams)
		tee    attest.TEE
		tried  int
	}{
		{"gramine", func(s *seams) { s.files = gramine }, attest.SGX, 1},
		{"occlum", func(s *seams) { s.uname, s.open = uname, occlum.open }, attest.SGX, 2},
		{"ego", func(s *seams) { s.getenv, s.ego = marker, &egoCalls{} }, attest.SGX, 3},
		{"configfs-tsm", func(s *seams) { s.files, s.folders = tdx, tdx }, attest.TDX, 4},
		{"configfs-tsm", func(s *seams) { s.files, s.folders = snp, snp }, attest.SNP, 4},
	} {
		t.Run(test.name+" "+string(test.tee), func(t *testing.T) {
			var log bytes.Buffer
			config := empty(t)
			config.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			test.change(&config.seams)
			issuer, tried, err := Detect(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			if issuer.Name() != test.name || issuer.TEE() != test.tee || len(tried) != test.tried {
				t.Errorf("got %s %s after %v", issuer.Name(), issuer.TEE(), tried)
			}
			if got := strings.Count(log.String(), "\n"); got != test.tried {
				t.Errorf("%d log lines for %d drivers:\n%s", got, test.tried, &log)
			}
			evidence, err := issuer.Issue(t.Context(), reportData())
			if err != nil {
				t.Fatal(err)
			}
			if parsed, err := attest.Parse(evidence); err != nil || parsed.TEE != test.tee {
				t.Errorf("the verifier reads %q, %v", parsed.TEE, err)
			}
		})
	}
}

func slice(data [64]byte) []byte { return data[:] }

func TestDetectSaysWhyNot(t *testing.T) {
	gramine := &gramineFiles{kind: "none"}
	denied, odd := newTSMKernel("tdx_guest"), newTSMKernel("arm_cca_guest")
	denied.mkdirErr = &os.PathError{Op: "mkdir", Path: "x", Err: syscall.EACCES}
	marker := func(string) string { return "1" }
	for _, test := range []struct {
		name, want string
		change     func(*seams)
	}{
		{"gramine", "sgx.remote_attestation", func(s *seams) { s.files = gramine }},
		{"ego", "this is no EGo enclave", func(s *seams) { s.getenv = marker }},
		{"configfs-tsm", "needs root", func(s *seams) { s.files, s.folders = denied, denied }},
		{"configfs-tsm", "arm_cca_guest", func(s *seams) { s.files, s.folders = odd, odd }},
	} {
		config := empty(t)
		test.change(&config.seams)
		_, _, err := Detect(t.Context(), config)
		if !errors.Is(err, ErrNoTEE) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if len(denied.entries)+len(odd.entries) != 0 {
		t.Error("probing left entries behind")
	}
}

// TestRoot looks at real files below another root.
func TestRoot(t *testing.T) {
	config := empty(t)
	folder := filepath.Join(config.Root, "dev/attestation")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	data := reportData()
	for name, content := range map[string][]byte{
		"attestation_type": []byte("dcap"), "user_report_data": make([]byte, 64), "quote": sgxQuote(data[:]),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issuer, _, err := Detect(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := issuer.Issue(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	wantOEHeader(t, evidence, sgxQuote(data[:]))
	written, err := os.ReadFile(filepath.Join(folder, "user_report_data"))
	if err != nil || !bytes.Equal(written, data[:]) {
		t.Errorf("wrote %x, %v", written, err)
	}
}

func TestGramine(t *testing.T) {
	padded := func(size int) func([]byte) []byte {
		return func(data []byte) []byte { return append(sgxQuote(data), make([]byte, size-len(sgxQuote(nil)))...) }
	}
	stale := func([]byte) []byte { return sgxQuote(make([]byte, 64)) }
	nothing := func([]byte) []byte { return nil }
	for _, test := range []struct {
		name, want string
		files      gramineFiles
	}{
		{"old version", "", gramineFiles{kind: "-", quote: sgxQuote}},
		{"largest", "", gramineFiles{kind: "dcap", quote: padded(8191)}},
		{"too large", "longer than 8191 bytes", gramineFiles{kind: "dcap", quote: padded(8192)}},
		{"empty", "the quote is empty", gramineFiles{kind: "dcap", quote: nothing}},
		{"stale", "other report data", gramineFiles{kind: "dcap", quote: stale}},
		{"no AESM", "input/output error", gramineFiles{kind: "dcap", readErr: syscall.EIO}},
		{"garbage", "unknown form", gramineFiles{kind: "dcap", quote: func([]byte) []byte { return make([]byte, 500) }}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := empty(t)
			config.seams.files = &test.files
			issuer, _, err := Detect(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			evidence, err := issuer.Issue(t.Context(), reportData())
			checkIssued(t, evidence, err, test.want)
		})
	}
}

func checkIssued(t *testing.T, evidence []byte, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("got error %v, want %q", err, want)
	}
	if want != "" && evidence != nil {
		t.Error("evidence in spite of an error")
	}
}

func TestOcclum(t *testing.T) {
	stale := func([]byte) []byte { return sgxQuote(make([]byte, 64)) }
	for _, test := range []struct {
		name, want string
		device     occlumDev
	}{
		{"buffer larger than quote", "", occlumDev{size: 9000, quote: sgxQuote}},
		{"exact", "", occlumDev{size: uint32(len(sgxQuote(nil))), quote: sgxQuote}},
		{"buffer too small", "invalid argument", occlumDev{size: 100, quote: sgxQuote}},
		{"no size", "0 bytes", occlumDev{quote: sgxQuote}},
		{"absurd size", "bytes", occlumDev{size: 1 << 31, quote: sgxQuote}},
		{"stale", "other report data", occlumDev{size: 9000, quote: stale}},
	} {
		t.Run(test.name, func(t *testing.T) {
			issuer := &occlum{open: test.device.open}
			evidence, err := issuer.Issue(t.Context(), reportData())
			checkIssued(t, evidence, err, test.want)
			if err == nil {
				wantOEHeader(t, evidence, sgxQuote(slice(reportData())))
			}
			if test.device.opened != 0 {
				t.Error("the device stays open")
			}
		})
	}
}

func TestEGo(t *testing.T) {
	issuer := &ego{call: &egoCalls{}}
	evidence, err := issuer.Issue(t.Context(), reportData())
	if err != nil {
		t.Fatal(err)
	}
	wantOEHeader(t, evidence, sgxQuote(slice(reportData())))

	issuer = &ego{call: &egoCalls{report: resultError(16)}}
	evidence, err = issuer.Issue(t.Context(), reportData())
	checkIssued(t, evidence, err, "OE_SIMULATION=1")
}

// TestEGoUntouched: without the marker an ordinary process makes no unusual system call.
func TestEGoUntouched(t *testing.T) {
	config, calls := empty(t), &egoCalls{}
	config.seams.ego = calls
	if _, err := probeEGo(t.Context(), config.withDefaults()); err == nil || calls.calls != 0 {
		t.Errorf("%d calls, error %v", calls.calls, err)
	}
}
