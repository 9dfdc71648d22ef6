// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// intelVendorID is at offset 12 of every quote by Intel's quoting enclave.
const intelVendorID = "\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07"

// sgxQuote is a quote version 3 as far as an issuer looks into it.
func sgxQuote(reportData []byte) []byte {
	quote := make([]byte, 48+384+700)
	binary.LittleEndian.PutUint16(quote, 3)
	binary.LittleEndian.PutUint16(quote[2:], 2)
	copy(quote[12:], intelVendorID)
	copy(quote[48+320:], reportData)
	return quote
}

// tdxQuote is a quote version 4, zero padded as real ones are.
func tdxQuote(reportData []byte) []byte {
	quote := make([]byte, 48+584+1500)
	binary.LittleEndian.PutUint16(quote, 4)
	binary.LittleEndian.PutUint16(quote[2:], 2)
	copy(quote[12:], intelVendorID)
	binary.LittleEndian.PutUint32(quote[4:], 0x81)
	copy(quote[48+520:], reportData)
	return quote
}

// snpReport is a report version 2.
func snpReport(reportData []byte, vmpl uint32) []byte {
	report := make([]byte, 1184)
	binary.LittleEndian.PutUint32(report, 2)
	binary.LittleEndian.PutUint32(report[0x30:], vmpl)
	binary.LittleEndian.PutUint32(report[0x34:], 1)
	copy(report[0x50:], reportData)
	return report
}

// gramineFiles behaves as Gramine's /dev/attestation: a short write to user_report_data is padded, and reading the
// quote makes a new one.
type gramineFiles struct {
	kind       string // content of attestation_type; "-" for none such file
	reportData [64]byte
	quote      func(reportData []byte) []byte
	readErr    error
}

