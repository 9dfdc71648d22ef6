// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import "time"

// Policy says which claims are acceptable. Exactly one of SGX, TDX and SNP is set.
type Policy struct {
	SGX *SGXPolicy
	TDX *TDXPolicy
	SNP *SNPPolicy

	// Debug must equal the evidence's debug attribute. With DebugAllowed a debug TEE is accepted but not required
	// (the client's policy files mean it so).
	Debug        bool
	DebugAllowed bool

	// AcceptedTCBStatuses are accepted besides UpToDate. Empty means none besides UpToDate: callers apply the default of
	// their contract.
	AcceptedTCBStatuses []string
	// AcceptedAdvisories limits the platform advisories if the status is SWHardeningNeeded; empty accepts all.
	AcceptedAdvisories []string
	// MinimumTCBEvaluationDataNumber refuses decisions by older collateral, TCB info or QE identity; 0 is off.
	MinimumTCBEvaluationDataNumber int
	// TCBDateAfter is a grace: an OutOfDate platform, module or quoting enclave whose matched level is not older counts as
	// UpToDate (OutOfDateConfigurationNeeded as ConfigurationNeeded). Each half answers for itself. It never covers
	// Revoked, unsupported, expired collateral or a bad CRL. Zero is off.
	TCBDateAfter time.Time

	// Machines is the allow-list of hardware; empty allows all.
	Machines []Machine
}

// SGXPolicy pins an SGX enclave. Empty and nil fields are not checked. Hex is compared ignoring case.
type SGXPolicy struct {
	UniqueID        string
	SignerID        string
	ProductID       *uint64
	SecurityVersion *uint
}

// TDXPolicy pins a TD. Empty fields are not checked. Hex is compared ignoring case.
type TDXPolicy struct {
	MRTD          string
	RTMR          [4]string
	MRConfigID    string
	MROwner       string
	MROwnerConfig string
	MRSEAM        string
	TDAttributes  string
	XFAM          string
}

// SNPPolicy pins an SEV-SNP guest. Empty and nil fields are not checked. Hex is compared ignoring case.
type SNPPolicy struct {
	Measurement     string
	HostData        string
	IDKeyDigest     string
	AuthorKeyDigest string
	// GuestSVN is a minimum.
	GuestSVN *uint32
	// Policy lists guest-policy bits by name that must have the given value; SNPPolicyBitNames lists the names.
	Policy map[string]bool
	// MinimumTCB of the reported, committed and launch TCB by component: bootloader, tee, snp, microcode, fmc.
	MinimumTCB *SNPTCB
	VMPL       *uint32
}
