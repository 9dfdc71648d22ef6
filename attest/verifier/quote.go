// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"errors"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/collateral"
	"github.com/marblerun/marblerun/attest/dcap"
)

// distruster is a Source that can get collateral anew when what it gave was no good.
type distruster interface {
	Distrust(collateral.DCAPNeed) bool
}

// quote verifies an SGX or TDX quote.
func (v *Verifier) quote(ctx context.Context, quote []byte) (*attest.Claims, error) {
	need, err := v.need(quote)
	if err != nil {
		return nil, err
	}
	claims, err := v.quoteOnce(ctx, quote, need)
	if again, ok := v.source.(distruster); ok && hasOnly(err, collateralCodes()) && again.Distrust(need) {
		v.cfg.Log.Warn("collateral was refused; getting it anew", "fmspc", need.FMSPC, "tee", string(need.TEE), "error", err)
		claims, err = v.quoteOnce(ctx, quote, need)
	}
	if rated(claims, err) != nil {
		v.watch(quote, need, rated(claims, err))
	}
	return claims, err
}

// need tells which collateral a quote needs, or refuses it.
func (v *Verifier) need(quote []byte) (collateral.DCAPNeed, error) {
	need, err := dcap.Needs(quote)
	if err != nil {
		if _, refusal := dcap.Verify(quote, nil, dcap.Options{}); !has(refusal, attest.CodeCollateral) {
			return collateral.DCAPNeed{}, refusal
		}
		return collateral.DCAPNeed{}, attest.Refuse(attest.CodePCKCertificate, err.Error())
	}
	return collateral.DCAPNeed{Need: need, CRLsOptional: v.cfg.AllowMissingCRLs,
		Admit: func() error { return v.admitQuote(quote) }}, nil
}

func (v *Verifier) quoteOnce(ctx context.Context, quote []byte, need collateral.DCAPNeed) (*attest.Claims, error) {
	col, err := v.source.DCAP(ctx, need)
	if err != nil {
		return nil, unhad(err)
	}
	return v.verifyQuote(quote, col)
}

// verifyQuote tries the hardware's roots, then each software root.
func (v *Verifier) verifyQuote(quote []byte, col *dcap.Collateral) (*attest.Claims, error) {
	opts := dcap.Options{Roots: v.cfg.IntelRoots, Time: v.cfg.Now(), AllowMissingCRLs: v.cfg.AllowMissingCRLs,
		Cache: v.chains}
	claims, err := dcap.Verify(quote, col, opts)
	if !has(err, attest.CodeUntrustedRoot) {
		return claims, err
	}
	for _, root := range v.software {
		if root.dcap == nil {
			continue
		}
		opts.Roots = root.dcap
		soft, softErr := dcap.Verify(quote, col, opts)
		if !has(softErr, attest.CodeUntrustedRoot) {
			root.mark(rated(soft, softErr))
			return soft, softErr
		}
	}
	return claims, err
}

// admitQuote checks what can be checked without collateral: that a PCK under a trusted root signed it.
func (v *Verifier) admitQuote(quote []byte) error {
	nothing := &dcap.Collateral{TCBInfo: "{}", QEIdentity: "{}"}
	roots := []dcap.Roots{v.cfg.IntelRoots}
	for _, root := range v.software {
		if root.dcap != nil {
			roots = append(roots, root.dcap)
		}
	}
	var first error
	for _, r := range roots {
		_, err := dcap.Verify(quote, nothing, dcap.Options{Roots: r, Time: v.cfg.Now(), AllowMissingCRLs: true})
		err = without(err, attest.CodeTCBSigningChain)
		if first == nil || !has(err, attest.CodeUntrustedRoot) {
			first = err
		}
		if !has(err, attest.CodeUntrustedRoot) {
			break
		}
	}
	return first
}

// without takes the reasons with a code out of a refusal; nil if none is left.
func without(err error, code string) error {
	refusal := &attest.Refusal{}
	if !errors.As(err, &refusal) {
		return err
	}
	left := &attest.Refusal{}
	for _, reason := range refusal.Reasons {
		if reason.Code != code {
			left.Reasons = append(left.Reasons, reason)
		}
	}
	if len(left.Reasons) == 0 {
		return nil
	}
	return left
}

// collateralCodes are those of reasons that only collateral is to blame for.
func collateralCodes() []string {
	return []string{attest.CodeCollateral, attest.CodeTCBSigningChain, attest.CodeTCBInfoSignature,
		attest.CodeTCBInfoFormat, attest.CodeTCBInfoMismatch, attest.CodeQEIdentitySign, attest.CodeQEIdentityFormat,
		attest.CodePCKCRL, attest.CodeRootCRL, attest.CodeExpired, attest.CodeNotYetValid}
}

// rated are the claims of evidence that is genuine, those of one that has no status included.
func rated(claims *attest.Claims, err error) *attest.Claims {
	refusal := &attest.Refusal{}
	if errors.As(err, &refusal) {
		return refusal.Claims
	}
	return claims
}
