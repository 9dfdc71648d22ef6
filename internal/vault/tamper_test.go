// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/journaltest"
	"github.com/marblerun/marblerun/internal/seal"
)

// sample is a journal with records 3 … 10 retained, a snapshot at 6, and a
// watermark at 10, taken apart.
type sample struct {
	data, key []byte // the files
	head      journal.Head
	bodies    [][]byte // of records 3 … 10
}

func takeSample(t testing.TB) sample {
	t.Helper()
	disk := journaltest.NewDisk()
	cfg := config(disk)
	cfg.HistoryLimit = 8*(seal.Overhead+int64(len("record 1"))) + 1 // records 3 to 10
	v := create(t, cfg, 10)
	var s sample
	must(t, v.Snapshot(t.Context(), 6, state(6)))
	if v.HistoryStart() != 3 {
		t.Fatalf("the sample begins at %d", v.HistoryStart())
	}
	must(t, v.Close(t.Context()))
	s.data, s.key = disk.Files()["d/sealed_data"], disk.Files()["d/sealed_key"]

	d := file.New(disk, "d/sealed_data")
	var err error
	s.head, err = d.Load(t.Context())
	must(t, err)
	_, err = d.Replay(t.Context(), func(f journal.Frame) error {
		s.bodies = append(s.bodies, bytes.Clone(f.Body))
		return nil
	})
	must(t, err)
	return s
}

// forge writes the sample with changes and correct checksums, as an attacker would who knows the format.
func (s sample) forge(t *testing.T, change func(*journal.Head, *[][]byte)) []byte {
	t.Helper()
	head, bodies := s.head, slices.Clone(s.bodies)
	head.Header = bytes.Clone(head.Header)
	change(&head, &bodies)
	disk := journaltest.NewDisk()
	img := journal.Image{
		Header: head.Header, Position: head.Position, First: head.First, Anchor: head.Anchor,
		SnapshotSize: len(head.Snapshot),
		Snapshot:     func(journal.Hash) ([]byte, error) { return head.Snapshot, nil },
	}
	must(t, file.New(disk, "f").Replace(t.Context(), img, seq(bodies)))
	return disk.Files()["f"]
}

func seq(bodies [][]byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for _, b := range bodies {
			if !yield(b, nil) {
				return
			}
		}
	}
}

func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x20
	return b
}

