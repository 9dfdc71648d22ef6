// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package trust holds what the CLI believes before it speaks to a Coordinator: the certificates of Coordinators that
// were verified earlier (Cache) and the policy that a Coordinator must fulfill (FindPolicy).
//
// Invariants: what was fetched without verifying a quote never enters the cache that secure commands read; the cache is
// keyed by endpoint, so that verifying one Coordinator does not make another one trusted; policy is never downloaded.
package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/marblerun/marblerun/api"
)

// Chain is a Coordinator's certificates. Root is the one to pin.
type Chain struct {
	Root, Intermediate *x509.Certificate
}

// PEM returns the intermediate, then the root.
func (c Chain) PEM() []byte {
	return append(CertificatePEM(c.Intermediate), CertificatePEM(c.Root)...)
}

// CertificatePEM returns one PEM block.
func CertificatePEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// Cache finds and stores chains in files.
//
//	<config>/marblerun/coordinators/<endpoint>.pem            verified, by endpoint
//	<config>/marblerun/coordinator-cert.pem                   verified, the last one; as MarbleRun 1.x writes it
//	<config>/marblerun/coordinators/<endpoint>.insecure.pem   not verified
//	<config>/marblerun/coordinator-cert.insecure.pem          not verified, the last one
//
// With File, that file alone is used, or the file beside it whose name ends in .insecure.pem.
type Cache struct {
	// File is --coordinator-cert; empty: the files in the user's configuration directory.
	File string
	// ConfigDir returns that directory; os.UserConfigDir fits. It is asked only if File is empty.
	ConfigDir func() (string, error)
	// Insecure selects the files of unverified chains.
	Insecure bool
}

// Load returns the chain for an endpoint: from its own file or else from the default file.
func (c Cache) Load(endpoint string) (Chain, error) {
	paths, err := c.paths(endpoint)
	if err != nil {
		return Chain{}, err
	}
	for _, path := range paths[:len(paths)-1] {
		if chain, err := load(path); !errors.Is(err, fs.ErrNotExist) {
			return chain, err
		}
	}
	return load(paths[len(paths)-1])
}

// Save stores the chain for an endpoint in all its files (mode 0600, directories 0755).
func (c Cache) Save(endpoint string, chain Chain) error {
	paths, err := c.paths(endpoint)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := save(path, chain.PEM()); err != nil {
			return fmt.Errorf("saving the Coordinator's certificates: %w", err)
		}
	}
	return nil
}

// ErrNoConfigDir: neither --coordinator-cert nor a configuration directory is known.
var ErrNoConfigDir = errors.New("no place for the Coordinator's certificates")

// paths are the files for an endpoint, the most specific first.
func (c Cache) paths(endpoint string) ([]string, error) {
	suffix := ".pem"
	if c.Insecure {
		suffix = ".insecure.pem"
	}
	if c.File != "" {
		if c.Insecure {
			return []string{strings.TrimSuffix(c.File, ".pem") + suffix}, nil
		}
		return []string{c.File}, nil
	}
	dir, err := c.ConfigDir()
	if err != nil {
		return nil, api.WithHint(fmt.Errorf("%w: %w", ErrNoConfigDir, err), "Name a file with --coordinator-cert.")
	}
	dir = filepath.Join(dir, "marblerun")
	return []string{
		filepath.Join(dir, "coordinators", fileName(endpoint)+suffix),
		filepath.Join(dir, "coordinator-cert"+suffix),
	}, nil
}

// fileName turns host:port into a name that is safe on every file system: host_port. What does not fit this form gets a
// piece of its hash, so that different endpoints never share a file.
func fileName(endpoint string) string {
	lower := strings.ToLower(endpoint)
	host, port, hasPort := strings.Cut(lower, ":")
	if !strings.ContainsFunc(host, foreign) && !strings.ContainsFunc(port, foreign) {
		if hasPort {
			return host + "_" + port
		}
		return host
	}
	safe := strings.Map(func(r rune) rune {
		if foreign(r) {
			return '_'
		}
		return r
	}, lower)
	sum := sha256.Sum256([]byte(lower))
	return safe + "_" + hex.EncodeToString(sum[:4])
}

func foreign(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-'
}

func load(path string) (Chain, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Chain{}, api.WithHint(err, "It is written by 'marblerun manifest verify', which verifies the Coordinator.")
	}
	intermediate, rest, err := parse(data)
	if err != nil {
		return Chain{}, badFile(path, "intermediate", err)
	}
	root, _, err := parse(rest)
	if err != nil {
		return Chain{}, badFile(path, "root", err)
	}
	return Chain{Root: root, Intermediate: intermediate}, nil
}

func badFile(path, which string, err error) error {
	text := fmt.Errorf("%s: could not parse Coordinator %s certificate from PEM data: %w", path, which, err)
	return api.WithHint(text, "The file holds the intermediate certificate, then the root. "+
		"'marblerun manifest verify' writes it anew.")
}

func parse(data []byte) (*x509.Certificate, []byte, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, nil, errors.New("no PEM block CERTIFICATE")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	return certificate, rest, err
}

// save replaces the file as a whole, so that a reader never sees half of it; what is no regular file is written
// through.
func save(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return os.WriteFile(path, data, 0o600)
	}
	f, err := os.CreateTemp(dir, ".coordinator-cert-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
