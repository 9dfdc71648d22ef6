// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/sha256"

	"github.com/marblerun/marblerun/internal/pki"
)

func stateMessage(code int) string {
	switch code {
	case StateRecovery:
		return "Coordinator is in recovery mode. Either upload a key to unseal the saved state, or set a new manifest. " +
			"For more information on how to proceed, consult the documentation."
	case StateAcceptingManifest:
		return "Coordinator is ready to accept a manifest."
	default:
		return "Coordinator is running correctly and ready to accept marbles."
	}
}

// Status tells the state.
func (c *Coordinator) Status() Status {
	p := c.phase.Load()
	return Status{Code: p.code, Message: stateMessage(p.code), Detail: p.detail, Notes: c.notes()}
}

func (c *Coordinator) notes() []string {
	if !c.cfg.Simulation {
		return c.cfg.Notes
	}
	return append([]string{"simulation: no TEE protects this Coordinator, and evidence of Marbles is not verified"},
		c.cfg.Notes...)
}

// Quote returns the certificate chain (PEM: intermediate, then root) and this process's evidence, whose report data is
// SHA-256(root DER ‖ nonce). Without a nonce the evidence is cached; in simulation there is none.
func (c *Coordinator) Quote(ctx context.Context, nonce []byte) (string, []byte, error) {
	p := c.phase.Load()
	ca := p.authority()
	chain := string(ca.PEMChain())
	if len(nonce) == 0 {
		return chain, p.quote, nil
	}
	quote, err := c.issue(ctx, ca, nonce)
	if err != nil {
		return "", nil, refuse(Internal, "generating quote: %w", err)
	}
	return chain, quote, nil
}

// issue obtains evidence over the root certificate.
func (c *Coordinator) issue(ctx context.Context, ca *pki.CA, nonce []byte) ([]byte, error) {
	if c.cfg.Issuer == nil {
		return nil, nil
	}
	h := sha256.New()
	h.Write(ca.Root.Raw)
	h.Write(nonce)
	var reportData [64]byte
	h.Sum(reportData[:0])
	return c.cfg.Issuer.Issue(ctx, reportData)
}

// FeatureEnabled tells whether the current manifest enables a feature gate.
func (c *Coordinator) FeatureEnabled(gate string) bool {
	k := c.phase.Load().kernel
	return k != nil && k.state.Load().manifest.manifest.Feature(gate)
}
