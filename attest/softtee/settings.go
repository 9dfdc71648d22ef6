// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"time"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// Identity of the simulated processor.
const (
	FMSPC = "53494d544545" // "SIMTEE"
	PCEID = "0000"
)

// Settings are the knobs of a Platform that are not a machine's.
type Settings struct {
	// Standard is the data set served by default, Early the one for "update=early".
	Standard tcbdata.Dataset `json:"standard"`
	Early    tcbdata.Dataset `json:"early"`

	// Age is how long ago the collateral was issued; Validity for how long it is valid from then on. The root's CRLs
	// (Intel's and AMD's) are valid twelve times as long.
	Age      time.Duration `json:"age"`
	Validity time.Duration `json:"validity"`

	// RevokedMachines are names of machines whose PCK certificates are on the PCK CRL.
	RevokedMachines []string `json:"revokedMachines,omitempty"`
	// RevokedCAs are CAs on the root's CRL: CAPlatform, CAProcessor, CATCBSigning.
	RevokedCAs []string `json:"revokedCAs,omitempty"`
	// RevokedASKs are products whose intermediates, ASK and ASVK, are on the ARK's CRL.
	RevokedASKs []snp.Product `json:"revokedASKs,omitempty"`
	// NoPCKCRL, NoRootCRL and NoAMDCRL withhold the lists.
	NoPCKCRL  bool `json:"noPCKCRL,omitempty"`
	NoRootCRL bool `json:"noRootCRL,omitempty"`
	NoAMDCRL  bool `json:"noAMDCRL,omitempty"`

	// Tamper, if set, sees every part of the collateral, before and after it is signed.
	Tamper Tamper `json:"-"`
}

// The CAs that can be revoked.
const (
	CAPlatform   = "platform"
	CAProcessor  = "processor"
	CATCBSigning = "tcb-signing"
)

// DefaultSettings: one data set, issued an hour ago, valid for 30 days, nothing revoked. The early data set has the
// next evaluation number and is after a TCB recovery.
func DefaultSettings() Settings {
	standard := tcbdata.NewDataset()
	return Settings{Standard: standard, Early: standard.Recover(), Age: time.Hour, Validity: 30 * 24 * time.Hour}
}

// Tamper may replace a part of evidence or collateral. It gets the bytes and returns those to go on with.
type Tamper func(part Part, b []byte) []byte

func (t Tamper) apply(part Part, b []byte) []byte {
	if t == nil {
		return b
	}
	return t(part, b)
}

// Part names what a Tamper sees.
type Part string

// Parts of a quote. Those that say so are signed afterwards: the result is genuine, but says something else.
const (
	PartPCKExtension Part = "pck-extension" // DER of the SGX extension; then signed by the PCK CA
	PartPCKChain     Part = "pck-chain"     // PEM of PCK, CA and root
	PartQEReport     Part = "qe-report"     // 384 bytes; then signed by the PCK
	PartQESigned     Part = "qe-signed"     // QE report ‖ signature
	PartAttestKey    Part = "attest-key"    // 64 bytes, after the QE report bound the real one
	PartAuthData     Part = "auth-data"     // after the QE report bound it
	PartHeader       Part = "header"        // 48 bytes; then signed by the attestation key
	PartBody         Part = "body"          // SGX or TD report; then signed by the attestation key
	PartQuote        Part = "quote"         // the whole quote
)

// Parts of SNP evidence.
const (
	PartVEKProduct Part = "vek-product" // product name; then signed by the intermediate
	PartVEKTCB     Part = "vek-tcb"     // the TCB as in a report, 8 bytes; then signed by the intermediate
	PartVEKHWID    Part = "vek-hwid"    // HWID extension, 64 or 8 bytes; then signed by the intermediate
	PartSNPReport  Part = "snp-report"  // 0x2A0 bytes; then signed by the VEK
	PartSNPSigned  Part = "snp-signed"  // the whole report
)

// Parts of collateral.
const (
	PartTCBInfo    Part = "tcb-info"    // JSON; then signed
	PartNumbers    Part = "numbers"     // JSON of the evaluation data numbers; then signed
	PartQEIdentity Part = "qe-identity" // JSON; then signed
	PartPCKCRL     Part = "pck-crl"     // DER, signed
	PartRootCRL    Part = "root-crl"    // DER, signed
	PartAMDCRL     Part = "amd-crl"     // DER, signed
)
