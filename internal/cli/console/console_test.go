// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package console_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/marblerun/marblerun/internal/cli/console"
)

func TestConsole(t *testing.T) {
	var out, err bytes.Buffer
	c := console.Console{Out: &out, Err: &err}
	c.Say("said %d", 1)
	c.Note("noted %s", "x")
	c.Warn("warned")
	if e := c.WriteJSON(map[string]string{"a": "<b>"}); e != nil {
		t.Fatal(e)
	}
	if want := "said 1\n{\n  \"a\": \"<b>\"\n}\n"; out.String() != want {
		t.Errorf("stdout %q, want %q", out.String(), want)
	}
	if want := "noted x\nWarning: warned\n"; err.String() != want {
		t.Errorf("stderr %q, want %q", err.String(), want)
	}
}

func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("something longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := console.SaveNew(path, []byte("x")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if err := console.SaveSecret(path, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "secret" {
		t.Errorf("%q, %v", data, err)
	}
	if err := console.SaveSecret("/dev/null", []byte("secret")); err != nil {
		t.Error(err)
	}
}
