// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"slices"
	"strings"
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

// tampered is a case of TestTampering: the two files, and what the reason must contain.
type tampered struct {
	data, key []byte
	reason    string
}

// Every kind of tampering leads to phase Sealed with a reason that names it;
// the table of docs/design/journal.md.
func TestTampering(t *testing.T) {
	s, other := takeSample(t), takeSample(t)
	cases := map[string]tampered{}
	damagedFiles(s, other, cases)
	forgedHeads(t, s, other, cases)
	forgedRecords(t, s, other, cases)
	for name, c := range cases {
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
			got := disk.Files()
			if !bytes.Equal(got["d/sealed_data"], c.data) || !bytes.Equal(got["d/sealed_key"], c.key) {
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

func damagedFiles(s, other sample, cases map[string]tampered) {
	snapshot := 80 + len(s.head.Header)
	frames := snapshot + len(s.head.Snapshot)
	marbleRun := func(header string) []byte {
		out := binary.LittleEndian.AppendUint32(nil, uint32(len(header)))
		return append(append(out, header...), make([]byte, 40)...)
	}
	multiParty := marbleRun(`{"` + strings.Repeat("ab", 32) + `":true}`)
	version9 := func(b []byte) []byte { return slices.Concat(b[:11], []byte{9}, b[12:]) }
	rubbish := []byte("0123456789abcdef0123456789abcdef")
	for name, c := range map[string]tampered{
		"data: empty":                   {[]byte{}, s.key, "damaged in its head"},
		"data: rubbish":                 {rubbish, s.key, "not a journal of this program"},
		"data: newer format":            {version9(s.data), s.key, "format version 9 is unknown"},
		"data: MarbleRun":               {marbleRun("null"), s.key, "written by MarbleRun"},
		"data: MarbleRun, multi-party":  {multiParty, nil, "written by MarbleRun"},
		"data: cut in the header":       {s.data[:100], s.key, "ends inside its header"},
		"data: cut in the snapshot":     {s.data[:snapshot+9], s.key, "ends inside its header or snapshot"},
		"data: cut in the history":      {s.data[:frames+60], s.key, "ends before record 6"},
		"data: cut in the last batch":   {s.data[:len(s.data)-1], s.key, "ends before record 6"},
		"data: flipped in the preamble": {flip(s.data, 20), s.key, "checksum mismatch in the first"},
		"data: flipped in the header":   {flip(s.data, 90), s.key, "checksum mismatch in header"},
		"data: flipped in the snapshot": {flip(s.data, snapshot+50), s.key, "checksum mismatch in header or snapshot"},
		"data: of another journal":      {other.data, s.key, "sealed_key belongs to another journal"},
		"key: missing":                  {s.data, nil, "sealed_key is missing"},
		"key: empty":                    {s.data, []byte{}, "sealed_key is unreadable"},
		"key: rubbish":                  {s.data, rubbish, "sealed_key is unreadable: malformed"},
		"key: flipped":                  {s.data, flip(s.key, 100), "sealed_key is unreadable: malformed: checksum"},
		"key: newer format":             {s.data, version9(s.key), "format version 9"},
	} {
		cases[name] = c
	}
}

func forgedHeads(t *testing.T, s, other sample, cases map[string]tampered) {
	t.Helper()
	const differs = "header differs from the one"
	header := func(name, reason, old, new string) {
		cases["forged: "+name] = tampered{s.forge(t, func(h *journal.Head, _ *[][]byte) {
			changed := bytes.Replace(h.Header, []byte(old), []byte(new), 1)
			if bytes.Equal(changed, h.Header) {
				t.Fatalf("no %q in the header", old)
			}
			h.Header = changed
		}), s.key, reason}
	}
	id := string(s.head.Header[12:44])
	header("seal mode", differs, `"ProductKey"`, `"UniqueKey"`)
	header("recovery meta", differs, `"recovery":"bWV0`, `"recovery":"bWFt`)
	header("recovery slot", differs, `"kind":"recovery"`, `"kind":"recoverx"`)
	header("journal id", "belongs to another", `"journal":"`+id, `"journal":"`+strings.Repeat("0", 32))
	header("epoch", "sealed_key is older than sealed_data", `"epoch":1`, `"epoch":2`)
	header("no JSON", "header: malformed", `{"journal"`, `["journal"`)

	head := func(name, reason string, change func(*journal.Head)) {
		data := s.forge(t, func(h *journal.Head, _ *[][]byte) { change(h) })
		cases["forged: "+name] = tampered{data, s.key, reason}
	}
	head("snapshot of another", "snapshot is not the one", func(h *journal.Head) { h.Snapshot = other.head.Snapshot })
	head("snapshot too short", "snapshot is not the one", func(h *journal.Head) { h.Snapshot = []byte("x") })
	head("position of the snapshot", differs, func(h *journal.Head) { h.Position = 7 })
	head("renumbered", differs, func(h *journal.Head) { h.First, h.Position = 4, 7 })
	head("anchor", differs, func(h *journal.Head) { h.Anchor[0] ^= 1 })
}

// forgedRecords changes records 3 to 10; index 0 is record 3, the snapshot is at 6.
func forgedRecords(t *testing.T, s, other sample, cases map[string]tampered) {
	t.Helper()
	forge := func(name, reason string, change func(b [][]byte) [][]byte) {
		data := s.forge(t, func(_ *journal.Head, b *[][]byte) { *b = change(*b) })
		cases["forged: "+name] = tampered{data, s.key, reason}
	}
	set := func(i int, body []byte) func([][]byte) [][]byte {
		return func(b [][]byte) [][]byte { b[i] = body; return b }
	}
	swap := func(i int) func([][]byte) [][]byte {
		return func(b [][]byte) [][]byte { b[i], b[i+1] = b[i+1], b[i]; return b }
	}
	remove := func(i int) func([][]byte) [][]byte {
		return func(b [][]byte) [][]byte { return slices.Delete(b, i, i+1) }
	}
	forge("history record flipped", "at record 6", set(1, flip(s.bodies[1], 30)))
	forge("history records swapped", "at record 6", swap(0))
	forge("history record removed", "at record 6", remove(1))
	forge("tail record flipped", "at record 8", set(5, flip(s.bodies[5], 30)))
	forge("tail records swapped", "at record 8", swap(5))
	forge("tail record removed", "at record 8", remove(5))
	forge("tail record of another", "at record 10", set(7, other.bodies[7]))
	forge("record too short", "at record 10", set(7, nil))
	forge("tail record doubled", "at record 9", func(b [][]byte) [][]byte { return slices.Insert(b, 6, b[5]) })
	forge("last records cut off", "older than sealed_key: it ends at record 8, sealed_key has seen record 10",
		func(b [][]byte) [][]byte { return b[:6] })
}

// replacesWithoutLoss sets a new manifest over damaged state.
func replacesWithoutLoss(t *testing.T, v *Vault, disk *journaltest.Disk, old []byte) {
	t.Helper()
	must(t, v.Create(t.Context(), genesis(secretB)))
	must(t, v.Close(t.Context()))
	kept := false
	for name, data := range disk.Files() {
		aside := strings.HasPrefix(name, "d/sealed_data.") && strings.Contains(name, ".dropped")
		kept = kept || aside && bytes.Equal(data, old)
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
