// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"io"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// The real images, for one platform: each has the programs that it should, and nothing else that runs.
func TestRealImages(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: compiles all programs that are in images")
	}
	out := filepath.Join(t.TempDir(), "dist")
	commit := strings.Repeat("ab", 20)
	args := []string{"-only", "images", "-platforms", "linux/amd64", "-out", out, "-version", "9.9.9", "-commit", commit}
	o, err := readOptions(t.Context(), args, environment("SOURCE_DATE_EPOCH", "1700000000"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	r := release{options: o, log: t.Output(), compiler: compilerFor(o, t.TempDir(), t.Output())}
	if err := r.claim(); err != nil {
		t.Fatal(err)
	}
	if err := r.make(t.Context()); err != nil {
		t.Fatal(err)
	}
	written := files(t, filepath.Join(out, "images"))
	for _, b := range r.images {
		if written[path.Base(b.Name)+".tar"] == "" {
			t.Errorf("no archive of %s", b.Name)
		}
		pinned := b.ref + "@" + b.digest.String() + "\n"
		if !strings.Contains(written["digests.txt"], pinned) || !strings.HasSuffix(b.ref, ":v9.9.9") {
			t.Errorf("digests.txt lacks %s:\n%s", b.ref, written["digests.txt"])
		}
		want := []string{}
		for _, pkg := range b.packages {
			want = append(want, "github.com/marblerun/marblerun"+strings.TrimPrefix(pkg, "."))
		}
		slices.Sort(want)
		if got := programsIn(t, b.index, commit); !slices.Equal(got, want) {
			t.Errorf("%s has the programs %v instead of %v", b.Name, got, want)
		}
	}
}

// programsIn returns the import paths of all executables of the index's only image.
func programsIn(t *testing.T, index v1.ImageIndex, commit string) []string {
	t.Helper()
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("%v, %d images", err, len(manifest.Manifests))
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(img)
	defer content.Close()
	found := map[string]bool{}
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if err == io.EOF {
			return slices.Sorted(maps.Keys(found))
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || h.Mode&0o111 == 0 {
			continue
		}
		program, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		if err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if path.Base(info.Path) == "coordinator" && !bytes.Contains(program, []byte(commit)) {
			t.Errorf("%s does not name its commit", h.Name)
		}
		found[info.Path] = true
	}
}
