// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/collateral/qcnl"
	"github.com/marblerun/marblerun/attest/verifier"
)

// collateralFlags say where collateral comes from and what is trusted besides hardware.
type collateralFlags struct {
	bundle       string
	pccs         []string
	kds          string
	softwareRoot string
}

func (c *collateralFlags) add(f *pflag.FlagSet) {
	f.StringVar(&c.bundle, "collateral", "", "verify evidence offline, with the collateral in this file "+
		"(see 'marblerun collateral')")
	f.StringSliceVar(&c.pccs, "pccs-url", nil, "service with Intel's collateral, e.g. "+
		"https://pccs:8081/sgx/certification/v4/ (default: that of "+qcnl.DefaultPath+", then Intel's)")
	f.StringVar(&c.kds, "kds-url", "", "mirror of AMD's key distribution service (default: AMD's)")
	f.StringVar(&c.softwareRoot, "software-tee-root", "", "trust the software TEE with these root certificates, too, "+
		"a PEM file (for tests: no hardware protects anything)")
}

// Verification is how evidence is verified. The zero value is for the evidence of Coordinators.
type Verification struct {
	// Time at which everything must be valid; zero: now.
	Time time.Time
	// VEK is the certificate of the key that signed an SNP report, DER or PEM. With it, and without --collateral, the
	// verification is offline and knows no CRL of AMD.
	VEK []byte
	// AllowMissingCRLs goes without CRLs that cannot be had.
	AllowMissingCRLs bool
	// Trial: nothing will be accepted, so nothing is warned of.
	Trial bool
	// SoftwareRoot is a file like --software-tee-root, and comes before it.
	SoftwareRoot string
}

// NewVerifier makes what verifies evidence by the flags, and warns of all that weakens it.
func (s *Session) NewVerifier(v Verification) (api.Verifier, error) {
	if s.Verifier != nil {
		return s.Verifier, nil
	}
	config := verifier.Config{AllowMissingCRLs: v.AllowMissingCRLs, Now: time.Now}
	if !v.Time.IsZero() {
		config.Now = func() time.Time { return v.Time }
	}
	if v.SoftwareRoot == "" {
		v.SoftwareRoot = s.collateral.softwareRoot
	}
	var err error
	if v.SoftwareRoot != "" {
		if config.SoftwareRoots, err = os.ReadFile(v.SoftwareRoot); err != nil {
			return nil, err
		}
	}
	if config.Source, err = s.source(v.VEK, config.Now()); err != nil {
		return nil, err
	}
	made, err := verifier.New(config)
	if err != nil {
		return nil, err
	}
	if !v.Trial {
		s.warnOfTrust(made.Notes(), v.SoftwareRoot)
	}
	return &hinting{made}, nil
}

// warnOfTrust says what weakens a verifier, and names the file of several software roots in place of each root.
func (s *Session) warnOfTrust(notes []string, softwareRoot string) {
	isRoot := func(note string) bool { return strings.HasPrefix(note, "trusts a software TEE") }
	roots := 0
	for _, note := range notes {
		if isRoot(note) {
			roots++
		}
	}
	if roots > 1 {
		notes = slices.DeleteFunc(notes, isRoot)
		s.Warn("the verification trusts a software TEE (%d roots in %s): no hardware protects evidence under them",
			roots, softwareRoot)
	}
	for _, note := range notes {
		s.Warn("the verification %s", note)
	}
}

// source is the bundle, or else nothing but what the caller has, or else the bundles that were imported and then the
// services.
func (s *Session) source(vek []byte, now time.Time) (collateral.Source, error) {
	var source collateral.Source
	switch {
	case s.collateral.bundle != "":
		bundle, err := ReadBundle(s.collateral.bundle)
		if err != nil {
			return nil, err
		}
		source = bundle
	case len(vek) > 0:
		source = &collateral.Bundle{}
	default:
		fetcher, err := s.Fetcher()
		if err != nil {
			return nil, err
		}
		source = &imported{Fetcher: fetcher, session: s, bundles: s.importedBundles(now)}
	}
	if len(vek) > 0 {
		return &withVEK{source, vek}, nil
	}
	return source, nil
}

// Fetcher makes a client of the collateral services.
func (s *Session) Fetcher() (*collateral.Fetcher, error) {
	config := collateral.Config{PCCS: s.collateral.pccs, KDS: s.collateral.kds}
	if err := s.applyQCNL(&config); err != nil {
		return nil, err
	}
	if dir, err := s.collateralDir(); err == nil {
		config.Dir = dir
	}
	fetcher, err := collateral.New(config)
	if err != nil {
		return nil, fmt.Errorf("collateral services: %w", err)
	}
	return fetcher, nil
}

// applyQCNL adds the machine's own service, unless a flag names one. Intel's comes after it, because the packaged file
// names a service on localhost that most machines do not have. Who serves collateral does not matter, it is signed.
func (s *Session) applyQCNL(config *collateral.Config) error {
	if len(config.PCCS) > 0 || s.QCNLPath == "" {
		return nil
	}
	data, err := os.ReadFile(s.QCNLPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	machine, err := qcnl.Parse(data)
	if err != nil {
		return api.WithHint(fmt.Errorf("%s: %w", s.QCNLPath, err), "Name a service with --pccs-url.")
	}
	config.ApplyQCNL(machine)
	if len(config.PCCS) > 0 {
		config.PCCS = append(config.PCCS, collateral.IntelPCS)
	}
	return nil
}

// hinting adds advice to the errors of a verifier.
type hinting struct{ api.Verifier }

// Verify verifies evidence.
func (h *hinting) Verify(ctx context.Context, evidence []byte) (*attest.Claims, error) {
	claims, err := h.Verifier.Verify(ctx, evidence)
	return claims, Explain(err)
}

// Explain adds advice to an error of a verification or of getting collateral.
func Explain(err error) error {
	if hint := verificationHint(err); hint != "" {
		return api.WithHint(err, hint)
	}
	return err
}

func verificationHint(err error) string {
	var refusal *attest.Refusal
	switch {
	case errors.Is(err, verifier.ErrUnavailable):
		return "Name another service with --pccs-url, or verify offline: 'marblerun collateral export' makes a file for " +
			"--collateral on a machine that has a network."
	case !errors.As(err, &refusal):
		return ""
	case refusal.HasCode(attest.CodeUntrustedRoot):
		return "No known hardware made this. A software TEE is trusted only if named with --software-tee-root."
	case refusal.HasCode(attest.CodeCollateral):
		return "The collateral in use is not for this platform. --collateral and --pccs-url say where to get it."
	case refusal.HasCode(attest.CodeExpired), refusal.HasCode(attest.CodeNotYetValid):
		return "Is the clock right, and is the collateral current? 'marblerun collateral show' tells its dates."
	}
	return ""
}
