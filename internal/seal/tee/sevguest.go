// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"unsafe"
)

// The driver's interface, from Linux's include/uapi/linux/sev-guest.h: ioctls on /dev/sev-guest, all of them
// _IOWR('S', n, struct snp_guest_request_ioctl).
const (
	sevGuest      = "/dev/sev-guest"
	snpGetReport  = 0xC0205300
	snpDerivedKey = 0xC0205301
)

// guestRequest is struct snp_guest_request_ioctl, 32 bytes on 64-bit machines.
type guestRequest struct {
	version   uint8 // of the message, 1
	_         [7]uint8
	request   unsafe.Pointer // to the struct of the request
	response  unsafe.Pointer
	exitInfo2 uint64 // out: error of the hypervisor (high half) or firmware, if the ioctl fails
}

// reportRequest is struct snp_report_req, 96 bytes.
type reportRequest struct {
	userData [64]byte
	vmpl     uint32
	_        [28]byte
}

// reportResponse is struct snp_report_resp: MSG_REPORT_RSP has a status u32, the report's size u32, 24 reserved bytes,
// and the report.
type reportResponse [4000]byte

// derivedKeyRequest is struct snp_derived_key_req, 32 bytes: MSG_KEY_REQ.
type derivedKeyRequest struct {
	root   uint32
	_      uint32
	fields uint64
	vmpl   uint32
	svn    uint32
	tcb    uint64
}

// derivedKeyResponse is struct snp_derived_key_resp: MSG_KEY_RSP has a status u32, 28 reserved bytes, 32 bytes of key.
type derivedKeyResponse [64]byte

const (
	responseHead = 32
	keySize      = 32
)

// status is the STATUS of a response. It is authenticated, unlike the errors of an ioctl, which the host can cause.
type status uint32

const (
	statusInvalidParameter    status = 0x16
	statusInvalidKeySelection status = 0x27
)

func (s status) Error() string {
	text := "it failed"
	switch s {
	case statusInvalidParameter:
		text = "invalid parameter"
	case statusInvalidKeySelection:
		text = "invalid key selection"
	}
	return fmt.Sprintf("the security processor says: %s (status %#x)", text, uint32(s))
}

// device is an open character device.
type device interface {
	Ioctl(request uintptr, arg unsafe.Pointer) error
	Close() error
}

// guest is this virtual machine.
type guest struct {
	open func() (device, error)
	self identity
}

// identity is what a report says about this guest as far as keys go (FORMATS §5.1).
type identity struct {
	svn       uint32
	vmpl      uint32
	committed tcb  // COMMITTED_TCB: the firmware never goes below
	signed    bool // there was an ID block: ID_KEY_DIGEST is not zero
}

func newGuest(cfg Config) (*guest, error) {
	path := filepath.Join(cfg.Root, sevGuest)
	g := &guest{open: func() (device, error) { return cfg.open(path) }}
	var err error
	if g.self, err = g.identify(); err != nil {
		return nil, fmt.Errorf("asking the security processor for this guest's versions: %w", err)
	}
	return g, nil
}

// identify asks for a report at each privilege level until one is not above this guest's own.
func (g *guest) identify() (identity, error) {
	for vmpl := uint32(0); ; vmpl++ {
		report, err := g.report(vmpl)
		if errors.Is(err, statusInvalidParameter) && vmpl < 3 {
			continue
		}
		if err != nil {
			return identity{}, err
		}
		return identity{
			svn:       binary.LittleEndian.Uint32(report[0x004:]),
			vmpl:      vmpl,
			committed: tcb(binary.LittleEndian.Uint64(report[0x1E0:])),
			signed:    !bytes.Equal(report[0x0E0:0x110], make([]byte, 48)),
		}, nil
	}
}

// reportSize is that of a report, in bytes.
const reportSize = 1184

func (g *guest) report(vmpl uint32) ([]byte, error) {
	response := new(reportResponse)
	err := g.request(snpGetReport, unsafe.Pointer(&reportRequest{vmpl: vmpl}), unsafe.Pointer(response))
	if err != nil {
		return nil, err
	}
	if err := responseStatus(response[:]); err != nil {
		return nil, err
	}
	report := response[responseHead:][:reportSize]
	size, got := binary.LittleEndian.Uint32(response[4:]), binary.LittleEndian.Uint32(report[0x030:])
	if size < reportSize || got != vmpl {
		return nil, fmt.Errorf("the report has %d bytes and VMPL %d, VMPL %d was asked for", size, got, vmpl)
	}
	return report, nil
}

// derive returns a key of 32 bytes.
func (g *guest) derive(p snpParameters) ([]byte, error) {
	request := &derivedKeyRequest{root: p.root, fields: p.fields, vmpl: p.vmpl, svn: p.svn, tcb: uint64(p.tcb)}
	response := new(derivedKeyResponse)
	defer clear(response[:])
	if err := g.request(snpDerivedKey, unsafe.Pointer(request), unsafe.Pointer(response)); err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	if err := responseStatus(response[:]); err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return append(make([]byte, 0, keySize), response[responseHead:][:keySize]...), nil
}

func responseStatus(response []byte) error {
	if s := status(binary.LittleEndian.Uint32(response)); s != 0 {
		return s
	}
	return nil
}

func (g *guest) request(number uintptr, request, response unsafe.Pointer) (err error) {
	dev, err := g.open()
	if err != nil {
		return fmt.Errorf("opening %s: %w", sevGuest, err)
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	arg := &guestRequest{version: 1, request: request, response: response}
	err = dev.Ioctl(number, unsafe.Pointer(arg))
	runtime.KeepAlive(arg)
	if err != nil {
		return fmt.Errorf("asking the security processor: %w (exit info %#x)", err, arg.exitInfo2)
	}
	return nil
}
