// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"os"
	"syscall"
	"unsafe"
)

func uname() Uname {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return Uname{} // only a bad address can fail; an empty answer matches no library OS
	}
	return Uname{text(u.Sysname[:]), text(u.Release[:]), text(u.Version[:]), text(u.Machine[:])}
}

// text reads a NUL-terminated string; its element type differs between architectures.
func text[T int8 | uint8](field []T) string {
	var out []byte
	for _, c := range field {
		if c == 0 {
			break
		}
		out = append(out, byte(c))
	}
	return string(out)
}

type linuxDevice struct{ *os.File }

func openDevice(path string) (device, error) {
	file, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return linuxDevice{file}, nil
}

func (d linuxDevice) Ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, d.Fd(), request, uintptr(arg)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
