// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package collateral gets what a verification of evidence needs besides the evidence: Intel's TCB info, QE identities
// and CRLs for package dcap, AMD's certificates and CRLs for package snp.
//
// A Source answers needs. There are two: Fetcher asks the services, which are one or several PCCS or Intel's PCS, and
// AMD's KDS (FORMATS §1.8, §5.2), and caches; Bundle is one file, for where there is no network. Nothing here is
// trusted: everything is signed, and the verification checks signatures and windows each time. So the cache needs no
// integrity, and plain HTTP or an unchecked TLS certificate costs availability only.
//
// How a Fetcher behaves:
//   - All collateral of one quote comes from one service, so that chains of different roots are never mixed; if it
//     cannot be had there, the next service is asked for all of it.
//   - What is cached and valid is used without asking. It is asked for again after RefreshAfter (or half of its life):
//     in the background while Run runs, else when it is needed. If that fails it stays in use, but never past the end
//     of its window (nextUpdate). Older data never replaces newer.
//   - A VCEK is kept forever, by its URL.
//   - Each item is asked for once at a time, whoever waits for it. A host that fails or throttles is left alone for as
//     long as it says (Retry-After), or for exponentially growing times. Requests to AMD are paced.
//   - What a host does not know is remembered for ten minutes.
//   - Everything is bounded: sizes, memory, files, queues, times. Strangers cannot make a Fetcher ask on their behalf
//     if Need.Admit says no.
//
// An error is ErrUnavailable (trying again later may help), or ErrUnknown or ErrWithdrawn (it will not).
package collateral

import (
	"context"
	"errors"

	"github.com/marblerun/marblerun/attest/collateral/internal/gate"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// Errors of a Source.
var (
	// ErrUnavailable: the services cannot be reached, refuse to answer or answer nonsense. Try again later.
	ErrUnavailable = gate.ErrUnavailable
	// ErrUnknown: the services answer that they do not have it.
	ErrUnknown = errors.New("collateral is unknown")
	// ErrWithdrawn: the pinned TCB evaluation data number is no longer served.
	ErrWithdrawn = errors.New("TCB evaluation data number is withdrawn")
)

// Source gets collateral. Implementations are safe for concurrent use.
type Source interface {
	DCAP(context.Context, DCAPNeed) (*dcap.Collateral, error)
	SNP(context.Context, SNPNeed) (snp.Certificates, error)
}

// DCAPNeed is what a quote needs.
type DCAPNeed struct {
	dcap.Need
	// Admit, if not nil, is asked before a service is bothered for what was never had before. Its error ends the call
	// and is returned as it is. It should check of the evidence what can be checked without collateral.
	Admit func() error
	// CRLsOptional goes without the CRLs that cannot be had.
	CRLsOptional bool
}

// SNPNeed is what an SNP report needs.
type SNPNeed struct {
	snp.Needs
	// Have is what came with the evidence. It is not asked for again, except that a CRL from AMD is preferred to the
	// host's.
	Have snp.Certificates
	// Admit and CRLOptional: see DCAPNeed.
	Admit       func() error
	CRLOptional bool
}

// notAdmitted carries the error of Admit past the services.
type notAdmitted struct{ error }

// admission asks at most once.
func admission(admit func() error) func() error {
	asked := admit == nil
	return func() error {
		if asked {
			return nil
		}
		asked = true
		if err := admit(); err != nil {
			return notAdmitted{err}
		}
		return nil
	}
}
