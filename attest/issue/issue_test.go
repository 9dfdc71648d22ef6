// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

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

func TestTDX(t *testing.T) {
	kernel := newTSMKernel("tdx_guest")
	issuer := &tsm{files: kernel, folders: kernel, provider: "tdx_guest", tee: attest.TDX}
	evidence, err := issuer.Issue(t.Context(), reportData())
	if err != nil {
		t.Fatal(err)
	}
	wantOEHeader(t, evidence, tdxQuote(slice(reportData())))
	if len(kernel.entries) != 0 {
		t.Error("the entry stays")
	}
}

func TestSNPPrivilege(t *testing.T) {
	level := func(n uint) *uint { return &n }
	for _, test := range []struct {
		name, want string
		floor      uint64
		vmpl       *uint
		got        uint32
	}{
		{"floor by default", "", 2, nil, 2},
		{"as asked", "", 1, level(3), 3},
		{"below the floor", "VMPL 0 is not possible: this guest may ask for 1 to 3", 1, level(0), 0},
		{"no such level", "VMPL 4 is not possible", 0, level(4), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			kernel := newTSMKernel("sev_guest")
			kernel.floor, kernel.table = test.floor, []byte("certificate table")
			issuer := &tsm{files: kernel, folders: kernel, provider: "sev_guest", tee: attest.SNP, vmpl: test.vmpl}
			evidence, err := issuer.Issue(t.Context(), reportData())
			checkIssued(t, evidence, err, test.want)
			if err != nil {
				return
			}
			want := append(snpReport(slice(reportData()), test.got), kernel.table...)
			parsed, err := attest.Parse(evidence)
			if err != nil || !bytes.Equal(append(parsed.Quote, parsed.CertTable...), want) {
				t.Errorf("header %x, %d bytes, %v", evidence[:28], len(evidence), err)
			}
		})
	}
}

func tsmIssue(t *testing.T, provider string, before func(*tsmKernel, string, string) error) ([]byte, error) {
	kernel := newTSMKernel(provider)
	kernel.before = before
	tee := map[string]attest.TEE{"tdx_guest": attest.TDX, "sev_guest": attest.SNP}[provider]
	issuer := &tsm{files: kernel, folders: kernel, provider: provider, tee: tee}
	evidence, err := issuer.Issue(t.Context(), reportData())
	if len(kernel.entries) != 0 {
		t.Error("an entry stays")
	}
	return evidence, err
}

// TestTSMBusy: what the kernel calls busy is tried again, a bounded number of times.
func TestTSMBusy(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		fail int // reads of outblob that fail
		want string
	}{
		{"busy twice", syscall.EBUSY, 2, ""},
		{"would block", syscall.EWOULDBLOCK, 1, ""},
		{"interrupted", syscall.EINTR, 1, ""},
		{"busy for ever", syscall.EBUSY, 1000, "busy"},
		{"definitive", syscall.EIO, 1, "input/output error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := 0
				evidence, err := tsmIssue(t, "tdx_guest", func(_ *tsmKernel, _, name string) error {
					if filepath.Base(name) == "outblob" {
						if reads++; reads <= test.fail {
							return &os.PathError{Op: "read", Path: name, Err: test.err}
						}
					}
					return nil
				})
				checkIssued(t, evidence, err, test.want)
				if reads > tsmAttempts {
					t.Errorf("%d attempts", reads)
				}
			})
		})
	}
}

// TestTSMConflict: someone else writes between our write and our read. The evidence then carries their report data;
// or ours, but from a generation that is not ours.
func TestTSMConflict(t *testing.T) {
	for _, own := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			races := 0
			evidence, err := tsmIssue(t, "sev_guest", func(k *tsmKernel, operation, name string) error {
				if operation != "read" || filepath.Base(name) != "outblob" {
					return nil
				}
				if races++; races > 1 {
					return nil
				}
				entry := k.entries[filepath.Dir(name)]
				entry.write++
				if !own {
					entry.inblob = make([]byte, 64)
				}
				return nil
			})
			checkIssued(t, evidence, err, "")
			if races != 2 || !bytes.Equal(evidence[28+0x50:][:64], slice(reportData())) {
				t.Errorf("%d attempts", races)
			}
		})
	}
}

// TestTSMLostWrite: the kernel drops a write without saying so.
func TestTSMLostWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, err := tsmIssue(t, "tdx_guest", func(k *tsmKernel, operation, name string) error {
			if operation == "read" && filepath.Base(name) == "outblob" {
				entry := k.entries[filepath.Dir(name)]
				entry.write = 0
			}
			return nil
		})
		if !errors.Is(err, errConflict) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTSMCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernel := newTSMKernel("tdx_guest")
		kernel.before = func(_ *tsmKernel, _, name string) error {
			if filepath.Base(name) == "outblob" {
				return syscall.EBUSY
			}
			return nil
		}
		ctx, cancel := context.WithTimeout(t.Context(), tsmFirstBackoff/2)
		defer cancel()
		issuer := &tsm{files: kernel, folders: kernel, provider: "tdx_guest", tee: attest.TDX}
		_, err := issuer.Issue(ctx, reportData())
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.EBUSY) {
			t.Errorf("got %v", err)
		}
	})
}

func TestTSMStaleEntries(t *testing.T) {
	kernel := newTSMKernel("tdx_guest")
	first := &tsm{files: kernel, folders: kernel}
	for range 3 {
		if _, err := first.create(); err != nil {
			t.Fatal(err)
		}
	}
	issuer := &tsm{files: kernel, folders: kernel, provider: "tdx_guest", tee: attest.TDX}
	if _, err := issuer.Issue(t.Context(), reportData()); err != nil {
		t.Error(err)
	}
	if len(kernel.entries) != 3 {
		t.Errorf("%d entries", len(kernel.entries))
	}
}

func FuzzQuoteReportData(f *testing.F) {
	f.Add(sgxQuote(nil))
	f.Add(tdxQuote(nil))
	five := append([]byte{5, 0, 2, 0, 0x81}, make([]byte, 800)...)
	five[48] = 3
	f.Add(five)
	f.Fuzz(func(t *testing.T, quote []byte) {
		if data, err := quoteReportData(quote); err == nil && len(data) != 64 {
			t.Errorf("%d bytes", len(data))
		}
	})
}
