// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/marblerun/marblerun/attest"
)

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
