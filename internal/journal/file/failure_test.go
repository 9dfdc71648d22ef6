// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

func TestFullDisk(t *testing.T) {
	for space := range int64(220) {
		disk := journaltest.NewDisk()
		d, frames, ends := sample(t, disk, 1)
		disk.Space = int64(ends[1]) + space
		var group []journal.Frame
		for last := frames[3]; len(group) < 3; group = append(group, last) {
			last = frame(last, last.Position+1)
		}
		err := d.Append(t.Context(), 4, group)
		if fits := space >= int64(ends[1]-ends[0]); fits != (err == nil) || !fits && !errors.Is(err, journal.ErrFull) {
			t.Fatalf("%d bytes left: %v", space, err)
		}
		if err == nil {
			continue
		}
		if r, err := d.Reader(); err != nil || count(t, r) != 4 {
			t.Fatalf("%d bytes left: reading stopped", space)
		}
		if _, tail, err := load(t, disk); err != nil || tail.Last != 4 || tail.Torn != 0 {
			t.Fatalf("%d bytes left: next start sees %+v, %v", space, tail, err)
		}
		disk.Space = -1
		if err := d.Append(t.Context(), 4, group); err != nil {
			t.Fatalf("space again: %v", err)
		}
	}
}

func count(t *testing.T, r journal.Reader) (n int) {
	t.Helper()
	defer r.Close()
	for _, err := range r.Frames(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// A failed sync ends writing for ever, even when the disk works again; reading goes on.
func TestFailedSync(t *testing.T) {
	for _, op := range []string{"sync", "write"} {
		disk := journaltest.NewDisk()
		d, frames, _ := sample(t, disk, 1)
		next := []journal.Frame{frame(frames[3], 5)}
		disk.Fail = func(o, _ string) error {
			if o == op {
				return syscall.EIO
			}
			return nil
		}
		if err := d.Append(t.Context(), 4, next); !errors.Is(err, journal.ErrBroken) {
			t.Errorf("failed %s: %v", op, err)
		}
		disk.Fail = nil
		if err := d.Append(t.Context(), 4, next); !errors.Is(err, journal.ErrBroken) {
			t.Errorf("failed %s: written again afterwards: %v", op, err)
		}
		if r, err := d.Reader(); err != nil || count(t, r) != 4 {
			t.Errorf("failed %s: reading stopped", op)
		}
	}
}

// Settle stores again what a failed sync left in the page cache: the next
// process reads it there, builds on it, and must not lose it in the next crash.
func TestSettleAfterFailedSync(t *testing.T) {
	disk := journaltest.NewDisk()
	d, frames, _ := sample(t, disk, 1)
	five := frame(frames[3], 5)
	disk.Fail = func(op, _ string) error {
		if op == "sync" {
			return syscall.EIO
		}
		return nil
	}
	if err := d.Append(t.Context(), 4, []journal.Frame{five}); !errors.Is(err, journal.ErrBroken) {
		t.Fatal(err)
	}
	disk.Fail = nil
	d, tail, err := load(t, disk)
	if err != nil || tail.Last != 5 {
		t.Fatalf("%+v, %v", tail, err)
	}
	if err := d.Settle(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if err := d.Append(t.Context(), 5, []journal.Frame{frame(five, 6)}); err != nil {
		t.Fatal(err)
	}
	if _, tail, err := load(t, disk.Reboot(journaltest.All, nil)); err != nil || tail.Last != 6 {
		t.Errorf("after a crash: %+v, %v", tail, err)
	}
}

// A failed directory sync after the rename leaves either file: writing must end.
func TestFailedDirectorySync(t *testing.T) {
	disk := journaltest.NewDisk()
	d, frames, _ := sample(t, disk, 1)
	disk.Fail = func(op, _ string) error {
		if op == "syncdir" {
			return syscall.EIO
		}
		return nil
	}
	img := journal.Image{
		First: 1, Position: 4, SnapshotSize: 1,
		Snapshot: func(journal.Hash) ([]byte, error) { return []byte("s"), nil },
	}
	if err := d.Compact(t.Context(), img); !errors.Is(err, journal.ErrBroken) {
		t.Errorf("compact: %v", err)
	}
	disk.Fail = nil
	if err := d.Append(t.Context(), 4, []journal.Frame{frame(frames[3], 5)}); !errors.Is(err, journal.ErrBroken) {
		t.Errorf("append: %v", err)
	}
}

// Trouble with the new file of a compaction leaves the old one in use, and no rubbish.
func TestFailedCompaction(t *testing.T) {
	for _, op := range []string{"create", "write", "sync", "rename"} {
		disk := journaltest.NewDisk()
		d, frames, _ := sample(t, disk, 1)
		disk.Fail = func(o, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}
		img := journal.Image{
			First: 1, Position: 4, SnapshotSize: 1,
			Snapshot: func(journal.Hash) ([]byte, error) { return []byte("s"), nil },
		}
		if err := d.Compact(t.Context(), img); err == nil || errors.Is(err, journal.ErrBroken) {
			t.Errorf("%s: %v", op, err)
		}
		disk.Fail = nil
		if n := len(disk.Files()); n != 1 {
			t.Errorf("%s: %d files", op, n)
		}
		if err := d.Append(t.Context(), 4, []journal.Frame{frame(frames[3], 5)}); err != nil {
			t.Errorf("%s: append: %v", op, err)
		}
	}
}
