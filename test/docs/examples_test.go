// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/test/harness"
)

// Every example of the manifest reference is what a Coordinator accepts, without a warning, and the reference names it.
func TestExamples(t *testing.T) {
	folder := filepath.Join(harness.Root(t), "docs", "reference")
	page, err := os.ReadFile(filepath.Join(folder, "manifest.md"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "examples", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(string(page), "(examples/"+name+")") {
				t.Error("manifest.md does not name it")
			}
			accept(t, folder, file)
		})
	}
}

// accept fails unless a Coordinator would accept the file, a package update by one with the manifest of users.json.
func accept(t *testing.T, folder, file string) {
	data, m := parse(t, file)
	problems := manifest.Check(data, m, nil)
	if m.UpdateKind() == manifest.PackageUpdate {
		_, current := parse(t, filepath.Join(folder, "examples", "users.json"))
		problems = manifest.CheckPackageUpdate(current, m)
	} else {
		problems = append(problems, m.DryRun(t.Context(), nil)...)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

func parse(t *testing.T, file string) ([]byte, *manifest.Manifest) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return data, m
}
