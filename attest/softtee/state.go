// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/marblerun/marblerun/attest/snp"
)

// Files of a saved platform.
const (
	// StateFile has the seed, from which all keys follow: mode 0600.
	StateFile = "softtee.json"
	// RootsFile has the root certificates, the Intel-like one and those of the AMD products, in PEM: what a verifier is
	// given to trust this platform.
	RootsFile = "softtee-roots.pem"
)

type state struct {
	Note     string    `json:"note"`
	Seed     string    `json:"seed"`
	Created  time.Time `json:"created"`
	Settings Settings  `json:"settings"`
}

// Save writes the platform into a folder, which is made if needed.
func (p *Platform) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("saving the software TEE: %w", err)
	}
	roots, err := p.RootsPEM()
	if err != nil {
		return err
	}
	const note = "A simulated TEE platform. It protects nothing; never trust it in production."
	content, err := json.MarshalIndent(state{note, hex.EncodeToString(p.seed), p.created, p.Settings()}, "", "  ")
	if err != nil {
		return fmt.Errorf("saving the software TEE: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, StateFile), append(content, '\n'), 0o600); err != nil {
		return fmt.Errorf("saving the software TEE: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, RootsFile), roots, 0o644); err != nil {
		return fmt.Errorf("saving the software TEE's roots: %w", err)
	}
	return nil
}

// Load reads a saved platform. The error wraps fs.ErrNotExist if there is none.
func Load(dir string, now func() time.Time) (*Platform, error) {
	content, err := os.ReadFile(filepath.Join(dir, StateFile))
	if err != nil {
		return nil, fmt.Errorf("loading the software TEE: %w", err)
	}
	var s state
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("loading the software TEE from %s: %w", filepath.Join(dir, StateFile), err)
	}
	seed, err := hex.DecodeString(s.Seed)
	if err != nil || len(seed) == 0 || s.Created.IsZero() {
		return nil, fmt.Errorf("loading the software TEE from %s: no seed and date of creation",
			filepath.Join(dir, StateFile))
	}
	return New(Options{Seed: seed, Created: s.Created, Now: now, Settings: &s.Settings})
}

// LoadOrCreate loads the platform saved in a folder, or creates and saves one if there is none.
func LoadOrCreate(dir string, o Options) (*Platform, error) {
	p, err := Load(dir, o.Now)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if p, err = New(o); err != nil {
		return nil, err
	}
	return p, p.Save(dir)
}

// RootsPEM is the content of RootsFile.
func (p *Platform) RootsPEM() ([]byte, error) {
	out := pemChain(p.intel.root.cert)
	for _, product := range snp.Products() {
		pki, err := p.amdOf(product)
		if err != nil {
			return nil, err
		}
		out = append(out, pemChain(pki.ark.cert)...)
	}
	return out, nil
}
