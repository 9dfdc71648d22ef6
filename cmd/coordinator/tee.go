// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/issue/socket"
	"github.com/marblerun/marblerun/attest/verifier"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/seal/tee"
)

// trust sets what depends on the TEE: where this process's evidence comes from, what verifies that of Marbles, and what
// seals the state. Simulation must be asked for: a mistyped deployment must not admit everybody. In a TEE whatever weakens
// verification is refused, because the environment comes from the host.
//
// The verifier is nil in plain simulation.
func trust(ctx context.Context, p process, cfg config, log *slog.Logger, kernel *coordinator.Config,
) (*verifier.Verifier, error) {
	issuer, _, err := p.detect(ctx, issue.Config{Log: log})
	switch {
	case err == nil:
		return inTEE(ctx, issuer, cfg, log, kernel)
	case !errors.Is(err, issue.ErrNoTEE):
		return nil, fmt.Errorf("looking for a TEE: %w", err)
	}
	kernel.TEE, kernel.Sealers = "simulation", seal.Simulation()
	switch {
	case cfg.softTEE.socket != "" && cfg.simulation != "":
		return nil, fmt.Errorf("%s and %s contradict each other: unset one", envSoftTEESocket, cfg.simulation)
	case cfg.softTEE.socket != "":
		return inSoftwareTEE(ctx, cfg, log, kernel)
	case cfg.simulation == "":
		return nil, fmt.Errorf("%w. Run the Coordinator in a TEE, or set %s=1 to try it out without any protection",
			err, envSimulation)
	}
	log.Warn("Failed to get quote. Proceeding in simulation mode.", "error", "simulation was asked for by "+cfg.simulation)
	if cfg.softTEE.root == "" {
		kernel.Simulation = true
		return nil, nil
	}
	kernel.Notes = []string{"simulation: no TEE protects this Coordinator"}
	return withVerifier(cfg, log, kernel)
}

// inTEE sets up a Coordinator with real evidence.
func inTEE(ctx context.Context, issuer issue.Issuer, cfg config, log *slog.Logger, kernel *coordinator.Config,
) (*verifier.Verifier, error) {
	name := fmt.Sprintf("%s (%s)", issuer.TEE(), issuer.Name())
	if refused := cfg.refusedInTEE(); len(refused) > 0 {
		return nil, fmt.Errorf("%s: refused in a TEE, and this process runs in %s: unset it", strings.Join(refused, ", "), name)
	}
	sealers, err := tee.For(ctx, issuer, tee.Config{Log: log})
	if err != nil {
		return nil, fmt.Errorf("sealing keys of %s: %w", name, err)
	}
	kernel.TEE, kernel.Sealers, kernel.Issuer = string(issuer.TEE()), sealers, issuer
	log.Info("Running in a TEE", "tee", string(issuer.TEE()), "evidence", issuer.Name())
	return withVerifier(cfg, log, kernel)
}

// inSoftwareTEE sets up a Coordinator whose evidence has real formats under a simulated root. It trusts that root only if
// its own evidence chains to it.
func inSoftwareTEE(ctx context.Context, cfg config, log *slog.Logger, kernel *coordinator.Config,
) (*verifier.Verifier, error) {
	if cfg.softTEE.root == "" {
		return nil, fmt.Errorf("%s needs %s, the software TEE's root certificates in PEM", envSoftTEESocket, envSoftTEERoot)
	}
	issuer, err := socket.Open(ctx, cfg.softTEE.socket, cfg.softTEE.kind)
	if err != nil {
		return nil, fmt.Errorf("software TEE at %s: %w", cfg.softTEE.socket, err)
	}
	kernel.Issuer = issuer
	kernel.Notes = []string{"software TEE: no hardware protects this Coordinator"}
	v, err := withVerifier(cfg, log, kernel)
	if err != nil {
		return nil, err
	}
	return v, ownEvidence(ctx, v, issuer)
}

// ownEvidence refuses unless this process's evidence is genuine under the software TEE's root.
func ownEvidence(ctx context.Context, v *verifier.Verifier, issuer issue.Issuer) error {
	var reportData [64]byte
	if _, err := rand.Read(reportData[:]); err != nil {
		return err
	}
	evidence, err := issuer.Issue(ctx, reportData)
	if err != nil {
		return fmt.Errorf("getting evidence from %s: %w", issuer.Name(), err)
	}
	claims, err := v.Verify(ctx, evidence)
	if err != nil {
		return fmt.Errorf("the evidence of %s does not verify under %s: %w", issuer.Name(), envSoftTEERoot, err)
	}
	under := func(id string) bool { return strings.HasPrefix(id, "root:software:") }
	if claims.ReportData != reportData || !slices.ContainsFunc(claims.Collateral, under) {
		return fmt.Errorf("the evidence of %s does not chain to %s", issuer.Name(), envSoftTEERoot)
	}
	return nil
}

// withVerifier makes the verifier of Marbles' evidence.
func withVerifier(cfg config, log *slog.Logger, kernel *coordinator.Config) (*verifier.Verifier, error) {
	vc := cfg.collateral
	vc.Log = log
	if cfg.softTEE.root != "" {
		root, err := readRoot(cfg.softTEE.root)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", envSoftTEERoot, err)
		}
		vc.SoftwareRoots = root
	}
	v, err := verifier.New(vc)
	if err != nil {
		return nil, fmt.Errorf("setting up the verification of evidence: %w", err)
	}
	for _, note := range v.Notes() {
		log.Warn("This Coordinator " + note)
	}
	kernel.Verifier = v
	kernel.Notes = append(kernel.Notes, v.Notes()...)
	return v, nil
}
