// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// maxNote is the size of a note in bytes.
const maxNote = 4 << 10

// config is the file that the manifest's template fills.
type config struct {
	Greeting string `json:"greeting"`
	// DataKey is 32 bytes, base64 in the file.
	DataKey []byte `json:"dataKey"`
}

// site answers requests.
type site struct {
	http.ServeMux
	greeting string
	// fingerprint tells keys apart without giving them away: 8 bytes of the SHA-256, hex.
	fingerprint string
	seal        cipher.AEAD

	mu   sync.Mutex // guards the file
	file string
}

func load(configFile, noteFile string) (*site, error) {
	data, err := os.ReadFile(configFile)
	if err != nil {
		return nil, err
	}
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("reading %s: %w", configFile, err)
	}
	block, err := aes.NewCipher(c.DataKey)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", configFile, err)
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(c.DataKey)
	s := &site{greeting: c.Greeting, fingerprint: hex.EncodeToString(digest[:8]), seal: seal, file: noteFile}
	s.HandleFunc("GET /{$}", s.getGreeting)
	s.HandleFunc("GET /status", s.getStatus)
	s.HandleFunc("GET /note", s.getNote)
	s.HandleFunc("PUT /note", s.putNote)
	return s, nil
}

func (s *site) getGreeting(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, s.greeting) }

func (s *site) getStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{ // the client may be gone
		"marble": os.Getenv("EDG_MARBLE_TYPE"), "pid": os.Getpid(), "dataKeyFingerprint": s.fingerprint,
	})
}

func (s *site) getNote(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	sealed, err := os.ReadFile(s.file)
	s.mu.Unlock()
	if errors.Is(err, os.ErrNotExist) {
		http.Error(w, "there is no note yet", http.StatusNotFound)
		return
	}
	note, openErr := s.seal.Open(nil, nil, sealed, nil)
	if err = errors.Join(err, openErr); err != nil {
		http.Error(w, "the note cannot be opened with this Marble's key", http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(note) // the client may be gone
}

func (s *site) putNote(w http.ResponseWriter, r *http.Request) {
	note, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNote))
	if err != nil {
		http.Error(w, "a note has at most 4 KiB", http.StatusRequestEntityTooLarge)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.WriteFile(s.file, s.seal.Seal(nil, nil, note, nil), 0o600); err != nil {
		http.Error(w, "the note could not be written", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
