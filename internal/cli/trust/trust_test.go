// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
	"github.com/marblerun/marblerun/internal/cli/trust"
)

// chain makes a new chain of certificates.
func chain(t *testing.T) trust.Chain {
	t.Helper()
	c, err := fakecoordinator.New()
	if err != nil {
		t.Fatal(err)
	}
	return trust.Chain{Root: c.Root, Intermediate: c.Intermediate}
}

func cacheIn(dir string) trust.Cache {
	return trust.Cache{ConfigDir: func() (string, error) { return dir, nil }}
}

// files lists what is below dir.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func save(t *testing.T, cache trust.Cache, endpoint string, c trust.Chain) {
	t.Helper()
	if err := cache.Save(endpoint, c); err != nil {
		t.Fatal(err)
	}
}

func wantRoot(t *testing.T, cache trust.Cache, endpoint string, want trust.Chain) {
	t.Helper()
	got, err := cache.Load(endpoint)
	if err != nil || !got.Root.Equal(want.Root) || !got.Intermediate.Equal(want.Intermediate) {
		t.Errorf("%s: not the chain that was saved: %v", endpoint, err)
	}
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	cache, first, second := cacheIn(dir), chain(t), chain(t)
	if _, err := cache.Load("a:1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	save(t, cache, "a:1", first)
	save(t, cache, "b:1", second)
	wantRoot(t, cache, "a:1", first)
	wantRoot(t, cache, "b:1", second)
	wantRoot(t, cache, "A:1", first)
	wantRoot(t, cache, "new:1", second) // from the default file
	want := []string{
		"marblerun/coordinator-cert.pem", "marblerun/coordinators/a_1.pem", "marblerun/coordinators/b_1.pem",
	}
	if diff := cmp.Diff(want, files(t, dir)); diff != "" {
		t.Error(diff)
	}

	save(t, cache, "a:1", second)
	wantRoot(t, cache, "a:1", second)
}

// TestCacheInsecure: the two kinds never mix.
func TestCacheInsecure(t *testing.T) {
	dir := t.TempDir()
	cache, verified, seen := cacheIn(dir), chain(t), chain(t)
	insecure := cache
	insecure.Insecure = true
	save(t, insecure, "a:1", seen)
	if _, err := cache.Load("a:1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what --insecure saw is trusted: %v", err)
	}
	save(t, cache, "a:1", verified)
	wantRoot(t, cache, "a:1", verified)
	wantRoot(t, insecure, "a:1", seen)

	cache.File = filepath.Join(dir, "mine")
	insecure.File = cache.File
	save(t, cache, "a:1", verified)
	save(t, insecure, "a:1", seen)
	wantRoot(t, cache, "other:1", verified)
	wantRoot(t, insecure, "other:1", seen)
}

// TestCacheNames: endpoints never share a file, and names stay in the directory.
func TestCacheNames(t *testing.T) {
	dir := t.TempDir()
	endpoints := []string{
		"a", "a:1", "a_1", "a_1:2", "[::1]:4433", "[::2]:4433", "..", "../x:1", "a/b:1", "a-b:1", "ä:1", "a:1:",
	}
	for _, endpoint := range endpoints {
		save(t, cacheIn(dir), endpoint, chain(t))
	}
	entries, err := os.ReadDir(filepath.Join(dir, "marblerun", "coordinators"))
	if err != nil || len(entries) != len(endpoints) {
		t.Errorf("%d endpoints, files %v, %v", len(endpoints), files(t, dir), err)
	}
	if n := len(files(t, dir)); n != len(endpoints)+1 {
		t.Errorf("%d files: %v", n, files(t, dir))
	}
}

func TestCacheBadFiles(t *testing.T) {
	good := chain(t)
	tests := map[string]string{
		"empty":           "",
		"one certificate": string(trust.CertificatePEM(good.Root)),
		"no certificate":  "-----BEGIN PUBLIC KEY-----\nAQID\n-----END PUBLIC KEY-----\n",
		"no DER":          "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n",
	}
	for name, content := range tests {
		path := filepath.Join(t.TempDir(), "c.pem")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (trust.Cache{File: path}).Load("a:1"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCacheSymlink: a link is followed, not replaced.
func TestCacheSymlink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link.pem")
	if err := os.Symlink(filepath.Join(dir, "target.pem"), link); err != nil {
		t.Fatal(err)
	}
	want := chain(t)
	save(t, trust.Cache{File: link}, "a:1", want)
	wantRoot(t, trust.Cache{File: filepath.Join(dir, "target.pem")}, "a:1", want)
}
