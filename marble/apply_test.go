// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package marble_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/marble"
	"github.com/marblerun/marblerun/marble/internal/coordtest"
)

// tree lists the regular files below root with their modes and contents.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(root, name)
		text := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		files[relative] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestApply(t *testing.T) {
	root, env := t.TempDir(), map[string]string{}
	if err := os.WriteFile(filepath.Join(root, "old"), []byte("longer than before"), 0o644); err != nil {
		t.Fatal(err)
	}
	params := marble.Parameters{
		Files: map[string][]byte{"/a/b/c": []byte("x"), "a/d": {0, 1}, "/old": []byte("new"), "/../../out": []byte("in")},
		Env:   map[string][]byte{"A": []byte("1"), "B": []byte("two\nlines")},
	}
	var log bytes.Buffer
	err := params.Apply(marble.ApplyConfig{
		Root: root, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Setenv: func(name, value string) error { env[name] = value; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"a": "drwx------", "a/b": "drwx------", "a/b/c": "-rw------- x", "a/d": "-rw------- \x00\x01",
		"old": "-rw------- new", "out": "-rw------- in",
	}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"A": "1", "B": "two\nlines"}, env); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{"Not using TTLS", "creating files from manifest", "setting env vars from manifest"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("log lacks %q", line)
		}
	}
}

// TestApplyInPlace: what is no regular file is written through, not replaced.
func TestApplyInPlace(t *testing.T) {
	root := t.TempDir()
	target := filepath.Join(root, "target")
	if err := os.WriteFile(target, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("target", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	params := marble.Parameters{Files: map[string][]byte{"/link": []byte("new")}}
	if err := params.Apply(marble.ApplyConfig{Root: root}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"target": "-rw------- new", "link": "Lrwxrwxrwx"}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Error(diff)
	}
}

func TestArgs(t *testing.T) {
	if diff := cmp.Diff([]string{"./marble"}, (&marble.Parameters{}).Args()); diff != "" {
		t.Error(diff)
	}
}

// TestApplyEnvironment sets real variables, and explains those that cannot be set without repeating them.
func TestApplyEnvironment(t *testing.T) {
	t.Setenv("MARBLE_TEST_VARIABLE", "before")
	params := marble.Parameters{Env: map[string][]byte{"MARBLE_TEST_VARIABLE": []byte("after")}}
	err := params.Apply(marble.ApplyConfig{Root: t.TempDir()})
	if got := os.Getenv("MARBLE_TEST_VARIABLE"); err != nil || got != "after" {
		t.Errorf("%q, %v", got, err)
	}
	params = marble.Parameters{Env: map[string][]byte{"BAD": []byte("sec\x00ret")}}
	err = params.Apply(marble.ApplyConfig{Root: t.TempDir()})
	if err == nil || !strings.Contains(err.Error(), "BAD") || strings.Contains(err.Error(), "sec") {
		t.Errorf("got %v", err)
	}
}

// TestGramineKeys: they come first, in place, and nothing is created for them.
func TestGramineKeys(t *testing.T) {
	root := t.TempDir()
	keys := filepath.Join(root, "dev/attestation/keys")
	if err := os.MkdirAll(keys, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(keys, "default"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	params := marble.Parameters{Files: map[string][]byte{
		"/dev/attestation/keys/default": []byte("0123456789abcdef"), "/a": []byte("x"),
	}}
	if err := params.Apply(marble.ApplyConfig{Runtime: marble.Gramine, Root: root}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"dev": "drwxr-xr-x", "dev/attestation": "drwxr-xr-x", "dev/attestation/keys": "drwxr-xr-x",
		"dev/attestation/keys/default": "-rw-r--r-- 0123456789abcdef", "a": "-rw------- x",
	}
	if diff := cmp.Diff(want, tree(t, root)); diff != "" {
		t.Error(diff)
	}
	params = marble.Parameters{Files: map[string][]byte{
		"/dev/attestation/protected_files_key": []byte("k"), "/0first": []byte("x"),
	}}
	err := params.Apply(marble.ApplyConfig{Runtime: marble.Gramine, Root: root})
	if err == nil || !strings.Contains(err.Error(), "protected_files_key") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(root, "0first")); err == nil {
		t.Error("another file was written before the key")
	}
}

func TestTTLS(t *testing.T) {
	s := coordtest.New(t, nil)
	der, key, err := s.Issue("web", "id", &csr)
	if err != nil {
		t.Fatal(err)
	}
	quote := func(pem []byte) string { return strings.ReplaceAll(string(pem), "\n", "\\n") }
	entry := fmt.Sprintf(`{"cacrt":"%s","clicrt":"%s","clikey":"%s","clientAuth":true}`,
		quote(coordtest.Certificate(s.Root().Raw)), quote(coordtest.Certificate(der)), quote(key))
	good := `{"tls":{"Incoming":{"*:8080":` + entry + `},"Outgoing":{}}}`
	for _, test := range []struct {
		name, policy, want string
		runtime            marble.Runtime
	}{
		{"good", good, "", marble.Process},
		{"Gramine", good, "TTLS configured, but Marble runtime doesn't support TTLS", marble.Gramine},
		{"Occlum", good, "TTLS configured, but Marble runtime doesn't support TTLS", marble.Occlum},
		{"empty", `{"tls":{"Incoming":{},"Outgoing":{}}}`, "is empty", marble.Process},
		{"nothing", "", "reading the transparent-TLS policy", marble.Process},
		{"garbage", "{", "reading the transparent-TLS policy", marble.Process},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			root := t.TempDir()
			params := marble.Parameters{
				Env: map[string][]byte{marble.EnvTTLS: []byte(test.policy)}, Files: map[string][]byte{"/f": nil},
			}
			err := params.Apply(marble.ApplyConfig{
				Runtime: test.runtime, Root: root, Log: slog.New(slog.NewTextHandler(&log, nil)),
				Setenv: func(string, string) error { return nil },
			})
			if test.want == "" {
				if err != nil || !strings.Contains(log.String(), "TTLS config") || !strings.Contains(log.String(), "*:8080") {
					t.Errorf("%v, log:\n%s", err, &log)
				}
				if strings.Contains(log.String(), "PRIVATE KEY") {
					t.Error("a key was logged")
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if len(tree(t, root)) != 0 {
				t.Error("files were written in spite of it")
			}
		})
	}
}