// Every kind of tampering leads to phase Sealed with a reason that names it;
// the table of docs/design/journal.md.
func TestTampering(t *testing.T) {
	s := takeSample(t)
	other := takeSample(t)
	forge := func(change func(*journal.Head, *[][]byte)) []byte { return s.forge(t, change) }
	header := func(old, new string) []byte {
		return forge(func(h *journal.Head, _ *[][]byte) {
			changed := bytes.Replace(h.Header, []byte(old), []byte(new), 1)
			if bytes.Equal(changed, h.Header) {
				t.Fatalf("no %q in the header", old)
			}
			h.Header = changed
		})
	}
	snapshotStart := 80 + len(s.head.Header)
	framesStart := snapshotStart + len(s.head.Snapshot)
	marbleRun := append(binary.LittleEndian.AppendUint32(nil, 4), append([]byte("null"), make([]byte, 40)...)...)
	multiParty := `{"` + strings.Repeat("ab", 32) + `":true}`
	marbleRunMulti := append(binary.LittleEndian.AppendUint32(nil, uint32(len(multiParty))), append([]byte(multiParty), make([]byte, 28)...)...)

	for name, c := range map[string]struct {
		data, key []byte
		reason    string
	}{
		"data: empty":                        {[]byte{}, s.key, "damaged in its head"},
		"data: rubbish":                      {[]byte("rubbish"), s.key, "not a journal of this program"},
		"data: newer format":                 {slices.Concat(s.data[:11], []byte{9}, s.data[12:]), s.key, "format version 9 is unknown"},
		"data: MarbleRun":                    {marbleRun, s.key, "written by MarbleRun"},
		"data: MarbleRun, multi-party":       {marbleRunMulti, nil, "written by MarbleRun"},
		"data: cut in the header":            {s.data[:100], s.key, "ends inside its header"},
		"data: cut in the snapshot":          {s.data[:snapshotStart+9], s.key, "ends inside its header or snapshot"},
		"data: cut in the history":           {s.data[:framesStart+60], s.key, "ends before record 6"},
		"data: cut in the last":              {s.data[:len(s.data)-1], s.key, "ends before record 6"},
		"data: flipped in the preamble":      {flip(s.data, 20), s.key, "checksum mismatch in the first"},
		"data: flipped in the header":        {flip(s.data, 90), s.key, "checksum mismatch in header"},
		"data: flipped in the snapshot":      {flip(s.data, snapshotStart+50), s.key, "checksum mismatch in header or snapshot"},
		"data: of another journal":           {other.data, s.key, "sealed_key belongs to another journal"},
		"key: missing":                       {s.data, nil, "sealed_key is missing"},
		"key: empty":                         {s.data, []byte{}, "sealed_key is unreadable"},
		"key: rubbish":                       {s.data, []byte("0123456789abcdef0123456789abcdef"), "sealed_key is unreadable: malformed"},
		"key: flipped":                       {s.data, flip(s.key, 100), "sealed_key is unreadable: malformed: checksum"},
		"key: newer format":                  {s.data, slices.Concat(s.key[:11], []byte{9}, s.key[12:]), "format version 9"},
		"forged: seal mode":                  {header(`"ProductKey"`, `"UniqueKey"`), s.key, "header differs"},
		"forged: recovery meta":              {header(`"recovery":"bWV0`, `"recovery":"bWFt`), s.key, "header differs"},
		"forged: recovery slot":              {header(`"kind":"recovery"`, `"kind":"recoverx"`), s.key, "header differs"},
		"forged: journal id":                 {header(`"journal":"`+string(s.head.Header[12:44]), `"journal":"`+strings.Repeat("0", 32)), s.key, "belongs to another"},
		"forged: epoch":                      {header(`"epoch":1`, `"epoch":2`), s.key, "sealed_key is older than sealed_data"},
		"forged: header is no JSON":          {header(`{"journal"`, `["journal"`), s.key, "header: malformed"},
		"forged: snapshot of another":        {forge(func(h *journal.Head, _ *[][]byte) { h.Snapshot = other.head.Snapshot }), s.key, "snapshot is not the one"},
		"forged: position of the snapshot":   {forge(func(h *journal.Head, _ *[][]byte) { h.Position = 7 }), s.key, "header differs"},
		"forged: position renumbered":        {forge(func(h *journal.Head, _ *[][]byte) { h.First, h.Position = 4, 7 }), s.key, "header differs"},
		"forged: anchor":                     {forge(func(h *journal.Head, _ *[][]byte) { h.Anchor[0] ^= 1 }), s.key, "header differs"},
		"forged: history record flipped":     {forge(func(_ *journal.Head, b *[][]byte) { (*b)[1] = flip((*b)[1], 30) }), s.key, "at record 6"},
		"forged: history records swapped":    {forge(func(_ *journal.Head, b *[][]byte) { (*b)[0], (*b)[1] = (*b)[1], (*b)[0] }), s.key, "at record 6"},
		"forged: history record removed":     {forge(func(_ *journal.Head, b *[][]byte) { *b = slices.Delete(*b, 1, 2) }), s.key, "at record 6"},
		"forged: tail record flipped":        {forge(func(_ *journal.Head, b *[][]byte) { (*b)[5] = flip((*b)[5], 30) }), s.key, "at record 8"},
		"forged: tail records swapped":       {forge(func(_ *journal.Head, b *[][]byte) { (*b)[5], (*b)[6] = (*b)[6], (*b)[5] }), s.key, "at record 8"},
		"forged: tail record removed":        {forge(func(_ *journal.Head, b *[][]byte) { *b = slices.Delete(*b, 5, 6) }), s.key, "at record 8"},
		"forged: tail record doubled":        {forge(func(_ *journal.Head, b *[][]byte) { *b = slices.Insert(*b, 6, (*b)[5]) }), s.key, "at record 9"},
		"forged: tail record of another":     {forge(func(_ *journal.Head, b *[][]byte) { (*b)[7] = other.bodies[7] }), s.key, "at record 10"},
		"forged: last records cut off":       {forge(func(_ *journal.Head, b *[][]byte) { *b = (*b)[:6] }), s.key, "older than sealed_key: it ends at record 8"},
		"forged: record too short to open":   {forge(func(_ *journal.Head, b *[][]byte) { (*b)[7] = nil }), s.key, "at record 10"},
		"forged: snapshot too short to open": {forge(func(h *journal.Head, _ *[][]byte) { h.Snapshot = []byte("x") }), s.key, "snapshot is not the one"},
	} {
		t.Run(name, func(t *testing.T) {
			disk := journaltest.NewDisk()
			disk.Put("d/sealed_data", c.data)
			disk.Put("d/sealed_key", c.key)
			v, boot := mustOpen(t, config(disk), Sealed)
			if !strings.Contains(boot.Reason, c.reason) {
				t.Errorf("reason %q, want %q", boot.Reason, c.reason)
			}
			if boot.Foreign != strings.Contains(name, "MarbleRun") {
				t.Errorf("Foreign is %t", boot.Foreign)
			}
			if got := disk.Files(); !bytes.Equal(got["d/sealed_data"], c.data) || !bytes.Equal(got["d/sealed_key"], c.key) {
				t.Error("looking at it changed it")
			}
			replacesWithoutLoss(t, v, disk, c.data)
		})
	}

	disk := journaltest.NewDisk()
	disk.Put("d/sealed_data", s.data)
	disk.Put("d/sealed_key", s.key)
	v, _ := mustOpen(t, config(disk), Ready)
	expect(t, v, 10)
}

