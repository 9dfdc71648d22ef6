// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package file_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

func TestConformanceOS(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) func() journal.Driver {
		path := filepath.Join(t.TempDir(), "sealed_data")
		return func() journal.Driver { return file.New(journal.OS(), path) }
	})
}

func TestConformanceDisk(t *testing.T) {
	journaltest.Run(t, func(*testing.T) func() journal.Driver {
		disk := journaltest.NewDisk()
		return func() journal.Driver { return file.New(disk, "d/sealed_data") }
	})
}

const (
	path        = "d/sealed_data"
	framesStart = 80 + len("header") + len("snapshot")
)

// sample writes a journal of `batches` appends of three frames each, after a first record, and
// returns it with its frames and the offset behind each batch.
func sample(t testing.TB, disk *journaltest.Disk, batches int) (*file.Driver, []journal.Frame, []int) {
	t.Helper()
	d := file.New(disk, path)
	frames := []journal.Frame{frame(journal.Frame{}, 1)}
	img := journal.Image{
		Header: []byte("header"), First: 1, SnapshotSize: 8,
		Snapshot: func(journal.Hash) ([]byte, error) { return []byte("snapshot"), nil },
	}
	if err := d.Replace(t.Context(), img, one(frames[0].Body)); err != nil {
		t.Fatal(err)
	}
	ends := []int{len(disk.Files()[path])}
	for range batches {
		last := frames[len(frames)-1]
		var group []journal.Frame
		for range 3 {
			last = frame(last, last.Position+1)
			group = append(group, last)
		}
		if err := d.Append(t.Context(), group[0].Position-1, group); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, group...)
		ends = append(ends, len(disk.Files()[path]))
	}
	return d, frames, ends
}

func frame(prev journal.Frame, position uint64) journal.Frame {
	body := bytes.Repeat([]byte{byte(position)}, 50)
	return journal.Frame{
		Position: position, Body: body, Prev: prev.Chain, Chain: journal.Link(prev.Chain, position, body),
	}
}

func one(body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) { yield(body, nil) }
}

// load opens what lies on a disk and returns its tail.
func load(t testing.TB, disk *journaltest.Disk) (*file.Driver, journal.Tail, error) {
	t.Helper()
	d := file.New(disk, path)
	if _, err := d.Load(t.Context()); err != nil {
		return d, journal.Tail{}, err
	}
	tail, err := d.Replay(t.Context(), func(journal.Frame) error { return nil })
	return d, tail, err
}

