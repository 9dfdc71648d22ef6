// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package journaltest

import (
	"io"
	"slices"
	"syscall"
)

type file struct {
	d    *Disk
	n    *inode
	path string
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes what fits: a full disk takes the first part.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("write", f.path); err != nil {
		return 0, err
	}
	fits := p
	if f.d.Space >= 0 {
		grow := off + int64(len(p)) - int64(len(f.n.data))
		if over := grow - max(f.d.free(), 0); grow > 0 && over > 0 {
			fits = p[:max(int64(len(p))-over, 0)]
		}
	}
	if len(fits) > 0 {
		if need := int(off) + len(fits) - len(f.n.data); need > 0 {
			f.n.data = append(f.n.data, make([]byte, need)...)
		}
		copy(f.n.data[off:], fits)
		f.n.dirty = append(f.n.dirty, span{int(off), int(off) + len(fits)})
	}
	if len(fits) < len(p) {
		return len(fits), syscall.ENOSPC
	}
	return len(p), nil
}

// free is the space left; the caller holds d.mu.
func (d *Disk) free() int64 {
	free := d.Space
	for _, n := range d.names {
		free -= int64(len(n.data))
	}
	return free
}

// Sync makes the content durable. After a refused sync the pages count as
// clean, as in a real kernel: only writing them again can store them.
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("sync", f.path); err != nil {
		f.n.dirty = nil
		return err
	}
	f.n.sync()
	return nil
}

func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.step("truncate", f.path); err != nil {
		return err
	}
	if grow := int(size) - len(f.n.data); grow > 0 {
		f.n.data = append(f.n.data, make([]byte, grow)...)
	}
	f.n.data = slices.Clone(f.n.data[:size])
	return nil
}

func (f *file) Size() (int64, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *file) Close() error { return nil }
