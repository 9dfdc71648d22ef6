// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/internal/coordinator"
	"github.com/marblerun/marblerun/internal/seal"
)

// trust sets what depends on the TEE. Simulation must be asked for: a mistyped deployment must not admit everybody. In a
// TEE whatever weakens verification is refused, because the environment comes from the host.
func trust(ctx context.Context, p process, cfg config, log *slog.Logger, kernel *coordinator.Config) error {
	issuer, _, err := p.detect(ctx, issue.Config{Log: log})
	switch {
	case err == nil:
		return inTEE(issuer, cfg)
	case !errors.Is(err, issue.ErrNoTEE):
		return fmt.Errorf("looking for a TEE: %w", err)
	case cfg.simulation == "":
		return fmt.Errorf("%w. Run the Coordinator in a TEE, or set %s=1 to try it out without any protection",
			err, envSimulation)
	}
	log.Warn("Failed to get quote. Proceeding in simulation mode.", "error", "simulation was asked for by "+cfg.simulation)
	kernel.Simulation, kernel.TEE, kernel.Sealers = true, "simulation", seal.Simulation()
	return nil
}

// inTEE refuses: this program cannot verify evidence of Marbles yet, and there is no way to run without.
func inTEE(issuer issue.Issuer, cfg config) error {
	name := fmt.Sprintf("%s (%s)", issuer.TEE(), issuer.Name())
	if cfg.simulation != "" {
		return fmt.Errorf("%s=1 is refused in a TEE, and this process runs in %s", cfg.simulation, name)
	}
	if cfg.devMode {
		return fmt.Errorf("%s=1 is refused in a TEE, and this process runs in %s", envDevMode, name)
	}
	return fmt.Errorf("this process runs in %s, but this release verifies no evidence yet: it only runs in simulation, "+
		"outside of a TEE", name)
}
