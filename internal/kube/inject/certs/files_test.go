// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// files are a certificate's files that a test replaces.
type files struct {
	cert, key string
	log       bytes.Buffer
	seen      counted
}

func newFiles(t *testing.T) *files {
	folder := t.TempDir()
	return &files{cert: filepath.Join(folder, "tls.crt"), key: filepath.Join(folder, "tls.key")}
}

func (f *files) config() FilesConfig {
	log := slog.New(slog.NewTextHandler(&f.log, nil))
	return FilesConfig{Cert: f.cert, Key: f.key, Now: time.Now, Log: log, Observer: &f.seen}
}

// put writes a new pair for the name, valid for life from now.
func (f *files) put(t *testing.T, name string, life time.Duration) {
	a, err := newAuthority(time.Now().Add(-time.Hour), 48*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := a.issue(time.Now().Add(-time.Hour), time.Hour+life, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.cert, append(certPEM(pair.Leaf), certPEM(a.cert)...))
	f.write(t, f.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func (f *files) write(t *testing.T, path string, data []byte) {
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesMustBeGoodAtTheStart(t *testing.T) {
	f := newFiles(t)
	_, err := NewFiles(f.config())
	if err == nil || !strings.Contains(err.Error(), f.cert) || !strings.Contains(err.Error(), f.key) {
		t.Errorf("missing files: %v", err)
	}
	f.put(t, "a", time.Hour)
	key, err := os.ReadFile(f.key)
	if err != nil {
		t.Fatal(err)
	}
	f.put(t, "b", time.Hour)
	f.write(t, f.key, key)
	if _, err := NewFiles(f.config()); err == nil || !strings.Contains(err.Error(), "does not match") {
		t.Errorf("another certificate's key: %v", err)
	}
	f.write(t, f.cert, []byte("hello"))
	if _, err := NewFiles(f.config()); err == nil {
		t.Error("no certificate was accepted")
	}
}

func TestExpiredFilesAreToldAbout(t *testing.T) {
	f := newFiles(t)
	f.put(t, "a", -time.Minute)
	if _, err := NewFiles(f.config()); err != nil {
		t.Error(err) // whoever renews it may be late
	}
	if !strings.Contains(f.log.String(), "not valid now") {
		t.Error(f.log.String())
	}
}

func TestFilesAreReloaded(t *testing.T) {
	f := newFiles(t)
	synctest.Test(t, func(t *testing.T) {
		f.put(t, "first", 24*time.Hour)
		source, err := NewFiles(f.config())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go source.Run(ctx)
		after := func(name, what string) {
			time.Sleep(FilePoll + time.Second)
			synctest.Wait()
			if got := source.Certificate().Leaf.DNSNames[0]; got != name {
				t.Errorf("%s: serves with %s, want %s", what, got, name)
			}
		}
		after("first", "nothing has changed")
		f.put(t, "second", 24*time.Hour)
		after("second", "new files")
		f.write(t, f.key, []byte("half written"))
		after("second", "a broken key")
		after("second", "still a broken key")
		f.put(t, "third", 24*time.Hour)
		after("third", "mended")
		for _, path := range []string{f.cert, f.key} {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		after("third", "files are gone")
		f.put(t, "fourth", 24*time.Hour)
		after("fourth", "files are back")
		cancel()
		synctest.Wait()
	})
	if n := strings.Count(f.log.String(), "the old one stays in use"); n != 2 {
		t.Errorf("told %d times about broken files, want once for each:\n%s", n, f.log.String())
	}
	if certs, failures := f.seen.certificates.Load(), f.seen.failures.Load(); certs != 4 || failures != 2 {
		t.Errorf("%d certificates, %d failures", certs, failures)
	}
}

func TestTLS(t *testing.T) {
	var current *tls.Certificate
	cfg := TLS(func() *tls.Certificate { return current })
	if _, err := cfg.GetCertificate(nil); err == nil {
		t.Error("a certificate although there is none")
	}
	current = &tls.Certificate{}
	if got, err := cfg.GetCertificate(nil); got != current || err != nil {
		t.Error("not the current certificate", err)
	}
	if cfg.MinVersion != tls.VersionTLS12 || cfg.ClientAuth != tls.NoClientCert {
		t.Error("not the TLS of the contract")
	}
}
