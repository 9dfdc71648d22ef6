// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package dcap verifies Intel SGX and TDX quotes: signatures, PCK certificates, CRLs and TCB levels, by FORMATS §1,
// which follows Intel's own verification library. Verify takes a quote and the collateral for it and gives claims, or
// refuses with every reason (the codes are in package attest). ParseQuote shows what a quote says without trusting it.
// Needs tells which collateral a quote needs.
//
// Invariants:
//   - Pure: root keys, collateral and time are parameters; no network, no clock, no package-level state.
//   - A chain is trusted only if it ends at one of the given root public keys, and all chains of one verification end
//     at the same one. The key is what is pinned: several root certificates with one key are in use.
//   - Signatures are checked over the bytes as they came, never over something written again.
//   - Fail closed: a missing CRL refuses unless AllowMissingCRLs; a CRL must be of the right issuer, signed and
//     current.
//   - What was verified may be remembered (ChainCache), when it is valid is checked every time, failures are not
//     remembered.
//   - No length in foreign bytes is trusted; what is allocated is proportional to the input.
//
// Signature verifications of one Verify, all ECDSA P-256 with SHA-256: PCK certificate, its CA, PCK CRL, root CRL, TCB
// signing certificate, TCB info, QE identity, QE report, quote: nine cold, the last two with a warm cache. A root
// certificate other than Intel's two costs one more.
package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/pck"
)

// Roots are the public keys (ECDSA P-256) at which chains may end.
type Roots []*ecdsa.PublicKey

// intelRoot is the public key of "Intel SGX Root CA" (production): X ‖ Y. Two certificates of it are in use, valid
// until 2033-05-21 and 2049-12-31.
const intelRoot = "0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f5" +
	"67918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"

// IntelRoot returns the public key of Intel's production root.
func IntelRoot() *ecdsa.PublicKey {
	point, err := hex.DecodeString(intelRoot)
	if err != nil {
		panic("dcap: the embedded root key is not hex")
	}
	key, err := publicKey(point)
	if err != nil {
		panic("dcap: the embedded root key is not a point")
	}
	return key
}

// publicKey makes a P-256 key of X ‖ Y.
func publicKey(point []byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, point...))
}

// Options say what a verification trusts.
type Options struct {
	// Roots: production wants Roots{IntelRoot()}. Empty trusts nothing.
	Roots Roots
	// Time at which everything must be valid.
	Time time.Time
	// AllowMissingCRLs accepts that the collateral lacks one or both CRLs; those that are there must be good all the same.
	// Without CRLs a stolen and revoked PCK passes.
	AllowMissingCRLs bool
	// Cache, if not nil, remembers chains and collateral between verifications.
	Cache *ChainCache
}

// Verify verifies a quote, with whatever padding follows it. The claims say what is in the quote and how the platform
// is rated; whether that is acceptable is a Policy's matter. Claims may have any status but NotSupported.
//
// The error is a *attest.Refusal. If everything is genuine but has no TCB level, its code is attest.CodeNotSupported
// and it explains itself with claims.
func Verify(quote []byte, col *Collateral, opts Options) (*attest.Claims, error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return nil, attest.Refuse(attest.CodeQuoteFormat, err.Error())
	}
	chainPEM, err := q.pckChain()
	if err != nil {
		return nil, attest.Refuse(attest.CodeCertificationData, err.Error())
	}
	if col == nil || col.TCBInfo == "" || col.QEIdentity == "" {
		return nil, attest.Refuse(attest.CodeCollateral, "TCB info and QE identity are needed to verify a quote")
	}
	v := &verification{col: col, opts: opts}
	claims, refusal := v.verify(q, chainPEM)
	if refusal != nil {
		return nil, refusal
	}
	return claims, nil
}

// Need is the collateral that a quote needs.
type Need struct {
	TEE   attest.TEE
	FMSPC string // 12 hex digits, upper case as the services write it
	CA    pck.CA // whose PCK CRL
}

// Needs tells which collateral a quote needs, from its unverified PCK certificate.
func Needs(quote []byte) (Need, error) {
	q, err := ParseQuote(quote)
	if err != nil {
		return Need{}, fmt.Errorf("reading quote: %w", err)
	}
	platform, err := q.PCK()
	if err != nil {
		return Need{}, err
	}
	return Need{TEE: q.TEE, FMSPC: fmt.Sprintf("%X", platform.FMSPC), CA: platform.CA}, nil
}

// PCK reads the facts of the PCK certificate in the quote. Nothing is verified.
func (q *Quote) PCK() (*pck.Platform, error) {
	chainPEM, err := q.pckChain()
	if err != nil {
		return nil, err
	}
	certs, err := readChain(chainPEM, 3, x509.ParseCertificate)
	if err != nil {
		return nil, fmt.Errorf("reading the PCK chain of the quote: %w", err)
	}
	return pck.Parse(certs[0])
}
