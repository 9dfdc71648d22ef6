// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package statedir

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal/journaltest"
)

func newDir() (Dir, *journaltest.Disk) {
	disk := journaltest.NewDisk()
	return Dir{FS: disk, Name: "d", Log: slog.New(slog.DiscardHandler)}, disk
}

func names(disk *journaltest.Disk) []string {
	var out []string
	for name, data := range disk.Files() {
		out = append(out, filepath.Base(name)+"="+string(data))
	}
	slices.Sort(out)
	return out
}

func TestAsideNeverOverwrites(t *testing.T) {
	d, disk := newDir()
	for _, content := range []string{"one", "two", "two", "", "one", "three"} {
		disk.Put("d/sealed_data", []byte(content))
		if err := d.CopyAside(Data, "id"); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.MoveAside(Data, "id"); err != nil {
		t.Fatal(err)
	}
	if err := d.MoveAside(Data, "id"); err != nil {
		t.Errorf("setting nothing aside: %v", err)
	}
	want := []string{
		"sealed_data.id.dropped.1=two", "sealed_data.id.dropped.2=", "sealed_data.id.dropped.3=three",
		"sealed_data.id.dropped.4=three", "sealed_data.id.dropped=one",
	}
	if diff := cmp.Diff(want, names(disk.Reboot(journaltest.All, nil))); diff != "" {
		t.Errorf("after a crash (-want +got):\n%s", diff)
	}
}

func TestSameComparesWholeFiles(t *testing.T) {
	d, disk := newDir()
	long := bytes.Repeat([]byte("x"), 200_000)
	disk.Put("d/a", long)
	changed, longer := append(bytes.Clone(long[1:]), 'y'), append(bytes.Clone(long), 'x')
	for _, other := range [][]byte{long, long[1:], changed, longer, {}} {
		disk.Put("d/b", other)
		if same, err := d.same("a", "b"); err != nil || same != bytes.Equal(long, other) {
			t.Errorf("%d bytes: %t, %v", len(other), same, err)
		}
	}
}

func TestRemoveTemporaries(t *testing.T) {
	d, disk := newDir()
	for _, name := range []string{
		"sealed_data", "sealed_data.tmp", "sealed_key.tmp", "other.tmp", "sealed_data.x.dropped.tmp",
	} {
		disk.Put("d/"+name, []byte{})
	}
	if err := d.RemoveTemporaries(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"other.tmp=", "sealed_data="}, names(disk)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// foreign builds a file as MarbleRun lays it out.
func foreign(header string, rest int) []byte {
	return append(append(binary.LittleEndian.AppendUint32(nil, uint32(len(header))), header...), make([]byte, rest)...)
}

func TestMarbleRun(t *testing.T) {
	hash, upper := strings.Repeat("0f", 32), strings.Repeat("AB", 32)
	for name, c := range map[string]struct {
		data []byte
		want bool
	}{
		"single":            {foreign("null", 100), true},
		"multi-party":       {foreign(`{"`+hash+`":true,"`+upper+`":false}`, 28), true},
		"empty map":         {foreign("{}", 28), true},
		"no ciphertext":     {foreign("null", 27), false},
		"not a hash":        {foreign(`{"x":true}`, 28), false},
		"not a bool":        {foreign(`{"`+hash+`":1}`, 28), false},
		"two values":        {foreign("null null", 28), false},
		"no JSON":           {foreign("nope", 28), false},
		"empty":             {nil, false},
		"header too long":   {binary.LittleEndian.AppendUint32(nil, 1<<31), false},
		"our own format":    {append([]byte("MRBLDATA"), make([]byte, 100)...), false},
		"header length 0":   {foreign("", 28), false},
		"length 2^32 - 1":   {append([]byte{255, 255, 255, 255}, make([]byte, 100)...), false},
		"cut in the header": {foreign("null", 28)[:6], false},
	} {
		if got := marbleRun(c.data); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func FuzzMarbleRun(f *testing.F) {
	f.Add(foreign("null", 28))
	f.Add(foreign(`{"`+strings.Repeat("0f", 32)+`":true}`, 28))
	f.Fuzz(func(t *testing.T, data []byte) {
		if marbleRun(data) && (len(data) < 4+2+28 || bytes.HasPrefix(data, []byte("MRBLDATA"))) {
			t.Errorf("took %q for a state of MarbleRun", data)
		}
	})
}
