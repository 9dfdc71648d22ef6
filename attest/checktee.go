// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func (k *checker) sgx(p *SGXPolicy, c *SGXClaims) {
	k.equalHex("UniqueID", p.UniqueID, c.MRENCLAVE)
	k.equalHex("SignerID", p.SignerID, c.MRSIGNER)
	if p.ProductID != nil {
		k.equalUint("ProductID", *p.ProductID, uint64(c.ISVPRODID))
	}
	if p.SecurityVersion != nil {
		k.atLeast("SecurityVersion", uint64(*p.SecurityVersion), uint64(c.ISVSVN))
	}
}

func (k *checker) tdx(p *TDXPolicy, c *TDXClaims) {
	k.equalHex("TDX.MRTD", p.MRTD, c.MRTD)
	for i := range p.RTMR {
		k.equalHex("TDX.RTMR"+strconv.Itoa(i), p.RTMR[i], c.RTMR[i])
	}
	k.equalHex("TDX.MRConfigID", p.MRConfigID, c.MRConfigID)
	k.equalHex("TDX.MROwner", p.MROwner, c.MROwner)
	k.equalHex("TDX.MROwnerConfig", p.MROwnerConfig, c.MROwnerConfig)
	k.equalHex("TDX.MRSEAM", p.MRSEAM, c.MRSEAM)
	k.equalHex("TDX.TDAttributes", p.TDAttributes, c.TDAttributes)
	k.equalHex("TDX.XFAM", p.XFAM, c.XFAM)
}

func (k *checker) snp(p *SNPPolicy, c *SNPClaims) {
	k.equalHex("SNP.Measurement", p.Measurement, c.Measurement)
	k.equalHex("SNP.HostData", p.HostData, c.HostData)
	k.equalHex("SNP.IDKeyDigest", p.IDKeyDigest, c.IDKeyDigest)
	k.equalHex("SNP.AuthorKeyDigest", p.AuthorKeyDigest, c.AuthorKeyDigest)
	if p.GuestSVN != nil {
		k.atLeast("SNP.GuestSVN", uint64(*p.GuestSVN), uint64(c.GuestSVN))
	}
	for _, name := range slices.Sorted(maps.Keys(p.Policy)) {
		k.snpBit(name, p.Policy[name], c.Policy)
	}
	if p.MinimumTCB != nil {
		k.snpMinimum(*p.MinimumTCB, c)
	}
	if p.VMPL != nil {
		k.equalUint("SNP.VMPL", uint64(*p.VMPL), uint64(c.VMPL))
	}
}

func (k *checker) snpBit(name string, want bool, policy uint64) {
	field := "SNP.Policy." + name
	bit, ok := SNPPolicyBit(name)
	if !ok {
		k.refuse(Reason{Field: field, Want: strconv.FormatBool(want),
			Text: fmt.Sprintf("%s is not the name of a guest policy bit; names are %s", name,
				strings.Join(SNPPolicyBitNames(), ", "))})
		return
	}
	if got := policy>>bit&1 == 1; got != want {
		k.refuse(Reason{Field: field, Want: strconv.FormatBool(want), Got: strconv.FormatBool(got),
			Text:   fmt.Sprintf("guest policy bit %s is %t, wanted %t", name, got, want),
			Change: fmt.Sprintf("set %s to %t", field, got)})
	}
}

// snpMinimum derives the status: AMD publishes none, so OutOfDate means a component below the policy's minimum
// (FORMATS §5.2). The reported version counts, the committed one, to which the firmware may go back, and that of the
// launch, since what an older firmware let happen to the guest stays. Components compare one by one, never as one
// number. FMC exists on Turin only.
func (k *checker) snpMinimum(want SNPTCB, c *SNPClaims) {
	versions := []struct {
		of string
		SNPTCB
	}{{"", c.Reported}, {"committed ", c.Committed}, {"launch ", c.Launch}}
	least := func(name string, want uint8, part func(SNPTCB) uint8) {
		short := ShortComponent{Name: name, Got: int(want), Want: int(want)}
		for _, v := range versions {
			if got := int(part(v.SNPTCB)); got < short.Got {
				short.Name, short.Got = v.of+name, got
			}
		}
		if short.Got < short.Want {
			k.verdict.Short = append(k.verdict.Short, short)
		}
	}
	least("bootloader", want.Bootloader, func(t SNPTCB) uint8 { return t.Bootloader })
	least("tee", want.TEE, func(t SNPTCB) uint8 { return t.TEE })
	least("snp", want.SNP, func(t SNPTCB) uint8 { return t.SNP })
	least("microcode", want.Microcode, func(t SNPTCB) uint8 { return t.Microcode })
	if c.Product == "Turin" {
		least("fmc", want.FMC, func(t SNPTCB) uint8 { return t.FMC })
	}
	if len(k.verdict.Short) > 0 {
		k.verdict.TCBStatus = k.c.TCBStatus.Merge(OutOfDate)
	}
}

// minimumReason explains an SNP platform below the minimum.
func (k *checker) minimumReason() Reason {
	var want, got, change []string
	for _, s := range k.verdict.Short {
		part := s.Name[strings.LastIndexByte(s.Name, ' ')+1:]
		want = append(want, fmt.Sprintf("%s %d", part, s.Want))
		got = append(got, fmt.Sprintf("%s %d", s.Name, s.Got))
		change = append(change, fmt.Sprintf("%s to %d", part, s.Got))
	}
	return Reason{Field: "SNP.MinimumTCB", Want: "at least " + strings.Join(want, ", "), Got: strings.Join(got, ", "),
		Text: fmt.Sprintf("TCB status %s is not accepted: the platform has %s, wanted at least %s", k.verdict.TCBStatus,
			strings.Join(got, ", "), strings.Join(want, ", ")),
		Change: fmt.Sprintf("lower SNP.MinimumTCB: %s, or add %q to AcceptedTCBStatuses", strings.Join(change, ", "),
			OutOfDate)}
}

// SNPPolicyBit returns the position of a bit of the SEV-SNP guest policy (FORMATS §5.1). Names compare ignoring case,
// '_' and '-'.
func SNPPolicyBit(name string) (bit uint, ok bool) {
	switch strings.ToUpper(strings.NewReplacer("_", "", "-", "").Replace(name)) {
	case "SMT":
		return 16, true
	case "MIGRATEMA":
		return 18, true
	case "DEBUG":
		return 19, true
	case "SINGLESOCKET":
		return 20, true
	case "CXLALLOW":
		return 21, true
	case "MEMAES256XTS":
		return 22, true
	case "RAPLDIS":
		return 23, true
	case "CIPHERTEXTHIDING":
		return 24, true
	case "PAGESWAPDISABLE":
		return 25, true
	}
	return 0, false
}

// SNPPolicyBitNames lists the names that SNPPolicyBit knows, in the order of the bits.
func SNPPolicyBitNames() []string {
	return []string{"SMT", "MIGRATE_MA", "DEBUG", "SINGLE_SOCKET", "CXL_ALLOW", "MEM_AES_256_XTS", "RAPL_DIS",
		"CIPHERTEXT_HIDING", "PAGE_SWAP_DISABLE"}
}
