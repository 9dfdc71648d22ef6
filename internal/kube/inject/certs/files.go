// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// FilePoll is how often files are looked at. The kubelet takes about a minute to update them.
const FilePoll = 10 * time.Second

// FilesConfig of Files.
type FilesConfig struct {
	// Cert and Key are paths of PEM files: the certificate with its chain, and its key.
	Cert, Key string
	Now       func() time.Time
	Log       *slog.Logger
	Observer  Observer
}

// Files serves with a certificate from files, which may be replaced at any time.
type Files struct {
	cfg     FilesConfig
	current atomic.Pointer[tls.Certificate]
	seen    [sha256.Size]byte // of both files, whether they could be used or not
}

// NewFiles loads the certificate. It must be usable, so that a wrong path is found at the start.
func NewFiles(cfg FilesConfig) (*Files, error) {
	f := &Files{cfg: cfg}
	if _, err := f.load(); err != nil {
		return nil, err
	}
	return f, nil
}

// Certificate is the current one.
func (f *Files) Certificate() *tls.Certificate { return f.current.Load() }

// Run looks for new files until ctx ends.
func (f *Files) Run(ctx context.Context) {
	ticker := time.NewTicker(FilePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.reload()
		}
	}
}

func (f *Files) reload() {
	changed, err := f.load()
	switch {
	case err != nil && changed:
		f.cfg.Observer.CertificateFailed()
		f.cfg.Log.Error("Cannot use the new serving certificate; the old one stays in use", "error", err)
	case err != nil:
		f.cfg.Observer.CertificateFailed()
		f.cfg.Log.Debug("Still cannot use the serving certificate's files", "error", err)
	}
}

// load takes the files into use if they have changed since they were last looked at.
func (f *Files) load() (changed bool, err error) {
	cert, certErr := os.ReadFile(f.cfg.Cert)
	key, keyErr := os.ReadFile(f.cfg.Key)
	if err := errors.Join(certErr, keyErr); err != nil {
		changed, f.seen = f.seen != [sha256.Size]byte{}, [sha256.Size]byte{}
		return changed, fmt.Errorf("reading the serving certificate: %w", err)
	}
	seen := sha256.Sum256(bytes.Join([][]byte{cert, key}, []byte{0}))
	if seen == f.seen {
		return false, nil
	}
	f.seen = seen
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return true, fmt.Errorf("reading the serving certificate from %s and %s: %w", f.cfg.Cert, f.cfg.Key, err)
	}
	f.current.Store(&pair)
	f.cfg.Observer.Certificate(pair.Leaf.NotAfter, time.Time{})
	f.cfg.Log.Info("Serving certificate loaded", "names", pair.Leaf.DNSNames, "notAfter", pair.Leaf.NotAfter)
	if now := f.cfg.Now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		f.cfg.Log.Error("The serving certificate is not valid now: the API server will refuse it",
			"notBefore", pair.Leaf.NotBefore, "notAfter", pair.Leaf.NotAfter)
	}
	return true, nil
}
