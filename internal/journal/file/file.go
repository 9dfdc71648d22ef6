// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package file is the journal driver that keeps a journal in one file.
//
// Layout: a fixed preamble, the header, the snapshot, then batches of frames;
// one Append writes one batch and syncs once (layout.go, docs/design/journal.md).
// The file only ever grows at its end, so a copy taken at any moment is a
// valid journal with at most a torn tail. A new snapshot or another header
// means a new file, written beside it and renamed over it; compaction copies
// frames unread while appends go on and stops them only for the last few.
//
// A tail is torn if the bytes at the end are no whole batch and no batch of a
// later position follows them. Everything else that does not parse is damage.
// Whether a torn tail may be dropped is the caller's decision: Replay only
// reports it, Settle cuts it off.
package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"

	"github.com/marblerun/marblerun/internal/journal"
)

// Driver keeps one journal in one file.
type Driver struct {
	fs   journal.FS
	path string

	rewriting sync.Mutex // held by Compact and Replace: one new file at a time
	writing   sync.Mutex // held by everything that changes the current file or swaps it
	out       writer     // Append's buffer, under writing

	mu      sync.Mutex // guards the fields below
	img     *image     // nil: nothing opened yet
	settled bool       // the end of the log is known and durable
	closed  bool
	broken  error // set once; ends writing
}

// image is one generation of the file, kept open while anybody reads it.
type image struct {
	f    journal.File
	refs atomic.Int32

	start mark // of the first batch
	// Under Driver.mu, because appends change them.
	index index
	end   int64 // offset behind the last durable batch
	last  uint64
	chain journal.Hash
}

func (g *image) release() error {
	if g.refs.Add(-1) > 0 {
		return nil
	}
	return g.f.Close()
}

var _ journal.Driver = (*Driver)(nil)

// New returns the driver for a path. Nothing is opened or created.
func New(fsys journal.FS, path string) *Driver { return &Driver{fs: fsys, path: path} }

// open returns the current image, opening the file if needed.
func (d *Driver) open() (*image, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, journal.ErrClosed
	}
	if d.img != nil {
		return d.img, nil
	}
	f, err := d.fs.OpenFile(d.path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", journal.ErrNotFound, err)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	d.img = &image{f: f}
	d.img.refs.Store(1)
	return d.img, nil
}

// Close implements journal.Driver.
func (d *Driver) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.img == nil {
		d.closed = true
		return nil
	}
	d.closed = true
	return d.img.release()
}
