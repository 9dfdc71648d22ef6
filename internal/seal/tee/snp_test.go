// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/marblerun/marblerun/internal/seal"
)

func milan() *chip { return &chip{key: "chip 1", committed: 0x73_08_00_00_00_00_00_03} }

func firstGuest(c *chip) vm {
	return vm{chip: c, policy: 0x30000, measurement: "kernel 1", image: "image", family: "family", idBy: "owner", svn: 5}
}

func TestSNP(t *testing.T) {
	g := firstGuest(milan())
	s := g.start(t, true)
	product, unique := sealed(t, s.Product), sealed(t, s.Unique)
	const no = "the key is another one"
	for _, test := range []struct {
		name            string
		change          func(*vm)
		product, unique string // refusals
	}{
		{"the same again", func(*vm) {}, "", ""},
		{"changed guest", func(v *vm) { v.measurement = "kernel 2" }, "", no},
		{"another machine", func(v *vm) { v.chip.key = "chip 2" }, no, no},
		{"another policy", func(v *vm) { v.policy |= 1 << 19 }, no, no},
		{"another image id", func(v *vm) { v.image = "another" }, no, no},
		{"another family id", func(v *vm) { v.family = "another" }, no, no},
		{"lower SVN", func(v *vm) { v.svn = 4 }, "a guest of SVN 5, this guest has SVN 4", "this guest has SVN 4"},
		{"higher SVN", func(v *vm) { v.svn = 6 }, "", ""},
		{"higher SVN, new kernel", func(v *vm) { v.svn, v.measurement = 6, "kernel 2" }, "", no},
		{"firmware update", func(v *vm) { v.chip.committed += 1 << 56 }, "", ""},
		{"older firmware", func(v *vm) { v.chip.committed -= 1 << 48 }, "committed to 7307", "committed to 7307"},
		{"one component older", func(v *vm) { v.chip.committed += 1<<56 - 1 }, "committed to 7408", "committed to 7408"},
		{"less privileged", func(v *vm) { v.vmpl = 2 }, "sealed at VMPL 0, this guest runs at VMPL 2", "VMPL"},
		{"provider's key added", func(v *vm) { v.chip.vlek = "provider" }, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			other := firstGuest(milan())
			test.change(&other)
			s := other.start(t, true)
			wantOpen(t, s.Product, product, test.product)
			wantOpen(t, s.Unique, unique, test.unique)
			if other.opened != 0 {
				t.Error("the device stays open")
			}
		})
	}
}

// What an updated guest seals, the older one does not open; it seals with its own version, not with that of a blob.
func TestSNPUpgrade(t *testing.T) {
	old, updated := firstGuest(milan()), firstGuest(milan())
	updated.svn, updated.measurement, updated.chip.committed = 6, "kernel 2", 0x74_08_00_00_00_00_00_03
	before, after := old.start(t, true), updated.start(t, true)
	wantOpen(t, after.Product, sealed(t, before.Product), "")
	wantOpen(t, before.Product, sealed(t, after.Product), "SVN 6")
	updated.request = nil
	sealed(t, after.Product)
	if got := updated.request[0]; got.svn != 6 || got.tcb != 0x74_08_00_00_00_00_00_03 || got.root != rootChip {
		t.Errorf("sealed for %+v", got)
	}
}

// By default a guest that somebody else made, with the same ids, does not have the product key; nor, of course, has
// the next version of the guest.
func TestSNPProductByDefault(t *testing.T) {
	own, impostor := firstGuest(milan()), firstGuest(milan())
	impostor.measurement, impostor.idBy = "evil", "somebody"
	blob := sealed(t, own.start(t, false).Product)
	wantOpen(t, own.start(t, false).Product, blob, "")
	wantOpen(t, own.start(t, true).Product, blob, "") // stricter than needed
	wantOpen(t, impostor.start(t, true).Product, blob, "the key is another one")

	// Nor can the impostor feed the guest with a state of his own making.
	wantOpen(t, own.start(t, false).Product, sealed(t, impostor.start(t, true).Product),
		"guest fields 0x37, this sealer needs 0x3f")
	wantOpen(t, own.start(t, false).Product, sealed(t, own.start(t, true).Product), "guest fields 0x37")
}

func TestSNPWithoutIDBlock(t *testing.T) {
	g := firstGuest(milan())
	g.idBy = ""
	if _, err := For(t.Context(), inSNP, Config{open: g.open, SNPProductByIDBlock: true}); err == nil ||
		!strings.Contains(err.Error(), "launched without one") {
		t.Errorf("got %v", err)
	}
	g.start(t, false)
}

// Parameters that the host wrote are not followed.
func TestSNPForeignParameters(t *testing.T) {
	g := firstGuest(milan())
	s := g.start(t, true)
	good := snpParameters{rootChip, fieldsProduct, 0, 5, tcb(g.chip.committed)}
	for want, change := range map[string]func(*snpParameters){
		"root key 0x1":      func(p *snpParameters) { p.root = 1 },
		"root key 0x4":      func(p *snpParameters) { p.root = 4 },
		"guest fields 0x0":  func(p *snpParameters) { p.fields = 0 },
		"guest fields 0x36": func(p *snpParameters) { p.fields &^= fieldPolicy },
		"guest fields 0x77": func(p *snpParameters) { p.fields |= 1 << 6 },
		"sealed at VMPL 3":  func(p *snpParameters) { p.vmpl = 3 },
	} {
		p := good
		change(&p)
		key, _ := s.Product.(*snp).guest.derive(p)
		if key == nil {
			key = secret // the firmware refuses, too
		}
		blob, err := sealBlob(key, labelSNPProduct, driverSNP, p.encode(), secret, aad, bytes.NewReader(make([]byte, 32)))
		must(t, err)
		wantOpen(t, s.Product, blob, want)
	}
}

