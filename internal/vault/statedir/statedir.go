// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package statedir is the Coordinator's state directory: the names of the files
// in it, how they are replaced, and how old state is set aside.
//
// Invariants: a file is replaced by one rename, durably; what would be lost is
// first kept under a name that nothing has yet,
//
//	<file>.<journal id>.dropped, then .dropped.1, .dropped.2, …
//
// and never touched again. Only *.tmp files, worthless after a crash, are
// deleted without asking.
package statedir

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/seal"
)

// The files.
const (
	Data   = "sealed_data"
	Key    = "sealed_key"
	Shares = "sealed_shares"

	dropped   = ".dropped"
	maxShares = 16 << 20 // bytes
)

// Dir is a directory on a file system.
type Dir struct {
	FS   journal.FS
	Name string
	Log  *slog.Logger
}

// Path returns the path of a file in the directory.
func (d Dir) Path(name string) string { return filepath.Join(d.Name, name) }

// RemoveTemporaries deletes what a crash left unfinished.
func (d Dir) RemoveTemporaries() error {
	names, err := d.FS.ReadDir(d.Name)
	if err != nil {
		return fmt.Errorf("reading the state directory: %w", err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "sealed_") || !strings.HasSuffix(name, journal.TempSuffix) {
			continue
		}
		if err := d.FS.Remove(d.Path(name)); err != nil {
			return fmt.Errorf("removing an unfinished file: %w", err)
		}
	}
	return nil
}

// ReadKey reads sealed_key; nil if there is none.
func (d Dir) ReadKey() ([]byte, error) { return d.read(Key, seal.MaxKeyFile) }

// WriteKey replaces sealed_key.
func (d Dir) WriteKey(entries []seal.EpochKeys) error { return d.writeKey(Key, entries) }

func (d Dir) writeKey(name string, entries []seal.EpochKeys) error {
	data, err := (&seal.KeyFile{Epochs: entries}).Encode()
	if err != nil {
		return err
	}
	if err := journal.WriteFile(d.FS, d.Path(name), data); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// ReadShares reads sealed_shares; nil if there is none.
func (d Dir) ReadShares() ([]byte, error) { return d.read(Shares, maxShares) }

// WriteShares replaces sealed_shares.
func (d Dir) WriteShares(data []byte) error {
	if err := journal.WriteFile(d.FS, d.Path(Shares), data); err != nil {
		return fmt.Errorf("writing %s: %w", Shares, err)
	}
	return nil
}

func (d Dir) read(name string, limit int64) ([]byte, error) {
	data, err := journal.ReadFile(d.FS, d.Path(name), limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", d.Path(name), err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// Remove deletes a file, if it is there, durably.
func (d Dir) Remove(name string) error {
	err := d.FS.Remove(d.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	if err := d.FS.SyncDir(d.Name); err != nil {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return nil
}

// Exists reports whether a file is there.
func (d Dir) Exists(name string) (bool, error) {
	f, err := d.FS.OpenFile(d.Path(name), os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening %s: %w", name, err)
	}
	return true, f.Close()
}

// CopyAside keeps a copy of a file, if it is there, that is about to be
// replaced. A copy, not a rename: the replacement is one rename over the
// original, so at no moment does a crash leave neither the old nor the new. A
// file that was kept already, by an attempt that failed later, is not kept twice.
func (d Dir) CopyAside(name, id string) error {
	return d.aside(name, id, func(target string, earlier []string) error {
		for _, kept := range earlier {
			same, err := d.same(name, kept)
			if same || err != nil {
				return err
			}
		}
		return journal.Copy(d.FS, d.Path(name), d.Path(target))
	})
}

// same compares two files.
func (d Dir) same(a, b string) (same bool, err error) {
	var readers [2]*bufio.Reader
	for i, name := range []string{a, b} {
		f, err := d.FS.OpenFile(d.Path(name), os.O_RDONLY)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		readers[i] = bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 64<<10)
	}
	for {
		x, errX := readers[0].Peek(64 << 10)
		y, errY := readers[1].Peek(64 << 10)
		if errX != errY || !bytes.Equal(x, y) || errX != nil && errX != io.EOF {
			return false, nil // an unreadable file is not known to be the same
		}
		if errX == io.EOF {
			return true, nil
		}
		_, errX = readers[0].Discard(len(x))
		_, errY = readers[1].Discard(len(y))
		if err := errors.Join(errX, errY); err != nil {
			return false, err
		}
	}
}

// MoveAside takes a file, if it is there, out of use.
func (d Dir) MoveAside(name, id string) error {
	return d.aside(name, id, func(target string, _ []string) error {
		return journal.Commit(d.FS, d.Path(name), d.Path(target))
	})
}

// StripKeyAside takes sealed_key out of use, without the slots that this program's TEE could open.
func (d Dir) StripKeyAside(id string, entries []seal.EpochKeys) error {
	known := func(s seal.Slot) bool { return s.Kind.Known() }
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].Slots = slices.DeleteFunc(slices.Clone(entries[i].Slots), known)
	}
	return d.aside(Key, id, func(target string, _ []string) error {
		return errors.Join(d.writeKey(target, entries), d.Remove(Key))
	})
}

func (d Dir) aside(name, id string, keep func(target string, earlier []string) error) error {
	there, err := d.Exists(name)
	if err != nil || !there {
		return err
	}
	names, err := d.FS.ReadDir(d.Name)
	if err != nil {
		return fmt.Errorf("setting %s aside: %w", name, err)
	}
	target := name + "." + id + dropped
	var earlier []string
	for i := 1; slices.Contains(names, target); i++ {
		earlier = append(earlier, target)
		target = fmt.Sprintf("%s.%s%s.%d", name, id, dropped, i)
	}
	if err := keep(target, earlier); err != nil {
		return fmt.Errorf("setting %s aside: %w", name, err)
	}
	d.Log.Warn("Set old state aside", "file", name, "kept", target)
	return nil
}
