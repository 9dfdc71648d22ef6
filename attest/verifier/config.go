// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/collateral/qcnl"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// Config says what a Verifier trusts and where it gets collateral. The zero value trusts Intel's and AMD's roots and asks
// their services.
type Config struct {
	// Source gives collateral. Nil: BundlePath if set, else a collateral.Fetcher made of the fields after it.
	Source collateral.Source
	// BundlePath is a collateral bundle, which is then the only source.
	BundlePath string
	// PCCS are base URLs of services with Intel's collateral, in order; then that of the QCNL file at QCNLPath, if set.
	// None: Intel's own.
	PCCS     []string
	QCNLPath string
	// KDS is AMD's service or a mirror; empty: AMD's own.
	KDS string
	// CacheDir is a folder for fetched collateral; empty: memory only.
	CacheDir string
	// Client sends the requests; nil: one with sensible limits.
	Client *http.Client

	// SoftwareRoots are root certificates of a software TEE, PEM: Intel-like ones (ECDSA P-256) and AMD-like ones
	// (ARK-<product>). No hardware protects evidence under them. Empty in production.
	SoftwareRoots []byte
	// IntelRoots and AMDRoots replace the vendors' roots; nil in production.
	IntelRoots dcap.Roots
	AMDRoots   snp.Roots
	// AllowMissingCRLs goes without CRLs that cannot be had: then a revoked key passes. False in production.
	AllowMissingCRLs bool
	// MaxChains bounds the remembered chains; 0 is 4096 each for Intel (some 10 KiB a chain) and AMD (2 KiB).
	MaxChains int

	// WatchEarly has Run compare with Intel's early data set. OnEarlyChange is told each time a platform's status would
	// change, once a platform and data set; it may be nil: a warning is logged anyway.
	WatchEarly    bool
	OnEarlyChange func(EarlyChange)

	// Now is the clock; nil is time.Now. Log may be nil.
	Now func() time.Time
	Log *slog.Logger
}

// EarlyChange says how a platform will be rated when Intel's early data set becomes the standard.
type EarlyChange struct {
	TEE     attest.TEE
	Machine attest.Machine
	// Status and EvaluationNumber decided now; the early ones would instead. EarlyStatus may be attest.NotSupported.
	Status, EarlyStatus                     attest.TCBStatus
	EvaluationNumber, EarlyEvaluationNumber int
	// Short lists the TCB components that keep the platform from the newest level of the early set.
	Short []attest.ShortComponent
}

// New makes a Verifier. It reads the files that the Config names.
func New(cfg Config) (*Verifier, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxChains == 0 {
		cfg.MaxChains = 4096
	}
	software, err := parseSoftwareRoots(cfg.SoftwareRoots)
	if err != nil {
		return nil, err
	}
	v := &Verifier{cfg: cfg, software: software, source: cfg.Source, chains: dcap.NewChainCache(cfg.MaxChains),
		snpChains: snp.NewCache(cfg.MaxChains), early: newEarlyWatch()}
	v.notes = v.describe()
	if v.cfg.IntelRoots == nil {
		v.cfg.IntelRoots = dcap.Roots{dcap.IntelRoot()}
	}
	if v.cfg.AMDRoots == nil {
		v.cfg.AMDRoots = snp.AMDRoots()
	}
	if v.source == nil {
		v.source, err = open(cfg)
	}
	return v, err
}

// describe says what weakens the verifier.
func (v *Verifier) describe() (notes []string) {
	for _, root := range v.software {
		notes = append(notes, fmt.Sprintf("trusts a software TEE (root sha256:%s, %s): no hardware protects evidence under it",
			root.id, root.kind()))
	}
	if v.cfg.IntelRoots != nil || v.cfg.AMDRoots != nil {
		notes = append(notes, "trusts other root keys than Intel's and AMD's")
	}
	if v.cfg.AllowMissingCRLs {
		notes = append(notes, "accepts evidence without revocation lists: a stolen and revoked key would pass")
	}
	return notes
}

// open makes the source that the fields name.
func open(cfg Config) (collateral.Source, error) {
	if cfg.BundlePath != "" {
		return openBundle(cfg.BundlePath)
	}
	c := collateral.Config{PCCS: cfg.PCCS, KDS: cfg.KDS, Client: cfg.Client, Dir: cfg.CacheDir, Now: cfg.Now, Log: cfg.Log}
	if cfg.QCNLPath != "" {
		data, err := os.ReadFile(cfg.QCNLPath)
		if err != nil {
			return nil, fmt.Errorf("reading the QCNL configuration: %w", err)
		}
		q, err := qcnl.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", cfg.QCNLPath, err)
		}
		c.ApplyQCNL(q)
	}
	f, err := collateral.New(c)
	if err != nil {
		return nil, fmt.Errorf("collateral services: %w", err)
	}
	return f, nil
}

func openBundle(path string) (collateral.Source, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the collateral bundle: %w", err)
	}
	defer f.Close() // only read
	b, err := collateral.Import(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}
