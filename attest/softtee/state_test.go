// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// TestSaveLoad: a saved platform is the same one, in another process and later.
func TestSaveLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "softtee")
	if _, err := softtee.Load(dir, clock); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("want ErrNotExist, got %v", err)
	}
	p, err := softtee.LoadOrCreate(dir, softtee.Options{Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	p.Configure(func(s *softtee.Settings) { s.RevokedMachines = []string{"stolen"} })
	if err := p.Save(dir); err != nil {
		t.Fatal(err)
	}
	later := func() time.Time { return now.AddDate(0, 1, 0) }
	q, err := softtee.LoadOrCreate(dir, softtee.Options{Now: later})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p.Settings(), q.Settings()); diff != "" {
		t.Errorf("settings (-saved +loaded):\n%s", diff)
	}
	for _, kind := range softtee.Kinds() {
		r := softtee.Request{Kind: kind}
		if kind.TEE() != attest.SNP && !bytes.Equal(issue(t, p, r), issue(t, q, r)) {
			t.Errorf("%s: a loaded platform issues other evidence", kind)
		}
	}
	saved, err := os.ReadFile(filepath.Join(dir, softtee.RootsFile))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := q.RootsPEM()
	if err != nil || !bytes.Equal(saved, roots) {
		t.Errorf("roots differ from the saved ones: %v", err)
	}
	if parsed, err := snp.ParseRoots(saved); err != nil || len(parsed) != 3 {
		t.Errorf("AMD roots of the file: %d, %v", len(parsed), err)
	}
	info, err := os.Stat(filepath.Join(dir, softtee.StateFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v %v", info.Mode(), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":    "hello",
		"no seed":    `{}`,
		"short seed": `{"seed":"00","created":"2026-01-01T00:00:00Z"}`,
		"no date":    `{"seed":"000102030405060708090a0b0c0d0e0f"}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, softtee.StateFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := softtee.LoadOrCreate(dir, softtee.Options{Now: clock}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
