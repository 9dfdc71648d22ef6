// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package snp verifies attestation reports of AMD SEV-SNP guests.
//
// A report (1184 bytes, FORMATS §5.1) is signed by a VEK, the versioned endorsement key of a chip (VCEK) or of a cloud
// provider (VLEK). The VEK's certificate hangs below AMD's root key (ARK) through an intermediate (ASK for VCEK, ASVK
// for VLEK) and says for which chip and which TCB version the key was made. Verify checks all of it:
//
//	report ← VEK ← ASK or ASVK ← ARK (given), CRL of the ARK over the intermediate, everything valid at the given
//	time, product, kind of key, TCB version and chip of the certificate equal to the report's.
//
// The package is pure: no network, no clock, no package-level state. Roots are given; AMDRoots returns AMD's. What a
// fetcher has to get for a report is told by Report.Needs. Whether the guest is the wanted one is not decided here:
// that is attest.Policy over the returned claims.
//
// Invariants: no claim comes from bytes that are not covered by a verified signature; a missing CRL is a refusal unless
// the caller says otherwise; every refusal is an *attest.Refusal whose reasons carry one of the codes of this package;
// every length is checked before it is used.
package snp

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/hex"
	"time"

	"github.com/marblerun/marblerun/attest"
)

// Certificates are what verification needs besides the report. Each is DER or PEM; a PEM has exactly one block.
type Certificates struct {
	// VEK is the VCEK or VLEK certificate.
	VEK []byte
	// ASK is the intermediate: ASK for a VCEK, ASVK for a VLEK.
	ASK []byte
	// ARK is the root certificate. It may be missing, since Options.Roots has the key; if given it must hold that key.
	ARK []byte
	// CRL is the ARK's revocation list.
	CRL []byte
}

// Options say what to trust.
type Options struct {
	// Roots are the ARK keys to accept; required.
	Roots Roots
	// Time is when everything must be valid; required.
	Time time.Time
	// AllowMissingCRL accepts that Certificates.CRL is empty. A CRL that is given is always checked.
	AllowMissingCRL bool
	// Cache remembers verified certificate chains; nil is none.
	Cache *Cache
}

// Verify checks a report and returns its claims. A refusal is an *attest.Refusal with every reason that can be told:
// what is malformed, or not signed up to a root, ends the verification. TCBStatus of the claims is UpToDate:
// AMD publishes no status, so "out of date" is decided by the policy's minimum TCB.
func Verify(report []byte, certs Certificates, opts Options) (*attest.Claims, error) {
	r, err := ParseReport(report)
	if err != nil {
		return nil, err
	}
	if err := r.checkSigner(); err != nil {
		return nil, err
	}
	if opts.Time.IsZero() {
		return nil, refuse(CodeValidity, "", "", "no time of verification was given")
	}
	c, err := opts.Cache.verified(certs, opts)
	if c == nil {
		return nil, err
	}
	if err := join(err, c.vek.covers(r), verifySignature(r, report, c.vek.key)); err != nil {
		return nil, err
	}
	return claims(r, c), nil
}

// verifySignature checks ECDSA P-384 with SHA-384 over the first 0x2A0 bytes.
func verifySignature(r *Report, report []byte, key *ecdsa.PublicKey) error {
	digest := sha512.Sum384(report[:signedSize])
	if !ecdsa.Verify(key, digest[:], r.sigR, r.sigS) {
		return refuse(CodeSignature, "", "", "the report's signature is not by the %s certificate", r.SigningKey)
	}
	return nil
}

func claims(r *Report, c *chain) *attest.Claims {
	p := c.vek.Product
	return &attest.Claims{
		TEE:        attest.SNP,
		Debug:      r.Debug(),
		ReportData: r.ReportData,
		TCBStatus:  attest.UpToDate,
		SNP: &attest.SNPClaims{
			Measurement:     hex.EncodeToString(r.Measurement[:]),
			HostData:        hex.EncodeToString(r.HostData[:]),
			IDKeyDigest:     hex.EncodeToString(r.IDKeyDigest[:]),
			AuthorKeyDigest: hex.EncodeToString(r.AuthorKeyDigest[:]),
			FamilyID:        hex.EncodeToString(r.FamilyID[:]),
			ImageID:         hex.EncodeToString(r.ImageID[:]),
			GuestSVN:        r.GuestSVN,
			Policy:          r.Policy,
			VMPL:            r.VMPL,
			Product:         string(p),
			Reported:        r.ReportedTCB.Split(p),
			Committed:       r.CommittedTCB.Split(p),
			Launch:          r.LaunchTCB.Split(p),
			SigningKey:      string(r.SigningKey),
			PlatformInfo:    r.PlatformInfo,
		},
		Machine:    attest.Machine{ChipID: hex.EncodeToString(chipID(r, &c.vek))},
		Collateral: append([]string(nil), c.ids...),
	}
}

// chipID is the chip that the evidence comes from: the certificate's for a VCEK, which a masked report keeps to itself,
// the report's for a VLEK. Empty if neither tells.
func chipID(r *Report, v *vek) []byte {
	if v.Key == VCEK {
		return v.HWID
	}
	if r.masked() {
		return nil
	}
	return r.ChipID[:v.Product.chipIDSize()]
}
