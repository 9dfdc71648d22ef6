// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"fmt"

	"github.com/marblerun/marblerun/attest"
)

// PolicyBit is one flag of a guest policy.
type PolicyBit struct {
	// Name is AMD's name for it, e.g. "SMT", and that of attest.SNPPolicy.Policy.
	Name string
	// Bit is its position, 16 to 25.
	Bit uint
	Set bool
}

const (
	policyMustBeOne = 1 << 17
	policyDebug     = 1 << 19
	policyLastBit   = 25
)

// PolicyBits lists the flags of a guest policy in order of position (FORMATS §5.1), without the ABI version in bits 0
// to 15 and bit 17, which is always one.
func PolicyBits(policy uint64) []PolicyBit {
	var bits []PolicyBit
	for _, name := range attest.SNPPolicyBitNames() {
		if bit, ok := attest.SNPPolicyBit(name); ok {
			bits = append(bits, PolicyBit{Name: name, Bit: bit, Set: policy>>bit&1 == 1})
		}
	}
	return bits
}

// checkPolicy refuses a policy with unknown bits: what they would allow is unknown.
func checkPolicy(policy uint64) error {
	if policy&policyMustBeOne == 0 {
		return refuse(CodeFormat, "1", "0", "bit 17 of the guest policy must be one")
	}
	if policy>>(policyLastBit+1) != 0 {
		return refuse(CodeReserved, "zero", fmt.Sprintf("%#x", policy),
			"unknown bits above %d of the guest policy", policyLastBit)
	}
	return nil
}
