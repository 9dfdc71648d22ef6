// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, dir, key string) *site {
	t.Helper()
	file := filepath.Join(dir, "web.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, `{"greeting":"hi","dataKey":%q}`, key), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(file, filepath.Join(dir, "note"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(t *testing.T, s *site, method, path, body string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// The note survives a restart with the same key, is not on disk in clear, and does not open with another.
func TestNote(t *testing.T) {
	const key, other = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	dir := t.TempDir()
	s := open(t, dir, key)
	if code, _ := ask(t, s, http.MethodGet, "/note", ""); code != http.StatusNotFound {
		t.Errorf("a note before the first: %d", code)
	}
	if code, body := ask(t, s, http.MethodPut, "/note", "remember me"); code != http.StatusNoContent {
		t.Errorf("%d %s", code, body)
	}
	tooLong := strings.Repeat("x", maxNote+1)
	if code, _ := ask(t, s, http.MethodPut, "/note", tooLong); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a note too long: %d", code)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "note")); err != nil || strings.Contains(string(data), "remember") {
		t.Errorf("on disk: %q, %v", data, err)
	}
	code, body := ask(t, open(t, dir, key), http.MethodGet, "/note", "")
	if code != http.StatusOK || body != "remember me" {
		t.Errorf("%d %q", code, body)
	}
	stranger := open(t, dir, other)
	if code, _ := ask(t, stranger, http.MethodGet, "/note", ""); code != http.StatusInternalServerError {
		t.Errorf("another key: %d", code)
	}
	if stranger.fingerprint == s.fingerprint {
		t.Error("two keys have one fingerprint")
	}
}

func TestConfigMistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "web.json")
	for _, text := range []string{"", "{", `{"dataKey":"AAAA"}`} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(file, "note"); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
