// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sigstruct

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/sigstruct/sigstructtest"
)

// tree writes files below a new directory.
func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, data, 0o600))
	}
	return dir
}

func TestInspect(t *testing.T) {
	s := key(t).Sign(sample)
	meta := sigstructtest.ELF(sigstructtest.Section{Name: ".text", Data: []byte("code")},
		sigstructtest.Section{Name: ".note.sgxmeta", Type: elf.SHT_NOTE, Data: sigstructtest.SGXMeta(s)})
	dir := tree(t, map[string][]byte{
		"ego":    sigstructtest.ELF(sigstructtest.Section{Name: ".oeinfo", Data: sigstructtest.OEInfo(s)}),
		"sdk.so": meta,
		"new": sigstructtest.ELF(sigstructtest.Section{Name: ".oeinfo", Data: make([]byte, 1856)},
			sigstructtest.Section{Name: ".oesign", Data: sigstructtest.OEInfo(s)}),
		"gramine/app.sig": s, "gramine/app.manifest": []byte("x"), "gramine/dir.sig/x": nil,
		"occlum/build/lib/libocclum-libos.signed.so": meta,
	})
	for _, test := range []struct {
		path, file string
		kind       Kind
	}{
		{"ego", "ego", OpenEnclave}, {"new", "new", OpenEnclave}, {"sdk.so", "sdk.so", SGXSDK},
		{"gramine/app.sig", "gramine/app.sig", Gramine}, {"gramine", "gramine/app.sig", Gramine},
		{"occlum", "occlum/build/lib/libocclum-libos.signed.so", Occlum},
	} {
		p, err := Inspect(filepath.Join(dir, test.path))
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		directory := test.path != test.file
		if p.Kind != test.kind || p.File != filepath.Join(dir, test.file) || p.Directory != directory || p.Warnings != nil {
			t.Errorf("%s: %s in %s, %t, %q", test.path, p.Kind, p.File, p.Directory, p.Warnings)
		}
		if p.UniqueID != sample.MRENCLAVE {
			t.Errorf("%s: MRENCLAVE %x", test.path, p.UniqueID)
		}
	}
}

// What cannot be read is an error that names every way that was tried.
func TestInspectRefuses(t *testing.T) {
	s := key(t).Sign(sample)
	oe := func(section sigstructtest.Section) []byte {
		section.Name = ".oeinfo"
		return sigstructtest.ELF(section)
	}
	dir := tree(t, map[string][]byte{
		"text": []byte("hello"), "empty": nil, "long.sig": append(bytes.Clone(s), 0), "plain": sigstructtest.ELF(),
		"unsigned":   oe(sigstructtest.Section{Data: make([]byte, 1856)}),
		"cut":        oe(sigstructtest.Section{Data: sigstructtest.OEInfo(s)[:1000]}),
		"liar":       oe(sigstructtest.Section{Data: sigstructtest.OEInfo(s), Size: 1 << 20}),
		"huge":       oe(sigstructtest.Section{Data: sigstructtest.OEInfo(s), Size: 1 << 60}),
		"nobits":     oe(sigstructtest.Section{Data: sigstructtest.OEInfo(s), Type: elf.SHT_NOBITS}),
		"compressed": oe(sigstructtest.Section{Data: sigstructtest.OEInfo(s), Flags: elf.SHF_COMPRESSED}),
		"sdk": sigstructtest.ELF(sigstructtest.Section{
			Name: ".note.sgxmeta", Type: elf.SHT_NOTE, Data: sigstructtest.SGXMeta([]byte("nothing")),
		}),
		"none/x": nil, "two/a.sig": s, "two/b.sig": s, "badimage/build/lib/libocclum-libos.signed.so": []byte("x"),
	})
	for path, want := range map[string]string{
		"text": "not an ELF file", "empty": "has 1808 bytes, not 0", "long.sig": "this file has more",
		"plain": "has no section .note.sgxmeta", "unsigned": "is the enclave signed?", "cut": "no SIGSTRUCT",
		"liar": "section .oeinfo is cut off", "huge": "more than the 16777216", "nobits": "empty or compressed",
		"compressed": "empty or compressed", "sdk": "section .note.sgxmeta: no SIGSTRUCT",
		"none": "there is no .sig file", "two": "several .sig files (a.sig, b.sig)", "badimage": "not an ELF file",
	} {
		p, err := Inspect(filepath.Join(dir, path))
		var tried DetectionError
		if p != nil || !errors.As(err, &tried) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
			continue
		}
		attempts := 3
		if info, _ := os.Stat(filepath.Join(dir, path)); info.IsDir() {
			attempts = 2
		}
		if len(tried) != attempts || slices.ContainsFunc(tried, func(a Attempt) bool { return a.Err == nil }) {
			t.Errorf("%s: tried %v", path, tried)
		}
	}
	if _, err := Inspect(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Inspect(os.DevNull); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("device: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	k := key(t)
	forged := k.Sign(sample)
	forged[960] ^= 1
	debug := sample
	debug.Mask = 0
	other := sample
	other.SVN++
	again := k.Sign(sample)
	again[1030]++ // the same enclave in other words
	another := fmt.Sprintf("another SIGSTRUCT, for MRENCLAVE %x", sample.MRENCLAVE)
	for _, test := range []struct {
		structures [][]byte
		want       []string
	}{
		{[][]byte{k.Sign(sample)}, nil},
		{[][]byte{k.Sign(sample), again}, nil},
		{[][]byte{forged}, []string{"The enclave's signature is invalid: the signature does not fit"}},
		{[][]byte{k.Sign(debug)}, []string{"Debug mode is allowed by the signature"}},
		{[][]byte{k.Sign(sample), k.Sign(other)}, []string{another}},
	} {
		meta := sigstructtest.SGXMeta(test.structures...)
		data := sigstructtest.ELF(sigstructtest.Section{Name: ".note.sgxmeta", Data: meta})
		p, err := Inspect(filepath.Join(tree(t, map[string][]byte{"x": data}), "x"))
		must(t, err)
		if len(p.Warnings) != len(test.want) {
			t.Fatalf("warnings %q, want %q", p.Warnings, test.want)
		}
		for i := range test.want {
			if !strings.Contains(p.Warnings[i], test.want[i]) {
				t.Errorf("warnings %q, want %q", p.Warnings, test.want)
			}
		}
	}
}
