// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/marblerun/marblerun/attest"
)

// Occlum's interface (FORMATS §4): _IOR('s', 7, uint32) and _IOWR('s', 8, struct of three pointers).
const (
	occlumDevice       = "/dev/sgx"
	occlumGetQuoteSize = 0x80047307
	occlumGenQuote     = 0xC0187308
)

// occlumQuoteArgs is the argument of occlumGenQuote, 24 bytes on amd64.
type occlumQuoteArgs struct {
	reportData *[64]byte
	quoteSize  *uint32 // in: size of the buffer; out: size of the quote, which may be less
	quote      *byte
}

type occlum struct {
	mu   sync.Mutex // the device is shared by all threads of the library OS
	open func(string) (device, error)
}

// probeOcclum asks uname first: /dev/sgx is also the name of an SGX driver's device on ordinary hosts.
func probeOcclum(_ context.Context, config Config) (Issuer, error) {
	if name := config.seams.uname().Sysname; name != "Occlum" {
		return nil, fmt.Errorf("interface %w (uname says %q)", errAbsent, name)
	}
	dev, err := config.seams.open(occlumDevice)
	if err != nil {
		return nil, absent(occlumDevice, err)
	}
	return &occlum{open: config.seams.open}, dev.Close()
}

func (o *occlum) Name() string    { return "occlum" }
func (o *occlum) TEE() attest.TEE { return attest.SGX }

func (o *occlum) Issue(ctx context.Context, reportData [64]byte) (evidence []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dev, err := o.open(occlumDevice)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", occlumDevice, err)
	}
	defer func() { err = errors.Join(err, dev.Close()) }()

	var size uint32
	if err := dev.Ioctl(occlumGetQuoteSize, unsafe.Pointer(&size)); err != nil {
		return nil, fmt.Errorf("asking Occlum for the size of a quote: %w", err)
	}
	if size == 0 || size > attest.MaxEvidence {
		return nil, fmt.Errorf("the announced size of the quote, %d bytes, makes no sense", size)
	}
	quote, err := occlumQuote(dev, reportData, size)
	if err != nil {
		return nil, err
	}
	return wrapQuote(quote, reportData)
}

func occlumQuote(dev device, reportData [64]byte, size uint32) ([]byte, error) {
	buffer := make([]byte, size)
	args := &occlumQuoteArgs{reportData: &reportData, quoteSize: &size, quote: &buffer[0]}
	err := dev.Ioctl(occlumGenQuote, unsafe.Pointer(args))
	runtime.KeepAlive(args)
	runtime.KeepAlive(buffer)
	if err != nil {
		return nil, fmt.Errorf("asking Occlum for a quote: %w", err)
	}
	if int(size) > len(buffer) {
		return nil, fmt.Errorf("got a quote of %d bytes in a buffer of %d", size, len(buffer))
	}
	return buffer[:size], nil
}