// replacesWithoutLoss sets a new manifest over damaged state.
func replacesWithoutLoss(t *testing.T, v *Vault, disk *journaltest.Disk, old []byte) {
	t.Helper()
	must(t, v.Create(t.Context(), genesis(secretB)))
	must(t, v.Close(t.Context()))
	kept := false
	for name, data := range disk.Files() {
		kept = kept || strings.HasPrefix(name, "d/sealed_data.") && strings.Contains(name, ".dropped") && bytes.Equal(data, old)
	}
	if !kept {
		t.Errorf("the damaged state was not kept: %v", files(disk))
	}
	v, _ = mustOpen(t, config(disk), Ready)
	expect(t, v, 1)
}

// Recovery does not accept damage either, and says where it is.
func TestRecoverRefusesDamage(t *testing.T) {
	s := takeSample(t)
	disk := journaltest.NewDisk()
	disk.Put("d/sealed_data", s.forge(t, func(_ *journal.Head, b *[][]byte) { (*b)[5] = flip((*b)[5], 30) }))
	v, _ := mustOpen(t, config(disk), Sealed)
	if err := v.Recover(t.Context(), secretA); err == nil || !strings.Contains(err.Error(), "at record 8") {
		t.Errorf("recover: %v", err)
	}
	disk.Put("d/sealed_data", []byte("rubbish"))
	must(t, v.Close(t.Context()))
	v, _ = mustOpen(t, config(disk), Sealed)
	if err := v.Recover(t.Context(), secretA); !errors.Is(err, ErrNoRecovery) {
		t.Errorf("recover rubbish: %v", err)
	}
}

// A sealed_key that belongs to something else is kept when recovery writes a new one.
func TestRecoverKeepsStrangeKey(t *testing.T) {
	s, other := takeSample(t), takeSample(t)
	for name, key := range map[string][]byte{"another journal's": other.key, "unreadable": []byte("rubbish")} {
		disk := journaltest.NewDisk()
		disk.Put("d/sealed_data", s.data)
		disk.Put("d/sealed_key", key)
		v, _ := mustOpen(t, config(disk), Sealed)
		must(t, v.Recover(t.Context(), secretA))
		must(t, v.Close(t.Context()))
		kept := false
		for file, data := range disk.Files() {
			kept = kept || strings.HasPrefix(file, "d/sealed_key.") && bytes.Equal(data, key)
		}
		if !kept {
			t.Errorf("%s key is gone: %v", name, files(disk))
		}
		v, _ = mustOpen(t, config(disk), Ready)
		expect(t, v, 10)
	}
}

// failing is a disk that cannot be read.
type failing struct {
	journal.FS
	name       string
	open, read error
}

type failingFile struct {
	journal.File
	err error
}

func (f failingFile) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func (f failing) OpenFile(path string, flag int) (journal.File, error) {
	if !strings.HasSuffix(path, f.name) || flag&os.O_CREATE != 0 {
		return f.FS.OpenFile(path, flag)
	}
	if f.open != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: f.open}
	}
	inner, err := f.FS.OpenFile(path, flag)
	return failingFile{inner, f.read}, err
}

// A disk error is an error, never "no state found" and never "damaged".
func TestDiskErrorIsFatal(t *testing.T) {
	s := takeSample(t)
	for _, name := range []string{"sealed_data", "sealed_key"} {
		for _, fs := range []failing{{name: name, open: syscall.EACCES}, {name: name, open: syscall.EIO}, {name: name, read: syscall.EIO}} {
			disk := journaltest.NewDisk()
			disk.Put("d/sealed_data", s.data)
			disk.Put("d/sealed_key", s.key)
			fs.FS = disk
			if _, boot, err := Open(t.Context(), config(fs)); err == nil {
				t.Errorf("%s, open: %v, read: %v: %+v", name, fs.open, fs.read, boot)
			}
		}
	}
}
