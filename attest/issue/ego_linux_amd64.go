// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/marblerun/marblerun/attest"
)

// egoSyscall makes the real calls. EGo runs on linux/amd64 only.
type egoSyscall struct{}

func (egoSyscall) RemoteReport(data []byte) ([]byte, error) {
	var buffer *byte // memory of the enclave's C heap, which the Go runtime does not know; freed below
	var size uintptr
	result, _, errno := syscall.RawSyscall6(egoGetRemoteReport,
		uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), 0, 0,
		uintptr(unsafe.Pointer(&buffer)), uintptr(unsafe.Pointer(&size)))
	runtime.KeepAlive(data)
	if errno != 0 {
		return nil, os.NewSyscallError("oe_get_report", errno)
	}
	if result != 0 {
		return nil, resultError(result)
	}
	if buffer == nil || size > attest.MaxEvidence {
		return nil, syscall.EMSGSIZE
	}
	report := append([]byte(nil), unsafe.Slice(buffer, size)...)
	syscall.RawSyscall(egoFreeReport, uintptr(unsafe.Pointer(buffer)), size, 0)
	return report, nil
}

func (egoSyscall) FreeNothing() error {
	if _, _, errno := syscall.RawSyscall(egoFreeReport, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("oe_free_report", errno)
	}
	return nil
}
