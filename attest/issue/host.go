// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issue

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unsafe"
)

// Uname is what uname(2) says, all empty where there is none. Library OSes are told by it (marble-api §10).
type Uname struct {
	Sysname, Release, Version, Machine string
}

// Host returns the uname of the system this process sees.
func Host() Uname { return uname() }

// seams are the doors to the machine, replaced in tests.
type seams struct {
	files   files
	folders folders
	uname   func() Uname
	getenv  func(string) string
	// open opens a character device by its path on the real system.
	open func(path string) (device, error)
	ego  egoCaller
}

// files reads and writes pseudo files. Every call opens and closes the file.
type files interface {
	// Read returns the whole file, an error if it is longer than limit bytes.
	Read(name string, limit int) ([]byte, error)
	// Write writes to an existing file with one write(2); it neither creates nor truncates.
	Write(name string, data []byte) error
}

// folders makes and removes directories.
type folders interface {
	Mkdir(name string) error
	Remove(name string) error
}

// device is an open character device.
type device interface {
	Ioctl(request uintptr, arg unsafe.Pointer) error
	Close() error
}

func (s seams) withDefaults(root string) seams {
	disk := diskFiles{root}
	if s.files == nil {
		s.files = disk
	}
	if s.folders == nil {
		s.folders = disk
	}
	if s.uname == nil {
		s.uname = uname
	}
	if s.getenv == nil {
		s.getenv = os.Getenv
	}
	if s.open == nil {
		s.open = func(path string) (device, error) { return openDevice(filepath.Join(root, path)) }
	}
	if s.ego == nil {
		s.ego = egoSyscall{}
	}
	return s
}

// diskFiles are the files below root.
type diskFiles struct{ root string }

func (d diskFiles) path(name string) string { return filepath.Join(d.root, name) }

func (d diskFiles) Read(name string, limit int) (_ []byte, err error) {
	file, err := os.Open(d.path(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	return data, nil
}

func (d diskFiles) Write(name string, data []byte) (err error) {
	file, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Write(data)
	return err
}

func (d diskFiles) Mkdir(name string) error  { return os.Mkdir(d.path(name), 0o700) }
func (d diskFiles) Remove(name string) error { return os.Remove(d.path(name)) }
