// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package verifier turns evidence of any kind into claims: it parses, gets the collateral (package collateral) and
// verifies (packages dcap and snp), remembering verified certificate chains, so that a fleet on a few machines costs two
// signature verifications a Marble and not a dozen.
//
//	v, err := verifier.New(verifier.Config{})   // trusts Intel's and AMD's roots, asks their services
//	go v.Run(ctx)                               // keeps collateral fresh
//	claims, err := v.Verify(ctx, evidence)
//
// Invariants:
//   - An error is a *attest.Refusal (the evidence is not to be believed), or wraps ErrUnavailable (it cannot be judged
//     now; try again). Nothing is accepted without collateral.
//   - The vendors' roots are tried first. Evidence under a software TEE's root is believed only if that root was given
//     (Config.SoftwareRoots); claims then name it, "root:software:<id>", and Notes says so to people.
//   - A chain never mixes roots: each root is tried by itself.
//   - Strangers cannot make it ask services: what can be checked without collateral is checked before.
//   - The early data set never changes a verdict.
package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// ErrUnavailable: collateral cannot be had now, so the evidence cannot be judged. Try again later.
var ErrUnavailable = collateral.ErrUnavailable

// Verifier verifies evidence. It is safe for concurrent use.
type Verifier struct {
	cfg      Config
	source   collateral.Source
	software []softwareRoot
	notes    []string

	chains    *dcap.ChainCache
	snpChains *snp.Cache
	early     earlyWatch
	stats     struct{ verified, refused, unavailable atomic.Uint64 }
}

// Stats count what a Verifier did.
type Stats struct {
	Verified    uint64
	Refused     uint64
	Unavailable uint64
	// Chains is how many verified PCK chains and Intel collaterals are remembered.
	Chains int
}

// Stats returns the counters.
func (v *Verifier) Stats() Stats {
	return Stats{v.stats.verified.Load(), v.stats.refused.Load(), v.stats.unavailable.Load(), v.chains.Len()}
}

// Notes are sentences for status and logs about what makes this verifier trust more than the vendors' hardware; empty if
// nothing does.
func (v *Verifier) Notes() []string { return slices.Clone(v.notes) }

// Verify verifies evidence in one of the forms of attest.Parse, at most attest.MaxEvidence bytes. The claims say what the
// evidence says; whether that is wanted is an attest.Policy's matter.
func (v *Verifier) Verify(ctx context.Context, raw []byte) (*attest.Claims, error) {
	claims, err := v.verify(ctx, raw)
	refusal := &attest.Refusal{}
	switch {
	case err == nil:
		v.stats.verified.Add(1)
	case errors.As(err, &refusal):
		v.stats.refused.Add(1)
		return nil, refusal
	default:
		v.stats.unavailable.Add(1)
	}
	return claims, err
}

func (v *Verifier) verify(ctx context.Context, raw []byte) (*attest.Claims, error) {
	evidence, err := attest.Parse(raw)
	if err != nil {
		return nil, attest.Refuse(attest.CodeQuoteFormat, err.Error())
	}
	if evidence.TEE == attest.SNP {
		return v.report(ctx, evidence)
	}
	return v.quote(ctx, evidence.Quote)
}

// unhad sorts the errors of a Source: what does not exist makes a refusal, the rest may come later.
func unhad(err error) error {
	refusal := &attest.Refusal{}
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.Is(err, ErrUnavailable):
		return fmt.Errorf("getting collateral: %w", err)
	case errors.Is(err, collateral.ErrUnknown), errors.Is(err, collateral.ErrWithdrawn):
		return attest.Refuse(attest.CodeCollateral, fmt.Sprintf("there is no collateral to verify the evidence with: %v", err))
	}
	return fmt.Errorf("getting collateral: %w: %w", ErrUnavailable, err)
}

// hasOnly tells whether an error is a refusal all of whose codes are listed.
func hasOnly(err error, codes []string) bool {
	refusal := &attest.Refusal{}
	if !errors.As(err, &refusal) {
		return false
	}
	return !slices.ContainsFunc(refusal.Reasons, func(r attest.Reason) bool { return !slices.Contains(codes, r.Code) })
}

// has tells whether an error is a refusal with a code.
func has(err error, code string) bool {
	refusal := &attest.Refusal{}
	return errors.As(err, &refusal) && refusal.HasCode(code)
}