// A file cut at any byte of its last write loses that write and nothing else.
func TestTornTail(t *testing.T) {
	disk := journaltest.NewDisk()
	_, _, ends := sample(t, disk, 3)
	whole := disk.Files()[path]
	for cut := ends[2]; cut < len(whole); cut++ {
		disk.Put(path, whole[:cut])
		d, tail, err := load(t, disk)
		if err != nil || tail.Last != 7 || tail.Torn != int64(cut-ends[2]) {
			t.Fatalf("cut at %d: %+v, %v", cut, tail, err)
		}
		if err := d.Settle(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		next := frame(journal.Frame{Chain: tail.Chain}, 8)
		if err := d.Append(t.Context(), 7, []journal.Frame{next}); err != nil {
			t.Fatal(err)
		}
		if _, tail, err := load(t, disk); err != nil || tail.Last != 8 || tail.Torn != 0 {
			t.Fatalf("cut at %d, after an append: %+v, %v", cut, tail, err)
		}
	}
}

// One flipped byte anywhere is damage, with its place named, except in the last
// write, which may be torn.
func TestFlippedByte(t *testing.T) {
	disk := journaltest.NewDisk()
	_, _, ends := sample(t, disk, 3)
	whole := disk.Files()[path]
	for at := range whole {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x10
		disk.Put(path, flipped)
		_, tail, err := load(t, disk)
		if at >= ends[2] {
			if err != nil || tail.Last != 7 {
				t.Errorf("byte %d of the last write: %+v, %v", at, tail, err)
			}
			continue
		}
		var corrupt *journal.CorruptError
		if !errors.As(err, &corrupt) {
			t.Fatalf("byte %d: %+v, %v", at, tail, err)
		}
		want := uint64(0)
		switch {
		case at >= ends[1]:
			want = 5
		case at >= ends[0]:
			want = 2
		case at >= framesStart:
			want = 1
		}
		if corrupt.Position != want {
			t.Errorf("byte %d: damage at record %d, want %d", at, corrupt.Position, want)
		}
	}
}

func TestDamage(t *testing.T) {
	disk := journaltest.NewDisk()
	_, _, ends := sample(t, disk, 3)
	whole := disk.Files()[path]
	b1, b2, b3 := whole[ends[0]:ends[1]], whole[ends[1]:ends[2]], whole[ends[2]:]
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{whole[:ends[0]]}, parts...), nil) }
	for name, c := range map[string]struct {
		data     []byte
		position uint64
		text     string
	}{
		"empty":               {[]byte{}, 0, "not a journal"},
		"cut in the preamble": {whole[:40], 0, "ends after 40 bytes"},
		"cut in the snapshot": {whole[:90], 0, "ends inside"},
		"newer format":        {append(append([]byte("MRBLDATA"), 0, 0, 0, 2), whole[12:]...), 0, "format version 2"},
		"swapped":             {join(b2, b1, b3), 2, "found record 5"},
		"one missing":         {join(b1, b3), 5, "found record 8"},
		"twice":               {join(b1, b1, b2, b3), 5, "found record 2"},
		"cut in the middle":   {join(b1, b2[:40], b3), 5, "record 8 follows"},
		"zeros in the middle": {join(b1, make([]byte, len(b2)), b3), 5, "record 8 follows"},
	} {
		t.Run(name, func(t *testing.T) {
			disk.Put(path, c.data)
			_, _, err := load(t, disk)
			var corrupt *journal.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Position != c.position || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want damage at %d: %s", err, c.position, c.text)
			}
		})
	}
}

func TestSnapshotRecordsAreNeverTorn(t *testing.T) {
	disk := journaltest.NewDisk()
	d, frames, _ := sample(t, disk, 2)
	img := journal.Image{
		First: 1, Position: 7, SnapshotSize: 1,
		Snapshot: func(journal.Hash) ([]byte, error) { return []byte("s"), nil },
	}
	if err := d.Compact(t.Context(), img); err != nil {
		t.Fatal(err)
	}
	whole := disk.Files()[path]
	disk.Put(path, whole[:len(whole)-1])
	_, _, err := load(t, disk)
	var corrupt *journal.CorruptError
	if !errors.As(err, &corrupt) {
		t.Errorf("record %d of the snapshot is cut: %v", len(frames), err)
	}
}

func FuzzReplay(f *testing.F) {
	disk := journaltest.NewDisk()
	_, _, ends := sample(f, disk, 2)
	whole := disk.Files()[path]
	f.Add(whole)
	f.Add(whole[:ends[1]+10])
	f.Add(whole[:85])
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := journaltest.NewDisk()
		disk.Put(path, append([]byte{}, data...))
		d, tail, err := load(t, disk)
		var corrupt *journal.CorruptError
		if err != nil {
			if !errors.As(err, &corrupt) {
				t.Fatalf("neither journal nor damage: %v", err)
			}
			return
		}
		if err := d.Settle(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		next := frame(journal.Frame{Chain: tail.Chain}, tail.Last+1)
		if err := d.Append(t.Context(), tail.Last, []journal.Frame{next}); err != nil {
			t.Fatal(err)
		}
		if _, again, err := load(t, disk); err != nil || again.Last != tail.Last+1 {
			t.Fatalf("appended after %d, then found %s, %v", tail.Last, fmt.Sprint(again), err)
		}
	})
}
