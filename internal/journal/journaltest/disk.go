// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package journaltest has what tests of the journal and of its users share: a
// disk that forgets whatever was not synced, and the conformance suite that
// every journal driver passes.
package journaltest

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"github.com/marblerun/marblerun/internal/journal"
)

// ErrCrashed answers every operation after the crash.
var ErrCrashed = errors.New("the machine has crashed")

// Disk is a file system in memory that knows, for every byte, rename and
// directory entry, whether it was synced. Reboot gives the disk that the next
// start finds. Each operation that changes something is a boundary at which
// CrashAt can stop the machine. Directories themselves are durable at once.
type Disk struct {
	CrashAt int   // the machine stops before this operation (counted from 1); 0: never
	Space   int64 // bytes of file content that fit; negative: unlimited
	// Fail, if set, may refuse an operation: "create", "write", "sync", "truncate", "rename", "remove", "syncdir".
	Fail func(op, path string) error

	mu      sync.Mutex
	ops     int
	names   map[string]*inode // as processes see them
	durable map[string]*inode // as of the last SyncDir
	pending []change          // changes of names since, in order
	locks   map[string]bool
}

type inode struct {
	data, synced []byte
	dirty        []span // written since the last sync, refused ones included
}

type span struct{ from, to int }

// sync stores what is dirty, as a kernel does: bytes that it believes clean are not written again.
func (n *inode) sync() {
	resized := make([]byte, len(n.data))
	copy(resized, n.synced)
	n.synced = resized
	for _, s := range n.dirty {
		if s.from < len(n.data) {
			copy(n.synced[s.from:], n.data[s.from:min(s.to, len(n.data))])
		}
	}
	n.dirty = nil
}

type change struct {
	dir   string
	apply func(map[string]*inode)
}

// Loss says what a crash does to what was not synced.
type Loss int

// The losses. Mixed keeps a random prefix of the name changes and random
// sectors or bytes of each file's unsynced content.
const (
	All   Loss = iota // everything unsynced is gone
	None              // nothing is gone: the process was killed, the machine goes on
	Mixed             // anything in between
)

// NewDisk returns an empty disk.
func NewDisk() *Disk {
	return &Disk{Space: -1, names: map[string]*inode{}, durable: map[string]*inode{}, locks: map[string]bool{}}
}

// Ops counts the operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Crashed reports whether CrashAt was reached.
func (d *Disk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.CrashAt > 0 && d.ops >= d.CrashAt
}

// Reboot returns the disk that the next start finds; all on it is durable.
func (d *Disk) Reboot(loss Loss, rng *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.durable)
	keep := 0
	switch loss {
	case None:
		keep = len(d.pending)
	case Mixed:
		keep = rng.IntN(len(d.pending) + 1)
	}
	for _, c := range d.pending[:keep] {
		c.apply(names)
	}
	out := NewDisk()
	for _, name := range slices.Sorted(maps.Keys(names)) {
		data := names[name].after(loss, rng)
		out.names[name] = &inode{data: data, synced: slices.Clone(data)}
	}
	out.durable = maps.Clone(out.names)
	return out
}

func (n *inode) after(loss Loss, rng *rand.Rand) []byte {
	switch {
	case loss == None:
		return slices.Clone(n.data)
	case loss == All || slices.Equal(n.data, n.synced):
		return slices.Clone(n.synced)
	case rng.IntN(2) == 0: // a prefix, cut at any byte
		if len(n.data) <= len(n.synced) {
			return slices.Clone(n.synced)
		}
		return slices.Clone(n.data[:len(n.synced)+rng.IntN(len(n.data)-len(n.synced)+1)])
	}
	const sector = 64 // small, so that small tests tear too
	long, short := max(len(n.data), len(n.synced)), min(len(n.data), len(n.synced))
	out := make([]byte, short+rng.IntN(long-short+1))
	for at := 0; at < len(out); at += sector {
		from := n.synced
		if rng.IntN(2) == 0 {
			from = n.data
		}
		if at < len(from) {
			copy(out[at:min(at+sector, len(out))], from[at:])
		}
	}
	return out
}

// Files returns the content of all files as processes see it.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[string][]byte{}
	for name, n := range d.names {
		out[name] = slices.Clone(n.data)
	}
	return out
}

// Put writes a file durably, behind the back of the program under test; nil removes it.
func (d *Disk) Put(path string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if data == nil {
		delete(d.names, path)
		delete(d.durable, path)
		return
	}
	n := &inode{data: slices.Clone(data), synced: slices.Clone(data)}
	d.names[path], d.durable[path] = n, n
}

// step counts an operation and decides whether it happens; the caller holds d.mu.
func (d *Disk) step(op, path string) error {
	if d.CrashAt > 0 && d.ops+1 >= d.CrashAt {
		d.ops = d.CrashAt
		return ErrCrashed
	}
	d.ops++
	if d.Fail != nil {
		return d.Fail(op, path)
	}
	return nil
}

func (d *Disk) rename(dir string, apply func(map[string]*inode)) {
	apply(d.names)
	d.pending = append(d.pending, change{dir, apply})
}

// MkdirAll implements journal.FS.
func (d *Disk) MkdirAll(string) error { return nil }

// OpenFile implements journal.FS.
func (d *Disk) OpenFile(path string, flag int) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[path]
	if n == nil && flag&os.O_CREATE == 0 {
		return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ENOENT}
	}
	if n == nil || flag&os.O_TRUNC != 0 {
		if err := d.step("create", path); err != nil {
			return nil, err
		}
	}
	if n == nil {
		n = &inode{}
		d.rename(filepath.Dir(path), func(m map[string]*inode) { m[path] = n })
	} else if flag&os.O_TRUNC != 0 {
		n.data = nil
	}
	return &file{d: d, n: n, path: path}, nil
}

// Rename implements journal.FS.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("rename", to); err != nil {
		return err
	}
	n := d.names[from]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: syscall.ENOENT}
	}
	d.rename(filepath.Dir(to), func(m map[string]*inode) { delete(m, from); m[to] = n })
	return nil
}

// Remove implements journal.FS.
func (d *Disk) Remove(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("remove", path); err != nil {
		return err
	}
	if d.names[path] == nil {
		return &fs.PathError{Op: "remove", Path: path, Err: syscall.ENOENT}
	}
	d.rename(filepath.Dir(path), func(m map[string]*inode) { delete(m, path) })
	return nil
}

// ReadDir implements journal.FS.
func (d *Disk) ReadDir(path string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		if filepath.Dir(name) == path {
			out = append(out, filepath.Base(name))
		}
	}
	return out, nil
}

// SyncDir implements journal.FS.
func (d *Disk) SyncDir(path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.step("syncdir", path); err != nil {
		return err
	}
	d.pending = slices.DeleteFunc(d.pending, func(c change) bool {
		if c.dir == path {
			c.apply(d.durable)
		}
		return c.dir == path
	})
	return nil
}

type unlock func()

func (u unlock) Close() error { u(); return nil }

// LockDir implements journal.FS. A reboot frees all locks.
func (d *Disk) LockDir(path string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locks[path] {
		return nil, journal.ErrLocked
	}
	d.locks[path] = true
	return unlock(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.locks, path)
	}), nil
}