func (g *gramineFiles) Read(name string, limit int) ([]byte, error) {
	var data []byte
	switch {
	case name == "/dev/attestation/attestation_type" && g.kind != "-":
		data = []byte(g.kind)
	case name == "/dev/attestation/user_report_data":
		data = g.reportData[:]
	case name == "/dev/attestation/quote" && g.readErr != nil:
		return nil, g.readErr
	case name == "/dev/attestation/quote" && g.kind != "none":
		data = g.quote(g.reportData[:])
	default:
		return nil, fs.ErrNotExist
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	return data, nil
}

func (g *gramineFiles) Write(name string, data []byte) error {
	if name != "/dev/attestation/user_report_data" {
		return syscall.EACCES
	}
	if len(data) > 64 {
		return syscall.EINVAL
	}
	g.reportData = [64]byte{}
	copy(g.reportData[:], data)
	return nil
}

// occlumDev behaves as Occlum's /dev/sgx.
type occlumDev struct {
	size   uint32 // what it announces
	quote  func(reportData []byte) []byte
	opened int
}

func (o *occlumDev) open(name string) (device, error) {
	if name != "/dev/sgx" {
		return nil, fs.ErrNotExist
	}
	o.opened++
	return o, nil
}

func (o *occlumDev) Ioctl(request uintptr, arg unsafe.Pointer) error {
	switch request {
	case 0x80047307:
		*(*uint32)(arg) = o.size
		return nil
	case 0xC0187308:
		args := (*struct {
			reportData *[64]byte
			size       *uint32
			buffer     *byte
		})(arg)
		quote := o.quote(args.reportData[:])
		if int(*args.size) < len(quote) {
			return syscall.EINVAL
		}
		*args.size = uint32(copy(unsafe.Slice(args.buffer, *args.size), quote))
		return nil
	}
	return syscall.ENOTTY
}

func (o *occlumDev) Close() error { o.opened--; return nil }

// egoCalls behaves as the system calls of an EGo enclave, or, with free set, as those of Linux.
type egoCalls struct {
	free, report error
	calls        int
}

func (e *egoCalls) RemoteReport(data []byte) ([]byte, error) {
	e.calls++
	if e.report != nil {
		return nil, e.report
	}
	quote := sgxQuote(data)
	header := binary.LittleEndian.AppendUint32(nil, 1)
	header = binary.LittleEndian.AppendUint32(header, 2)
	return append(binary.LittleEndian.AppendUint64(header, uint64(len(quote))), quote...), nil
}

func (e *egoCalls) FreeNothing() error { e.calls++; return e.free }

// tsmKernel behaves as the kernel's drivers/virt/coco/guest/report.c: entries appear with mkdir, each write of an
// input raises the generation, an output is made when it is read first after a write and is cached after that,
// nothing can be read before an inblob was written, and errors of writing an inblob (a binary attribute) are reported
// to nobody.
type tsmKernel struct {
	mu       sync.Mutex
	provider string
	floor    uint64
	table    []byte
	entries  map[string]*tsmEntry

	mkdirErr error
	// before runs before each operation, e.g. to race with it; it may return an error to inject.
	before func(k *tsmKernel, operation, name string) error
}

type tsmEntry struct {
	inblob         []byte
	privlevel      uint64
	write, read    uint64
	outblob, table []byte
}

func newTSMKernel(provider string) *tsmKernel {
	return &tsmKernel{provider: provider, entries: map[string]*tsmEntry{}}
}

func (k *tsmKernel) hook(operation, name string) error {
	if k.before == nil {
		return nil
	}
	return k.before(k, operation, name)
}

func (k *tsmKernel) Mkdir(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.hook("mkdir", name); err != nil {
		return err
	}
	if path.Dir(name) != "/sys/kernel/config/tsm/report" {
		return fs.ErrNotExist
	}
	if k.mkdirErr != nil {
		return k.mkdirErr
	}
	if k.entries[name] != nil {
		return fs.ErrExist
	}
	k.entries[name] = &tsmEntry{}
	return nil
}

func (k *tsmKernel) Remove(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries[name] == nil {
		return fs.ErrNotExist
	}
	delete(k.entries, name)
	return nil
}

func (k *tsmKernel) Write(name string, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.hook("write", name); err != nil {
		return err
	}
	entry := k.entries[path.Dir(name)]
	if entry == nil {
		return fs.ErrNotExist
	}
	switch path.Base(name) {
	case "inblob":
		if len(data) == 64 { // else -EINVAL, which the binary attribute swallows
			entry.inblob = append([]byte(nil), data...)
			entry.write++
		}
		return nil
	case "privlevel":
		level, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 8)
		if k.provider != "sev_guest" {
			return fs.ErrNotExist
		}
		if err != nil || level < k.floor || level > 3 {
			return syscall.EINVAL
		}
		entry.privlevel = level
		entry.write++
		return nil
	}
	return fs.ErrNotExist
}

func (k *tsmKernel) Read(name string, limit int) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.hook("read", name); err != nil {
		return nil, err
	}
	entry := k.entries[path.Dir(name)]
	if entry == nil {
		return nil, fs.ErrNotExist
	}
	snp := k.provider == "sev_guest"
	switch attribute := path.Base(name); {
	case attribute == "provider":
		return []byte(k.provider + "\n"), nil
	case attribute == "generation":
		return fmt.Appendf(nil, "%d\n", entry.write), nil
	case attribute == "privlevel_floor" && snp:
		return fmt.Appendf(nil, "%d\n", k.floor), nil
	case attribute == "outblob":
		return k.make(entry, limit, func() []byte { return entry.outblob })
	case attribute == "auxblob" && snp:
		return k.make(entry, limit, func() []byte { return entry.table })
	}
	return nil, fs.ErrNotExist
}

func (k *tsmKernel) make(entry *tsmEntry, limit int, pick func() []byte) ([]byte, error) {
	if entry.inblob == nil {
		return nil, syscall.EINVAL
	}
	if entry.outblob == nil || entry.read != entry.write {
		if k.provider == "sev_guest" {
			entry.outblob, entry.table = snpReport(entry.inblob, uint32(entry.privlevel)), k.table
		} else {
			entry.outblob = tdxQuote(entry.inblob)
		}
		entry.read = entry.write
	}
	if len(pick()) > limit {
		return nil, fmt.Errorf("longer than %d bytes", limit)
	}
	return pick(), nil
}
