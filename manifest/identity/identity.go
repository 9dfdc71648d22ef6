// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package identity is the part of the manifest language that says which programs on which hardware may run: packages
// and infrastructures.
package identity

import (
	"time"

	"github.com/marblerun/marblerun/attest"
)

// Package is a program that may run, by its identity in a TEE: an SGX enclave, unless TDX or SNP is set.
// Hex is compared ignoring case. Empty and nil fields are not checked at activation.
type Package struct {
	UniqueID        string  // MRENCLAVE, hex
	SignerID        string  // MRSIGNER, hex
	ProductID       *uint64 // ISVPRODID
	SecurityVersion *uint   // minimum ISVSVN
	Debug           bool    // must equal the TEE's debug attribute

	AcceptedTCBStatuses []string // besides UpToDate; empty = SWHardeningNeeded
	AcceptedAdvisories  []string // empty = all

	TDX *TDX // our additions, from here on
	SNP *SNP
	// MinimumTCBEvaluationDataNumber refuses decisions by older collateral (SGX and TDX); 0 = off.
	MinimumTCBEvaluationDataNumber uint32
	// TCBDateAfter is a grace: an OutOfDate platform whose TCB level is not older counts as UpToDate. RFC 3339; absent =
	// off.
	TCBDateAfter time.Time
}

// TDX pins an Intel TDX guest. All fields are hex.
type TDX struct {
	MRTD          string // 48 bytes
	RTMR0         string // 48 bytes
	RTMR1         string // 48 bytes
	RTMR2         string // 48 bytes
	RTMR3         string // 48 bytes
	MRConfigID    string // 48 bytes
	MROwner       string // 48 bytes
	MROwnerConfig string // 48 bytes
	MRSEAM        string // 48 bytes
	TDAttributes  string // 8 bytes, as in the report
	XFAM          string // 8 bytes, as in the report
}

// SNP pins an AMD SEV-SNP guest.
type SNP struct {
	Measurement     string          // 48 bytes, hex
	HostData        string          // 32 bytes, hex
	IDKeyDigest     string          // 48 bytes, hex
	AuthorKeyDigest string          // 48 bytes, hex
	GuestSVN        *uint32         // minimum
	Policy          map[string]bool // guest-policy bits that must have this value
	MinimumTCB      *SNPTCB
	VMPL            *uint32
}

// SNPTCB is a minimum TCB version by component.
type SNPTCB struct {
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// Infrastructure describes hardware. Only Machines has an effect; the other fields are kept for MarbleRun's manifests.
type Infrastructure struct {
	CPUSVN []byte
	QESVN  *uint16
	PCESVN *uint16
	RootCA []byte
	// Machines: once any Infrastructure has this list, only the machines in all lists together are allowed. Our addition.
	Machines []Machine
}

// Machine identifies hardware by what its TEE tells; hex, empty = not checked.
type Machine struct {
	PPID               string // Intel, 16 bytes
	PlatformInstanceID string // Intel, 16 bytes
	ChipID             string // AMD, 64 bytes (Turin: 8)
}

const defaultTCBStatus = string(attest.SWHardeningNeeded)

// Policy is what attest checks claims against, with the language's defaults applied. It does not know the manifest's
// Machines.
func (p Package) Policy() attest.Policy {
	out := attest.Policy{
		Debug:                          p.Debug,
		AcceptedTCBStatuses:            p.AcceptedTCBStatuses,
		AcceptedAdvisories:             p.AcceptedAdvisories,
		MinimumTCBEvaluationDataNumber: int(p.MinimumTCBEvaluationDataNumber),
		TCBDateAfter:                   p.TCBDateAfter,
	}
	if len(out.AcceptedTCBStatuses) == 0 {
		out.AcceptedTCBStatuses = []string{defaultTCBStatus}
	}
	switch {
	case p.TDX != nil:
		out.TDX = p.TDX.policy()
	case p.SNP != nil:
		out.SNP = p.SNP.policy()
	default:
		out.SGX = &attest.SGXPolicy{
			UniqueID: p.UniqueID, SignerID: p.SignerID, ProductID: p.ProductID, SecurityVersion: p.SecurityVersion,
		}
	}
	return out
}

func (p *TDX) policy() *attest.TDXPolicy {
	return &attest.TDXPolicy{
		MRTD: p.MRTD, RTMR: [4]string{p.RTMR0, p.RTMR1, p.RTMR2, p.RTMR3}, MRConfigID: p.MRConfigID, MROwner: p.MROwner,
		MROwnerConfig: p.MROwnerConfig, MRSEAM: p.MRSEAM, TDAttributes: p.TDAttributes, XFAM: p.XFAM,
	}
}

func (p *SNP) policy() *attest.SNPPolicy {
	out := &attest.SNPPolicy{
		Measurement: p.Measurement, HostData: p.HostData, IDKeyDigest: p.IDKeyDigest, AuthorKeyDigest: p.AuthorKeyDigest,
		GuestSVN: p.GuestSVN, Policy: p.Policy, VMPL: p.VMPL,
	}
	if t := p.MinimumTCB; t != nil {
		out.MinimumTCB = &attest.SNPTCB{FMC: t.FMC, Bootloader: t.Bootloader, TEE: t.TEE, SNP: t.SNP, Microcode: t.Microcode}
	}
	return out
}