// The chip's key is preferred; without it the provider's is taken, which opens on all of the provider's machines.
func TestSNPRoots(t *testing.T) {
	for _, test := range []struct {
		name      string
		chip      chip
		root      uint32
		elsewhere string
	}{
		{"chip", chip{key: "1"}, rootChip, "another one"},
		{"both", chip{key: "1", vlek: "provider"}, rootChip, "another one"},
		{"old firmware", chip{key: "1", old: true}, rootDefault, "another one"},
		{"masked", chip{key: "1", vlek: "provider", masked: true}, rootDefault, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, other := firstGuest(&test.chip), firstGuest(nil)
			blob := sealed(t, g.start(t, false).Unique)
			if got := decodeSNPParameters(blob[headSize:]).root; got != test.root {
				t.Errorf("root key %d", got)
			}
			wantOpen(t, g.start(t, false).Unique, blob, "")
			moved := test.chip
			moved.key = "2"
			other.chip = &moved
			wantOpen(t, other.start(t, false).Unique, blob, test.elsewhere)
		})
	}
	g := firstGuest(&chip{masked: true})
	if _, err := g.start(t, false).Unique.Seal(t.Context(), secret, aad); !errors.Is(err, statusInvalidKeySelection) {
		t.Errorf("no key at all: %v", err)
	}
}

// An ioctl that fails may be the host's doing: it is no reason for another key, and no wrong key.
func TestSNPHostFails(t *testing.T) {
	g := firstGuest(milan())
	s := g.start(t, false)
	blob := sealed(t, s.Unique)
	g.ioctl, g.request = syscall.EIO, nil
	_, sealErr := s.Unique.Seal(t.Context(), secret, aad)
	_, openErr := s.Unique.Unseal(t.Context(), blob, aad)
	for _, err := range []error{sealErr, openErr} {
		if !errors.Is(err, syscall.EIO) || errors.Is(err, seal.ErrWrongKey) || !strings.Contains(err.Error(), "0x200000000") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := For(t.Context(), inSNP, Config{open: g.open}); !errors.Is(err, syscall.EIO) {
		t.Errorf("start: %v", err)
	}
	if g.opened != 0 {
		t.Error("the device stays open")
	}
}

func TestSNPOddFirmware(t *testing.T) {
	g := firstGuest(milan())
	s := g.start(t, false)
	g.mangle = func(response []byte) { clear(response) }
	if _, err := s.Unique.Seal(t.Context(), secret, aad); !errors.Is(err, errZeroKey) {
		t.Errorf("key of zeros: %v", err)
	}
	if _, err := For(t.Context(), inSNP, Config{open: g.open}); err == nil || !strings.Contains(err.Error(), "0 bytes") {
		t.Errorf("empty report: %v", err)
	}
	g.mangle = func(response []byte) { response[0] = 0x7f }
	if _, err := s.Unique.Seal(t.Context(), secret, aad); !errors.Is(err, status(0x7f)) {
		t.Errorf("unknown status: %v", err)
	}
}

// The guest's own level is the smallest number that it may ask for.
func TestSNPPrivilege(t *testing.T) {
	for vmpl := range uint32(4) {
		g := firstGuest(milan())
		g.vmpl = vmpl
		s := g.start(t, false)
		if got := decodeSNPParameters(sealed(t, s.Unique)[headSize:]).vmpl; got != vmpl {
			t.Errorf("VMPL %d instead of %d", got, vmpl)
		}
	}
}

// The layouts of Linux's sev-guest.h.
func TestLayouts(t *testing.T) {
	iowr := func(number, size uintptr) uintptr { return 3<<30 | size<<16 | 'S'<<8 | number }
	size := unsafe.Sizeof(guestRequest{})
	if snpGetReport != iowr(0, size) || snpDerivedKey != iowr(1, size) || size != 32 {
		t.Errorf("ioctls of %d bytes", size)
	}
	if n := unsafe.Sizeof(reportRequest{}); n != 96 {
		t.Errorf("report request of %d bytes", n)
	}
	if n := unsafe.Sizeof(derivedKeyRequest{}); n != 32 {
		t.Errorf("key request of %d bytes", n)
	}
	var r derivedKeyRequest
	offsets := []uintptr{unsafe.Offsetof(r.root), unsafe.Offsetof(r.fields), unsafe.Offsetof(r.vmpl),
		unsafe.Offsetof(r.svn), unsafe.Offsetof(r.tcb)}
	for i, want := range []uintptr{0, 8, 16, 20, 24} {
		if offsets[i] != want {
			t.Errorf("field %d at offset %d", i, offsets[i])
		}
	}
}

// The real device of an ordinary process: none.
func TestRealDevice(t *testing.T) {
	if _, err := openDevice(filepath.Join(t.TempDir(), "sev-guest")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	s, err := For(t.Context(), inSNP, Config{open: func(string) (device, error) { return openDevice(path) }})
	if err == nil || s.Unique != nil {
		t.Errorf("a plain file as device: %+v, %v", s, err)
	}
}
