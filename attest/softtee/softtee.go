// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package softtee is a TEE in software: it issues evidence and collateral in the real formats under roots of its own,
// so that the one real verifier can be exercised from end to end without hardware (FORMATS §6). It protects nothing.
//
// A Platform is a whole world: an Intel-like root with platform and processor CA, TCB signing, CRLs, TCB info,
// identities and evaluation data numbers; AMD-like roots, intermediates and CRLs for each product; and any number of
// machines, which differ by name. Everything follows from a seed, so a saved platform is a seed and its settings.
//
//	Platform.Evidence    evidence on the wire form, for a machine and a workload
//	Platform.Collateral  the collateral that goes with it
//	package server       both, over HTTP on loopback as a PCCS and AMD's KDS, and over a Unix socket (package issuersock)
//
// Which TCB status a machine gets is its own property: a machine has the SVNs of a level of the ladder in the data set
// (package tcbdata), and the verifier finds the level. A TCB recovery is a change of the data set.
//
// Invariants: the roots are never a default anywhere, all names say "Simulation", the FMSPC is 53494d544545 ("SIMTEE").
// A Coordinator never imports this package: it gets a root file and an issuer socket.
package softtee

import (
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee/internal/derive"
)

// Options say how to create a Platform.
type Options struct {
	// Seed is what all keys follow from, at least 16 bytes; nil draws 32 bytes from Rand.
	Seed []byte
	// Rand is read for the seed only; nil is crypto/rand.
	Rand io.Reader
	// Now dates collateral; nil is time.Now.
	Now func() time.Time
	// Created dates the certificates, which are valid from a day before; zero is Now.
	Created time.Time
	// Settings are the initial knobs; nil is DefaultSettings.
	Settings *Settings
}

// Platform is a simulated world. Its methods are safe for concurrent use.
type Platform struct {
	seed    derive.Seed
	created time.Time
	now     func() time.Time
	intel   *intelPKI

	mu       sync.Mutex
	settings Settings
	amd      map[snp.Product]*amdPKI
}

// New creates a Platform. The AMD-like keys (RSA-2048) are made when first used, which takes some tenths of a second.
func New(o Options) (*Platform, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Created.IsZero() {
		o.Created = o.Now()
	}
	seed, err := o.seed()
	if err != nil {
		return nil, err
	}
	p := &Platform{seed: seed, created: o.Created.UTC().Truncate(time.Second), now: o.Now, amd: map[snp.Product]*amdPKI{}}
	p.settings = DefaultSettings()
	if o.Settings != nil {
		p.settings = *o.Settings
	}
	if p.intel, err = p.newIntelPKI(); err != nil {
		return nil, fmt.Errorf("creating the simulated Intel CA: %w", err)
	}
	return p, nil
}

func (o Options) seed() ([]byte, error) {
	if o.Seed != nil {
		if len(o.Seed) < 16 {
			return nil, fmt.Errorf("seed of %d bytes, at least 16 are needed", len(o.Seed))
		}
		return append([]byte(nil), o.Seed...), nil
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	seed := make([]byte, 32)
	if _, err := io.ReadFull(o.Rand, seed); err != nil {
		return nil, fmt.Errorf("drawing a seed: %w", err)
	}
	return seed, nil
}

// Configure changes the knobs.
func (p *Platform) Configure(change func(*Settings)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.settings)
}

// Settings returns a copy of the knobs.
func (p *Platform) Settings() Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settings
}
