// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/internal/seal"
)

// source is where evidence comes from.
type source struct {
	name string
	tee  attest.TEE
}

func (s source) Name() string    { return s.name }
func (s source) TEE() attest.TEE { return s.tee }

var (
	inGramine = source{"gramine", attest.SGX}
	inSNP     = source{"configfs-tsm", attest.SNP}
)

// prf stands for the hardware's key derivation.
func prf(root string, parts ...any) []byte {
	mac := hmac.New(sha256.New, []byte(root))
	fmt.Fprintf(mac, "%q", parts)
	return mac.Sum(nil)
}

// enclave is an SGX enclave under Gramine on some CPU.
type enclave struct {
	cpu, cpuSVN         string
	mrEnclave, mrSigner string
	productID, svn      int
}

// start writes the key files that Gramine shows to the enclave, and returns its sealers. The keys are EGETKEY's:
// MRSIGNER and MRENCLAVE enter by the policy, the rest always.
func (e enclave) start(t testing.TB) seal.Sealers {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "dev/attestation/keys")
	must(t, os.MkdirAll(dir, 0o700))
	signer := prf(e.cpu, "seal", e.cpuSVN, "signer", e.mrSigner, e.productID, e.svn)
	unique := prf(e.cpu, "seal", e.cpuSVN, "enclave", e.mrEnclave, e.productID, e.svn)
	must(t, os.WriteFile(filepath.Join(dir, "_sgx_mrsigner"), signer[:16], 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "_sgx_mrenclave"), unique[:16], 0o600))
	return sealersOf(t, inGramine, Config{Root: root})
}

func sealersOf(t testing.TB, from source, cfg Config) seal.Sealers {
	t.Helper()
	s, err := For(t.Context(), from, cfg)
	must(t, err)
	if s.Product == nil || s.Unique == nil {
		t.Fatal("no sealers")
	}
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// chip is an AMD processor with its firmware.
type chip struct {
	key       string
	vlek      string // provider's key, if installed
	masked    bool   // the chip's key must not be used
	old       bool   // the firmware does not know KEY_SEL
	committed uint64 // TCB
}

// vm is an SNP guest as /dev/sev-guest shows it.
type vm struct {
	chip                *chip
	policy              uint64
	measurement         string
	image, family, idBy string // of the ID block; idBy "" is no ID block
	svn, vmpl           uint32

	ioctl   error                 // fails every ioctl
	mangle  func(response []byte) // firmware with defects
	opened  int
	request []derivedKeyRequest // derived so far
}

func (v *vm) open(path string) (device, error) {
	if !strings.HasSuffix(path, "/dev/sev-guest") {
		return nil, fs.ErrNotExist
	}
	v.opened++
	return v, nil
}

func (v *vm) Close() error { v.opened--; return nil }

// start returns the guest's sealers.
func (v *vm) start(t testing.TB, byIDBlock bool) seal.Sealers {
	t.Helper()
	return sealersOf(t, inSNP, Config{open: v.open, SNPProductByIDBlock: byIDBlock})
}

// Ioctl is the kernel's side of struct snp_guest_request_ioctl.
func (v *vm) Ioctl(request uintptr, arg unsafe.Pointer) error {
	args := (*struct {
		version   uint64 // one byte and padding
		req, resp unsafe.Pointer
		exitInfo2 uint64
	})(arg)
	if v.ioctl != nil {
		args.exitInfo2 = 2 << 32
		return v.ioctl
	}
	if args.version != 1 {
		return syscall.EINVAL
	}
	var response []byte
	switch request {
	case 0xC0205300:
		response = unsafe.Slice((*byte)(args.resp), 4000)
		v.report(unsafe.Slice((*byte)(args.req), 96), response)
	case 0xC0205301:
		response = unsafe.Slice((*byte)(args.resp), 64)
		v.deriveKey((*derivedKeyRequest)(args.req), response)
	default:
		return syscall.ENOTTY
	}
	if v.mangle != nil {
		v.mangle(response)
	}
	return nil
}

// report is MSG_REPORT_REQ.
func (v *vm) report(req, resp []byte) {
	le := binary.LittleEndian
	vmpl := le.Uint32(req[64:])
	if vmpl < v.vmpl || vmpl > 3 {
		le.PutUint32(resp, 0x16)
		return
	}
	le.PutUint32(resp[4:], 1184)
	report := resp[32:]
	le.PutUint32(report, 2)
	le.PutUint32(report[4:], v.svn)
	le.PutUint64(report[8:], v.policy)
	le.PutUint32(report[0x30:], vmpl)
	if v.idBy != "" {
		digest := sha256.Sum256([]byte(v.idBy))
		copy(report[0xE0:], digest[:])
	}
	le.PutUint64(report[0x1E0:], v.chip.committed)
}

// deriveKey is MSG_KEY_REQ. The ID key is not mixed in: the worst that firmware may do.
func (v *vm) deriveKey(req *derivedKeyRequest, resp []byte) {
	v.request = append(v.request, *req)
	root, code := v.chip.root(req.root)
	exceeds := func(a, b uint64) bool {
		for ; a != 0; a, b = a>>8, b>>8 {
			if byte(a) > byte(b) {
				return true
			}
		}
		return false
	}
	if req.vmpl < v.vmpl || req.vmpl > 3 || req.fields >= 1<<6 || req.svn > v.svn || exceeds(req.tcb, v.chip.committed) {
		code = 0x16
	}
	binary.LittleEndian.PutUint32(resp, code)
	if code != 0 {
		return
	}
	mixed := []any{req.fields, req.vmpl}
	for i, field := range []any{v.policy, v.image, v.family, v.measurement, req.svn, req.tcb} {
		if req.fields&(1<<i) != 0 {
			mixed = append(mixed, field)
		}
	}
	copy(resp[32:], prf(root, mixed...))
}

func (c *chip) root(selection uint32) (root string, code uint32) {
	switch {
	case c.old && selection > 1, selection > 5:
		return "", 0x16
	case selection == 0 && c.vlek != "":
		return c.vlek, 0
	case selection == 0 || selection == 2:
		if c.masked {
			return "", 0x27
		}
		return c.key, 0
	}
	return "", 0x27
}
