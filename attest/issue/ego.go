// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"github.com/marblerun/marblerun/attest"
)

// egoMarker is set by EGo's launcher for every enclave that it starts: "1" by "ego marblerun", "0" by "ego run".
const egoMarker = "EDG_EGO_PREMAIN"

// EGo's additional system calls (FORMATS §4).
const (
	egoGetRemoteReport = 1000 // (data, size, 0, 0, &buffer, &bufferSize) -> OE result
	egoFreeReport      = 1001 // (buffer)
)

// egoCaller makes EGo's system calls.
type egoCaller interface {
	// RemoteReport returns a copy of the report, which has the Open Enclave header already.
	RemoteReport(data []byte) ([]byte, error)
	// FreeNothing frees the null pointer: a call without effect in an enclave, an unknown system call elsewhere.
	FreeNothing() error
}

type ego struct {
	mu   sync.Mutex
	call egoCaller
}

// probeEGo makes no unusual system call unless the marker is there, because a seccomp filter may kill a process for
// one. With the marker it makes one without effect. A host that sets the marker outside an enclave gets ENOSYS from
// Linux, which has no system call 1001, and the driver does not fit.
func probeEGo(_ context.Context, config Config) (Issuer, error) {
	if config.seams.getenv(egoMarker) == "" {
		return nil, fmt.Errorf("EGo is %w (%s is not set)", errAbsent, egoMarker)
	}
	err := config.seams.ego.FreeNothing()
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EPERM) || errors.Is(err, errAbsent) {
		return nil, fmt.Errorf("%s is set, but this is no EGo enclave: %w", egoMarker, err)
	}
	return &ego{call: config.seams.ego}, nil
}

func (e *ego) Name() string    { return "ego" }
func (e *ego) TEE() attest.TEE { return attest.SGX }

func (e *ego) Issue(ctx context.Context, reportData [64]byte) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	report, err := e.call.RemoteReport(reportData[:])
	if err != nil {
		return nil, fmt.Errorf("asking EGo for a remote report: %w", err)
	}
	evidence, err := attest.Parse(report)
	if err != nil {
		return nil, fmt.Errorf("EGo's remote report: %w", err)
	}
	return wrapQuote(evidence.Quote, reportData)
}

// resultError is an Open Enclave result code other than OE_OK.
type resultError uintptr

func (r resultError) Error() string {
	return fmt.Sprintf("Open Enclave result %#x; with OE_SIMULATION=1 an enclave has no quotes", uintptr(r))
}
