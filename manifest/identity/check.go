// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest/problem"
)

// checker looks for problems in one package or infrastructure.
type checker struct{ *problem.Report }

// Check reports what is wrong with the package at path: its additions to MarbleRun's language always, and whether it
// pins an identity if a Marble uses it.
func (p Package) Check(r *problem.Report, path string, used bool) {
	c := checker{r}
	c.teeKind(path, p)
	c.tdx(path+".TDX", p.TDX)
	c.snp(path+".SNP", p.SNP)
	c.statuses(path+".AcceptedTCBStatuses", p.AcceptedTCBStatuses)
	if used {
		c.identity(path, p)
	}
}

// Check reports what is wrong with the infrastructure at path.
func (i Infrastructure) Check(r *problem.Report, path string) {
	c := checker{r}
	if i.Machines != nil && len(i.Machines) == 0 {
		c.Fail(path+".Machines", "an empty list of machines would allow none").Hint =
			"leave Machines out to allow all hardware"
	}
	for n, m := range i.Machines {
		c.machine(problem.Item(path+".Machines", n), m)
	}
}

func hasSGX(p Package) bool {
	return p.UniqueID != "" || p.SignerID != "" || p.ProductID != nil || p.SecurityVersion != nil
}

func (c checker) teeKind(path string, p Package) {
	kinds := 0
	for _, is := range []bool{hasSGX(p), p.TDX != nil, p.SNP != nil} {
		if is {
			kinds++
		}
	}
	if kinds > 1 {
		c.Fail(path, "a package is for one kind of TEE").Hint =
			"use either UniqueID, SignerID, ProductID and SecurityVersion (SGX), or TDX, or SNP"
	}
	if p.SNP != nil && p.MinimumTCBEvaluationDataNumber != 0 {
		c.Warn(path+".MinimumTCBEvaluationDataNumber", "has no effect on SNP guests").Hint = "use SNP.MinimumTCB"
	}
	c.lintHex(path+".UniqueID", p.UniqueID)
	c.lintHex(path+".SignerID", p.SignerID)
}

// lintHex warns of an SGX measurement that cannot match. It is no error because MarbleRun accepts it.
func (c checker) lintHex(path, value string) {
	if value != "" && !isHex(value, 32) {
		c.Warn(path, "is not 32 bytes in hex and will never match")
	}
}

// identity requires that a package admits one program and its updates, not any. Debug enclaves prove nothing anyway.
func (c checker) identity(path string, p Package) {
	complain := c.Fail
	if p.Debug {
		complain = c.Warn
	}
	switch {
	case p.TDX != nil:
		c.pinTDX(complain, path+".TDX", p.TDX)
	case p.SNP != nil:
		c.pinSNP(complain, path+".SNP", p.SNP)
	case p.UniqueID != "":
		if p.SignerID != "" || p.ProductID != nil || p.SecurityVersion != nil {
			complain(path, "has a UniqueID besides SignerID, ProductID or SecurityVersion").Hint =
				"use one of the two identities"
		}
	default:
		if missing := missingSGX(p); len(missing) > 0 {
			complain(path, "the identity is incomplete: %s missing", strings.Join(missing, ", ")).Hint =
				"set UniqueID alone, or SignerID, ProductID and SecurityVersion"
		}
	}
}

func missingSGX(p Package) (missing []string) {
	if p.SignerID == "" {
		missing = append(missing, "SignerID")
	}
	if p.ProductID == nil {
		missing = append(missing, "ProductID")
	}
	if p.SecurityVersion == nil {
		missing = append(missing, "SecurityVersion")
	}
	return missing
}

func (c checker) pinTDX(complain func(string, string, ...any) *problem.Problem, path string, p *TDX) {
	switch {
	case p.MRTD == "":
		complain(path, "no measurement is pinned: MRTD missing").Hint =
			"the RTMRs alone prove nothing, because the firmware measured by MRTD writes them"
	case isZero(p.MRTD):
		complain(path+".MRTD", "a measurement of zeros is none")
	}
}

func (c checker) pinSNP(complain func(string, string, ...any) *problem.Problem, path string, p *SNP) {
	switch {
	case p.Measurement == "" && (p.IDKeyDigest == "" || p.GuestSVN == nil):
		complain(path, "no measurement is pinned: Measurement missing").Hint =
			"set Measurement, or IDKeyDigest and GuestSVN for guests with a signed ID block"
	case isZero(p.Measurement):
		complain(path+".Measurement", "a measurement of zeros is none")
	case p.Measurement == "" && isZero(p.IDKeyDigest):
		complain(path+".IDKeyDigest", "a digest of zeros stands for guests without an ID key")
	}
}

func (c checker) tdx(path string, p *TDX) {
	if p == nil {
		return
	}
	c.hexField(path+".MRTD", p.MRTD, 48)
	for i, rtmr := range []string{p.RTMR0, p.RTMR1, p.RTMR2, p.RTMR3} {
		c.hexField(fmt.Sprintf("%s.RTMR%d", path, i), rtmr, 48)
	}
	c.hexField(path+".MRConfigID", p.MRConfigID, 48)
	c.hexField(path+".MROwner", p.MROwner, 48)
	c.hexField(path+".MROwnerConfig", p.MROwnerConfig, 48)
	c.hexField(path+".MRSEAM", p.MRSEAM, 48)
	c.hexField(path+".TDAttributes", p.TDAttributes, 8)
	c.hexField(path+".XFAM", p.XFAM, 8)
}

// debugBit of an SEV-SNP guest policy is what a package's Debug is compared with.
const debugBit = 19

func (c checker) snp(path string, p *SNP) {
	if p == nil {
		return
	}
	c.hexField(path+".Measurement", p.Measurement, 48)
	c.hexField(path+".HostData", p.HostData, 32)
	c.hexField(path+".IDKeyDigest", p.IDKeyDigest, 48)
	c.hexField(path+".AuthorKeyDigest", p.AuthorKeyDigest, 48)
	for _, bit := range slices.Sorted(maps.Keys(p.Policy)) {
		n, ok := attest.SNPPolicyBit(bit)
		switch {
		case ok && n == debugBit:
			c.Fail(problem.Key(path+".Policy", bit), "the debug bit is not set here").Hint = "use the package's Debug"
		case !ok:
			c.Fail(problem.Key(path+".Policy", bit), "unknown policy bit %s", problem.Quote(bit)).Hint =
				c.MeantOrOneOf(bit, attest.SNPPolicyBitNames())
		}
	}
	if p.VMPL != nil && *p.VMPL > 3 {
		c.Fail(path+".VMPL", "is %d, the highest is 3", *p.VMPL)
	}
}

// statuses warns of TCB statuses that do not exist. It is no error because MarbleRun accepts any.
func (c checker) statuses(path string, statuses []string) {
	known := []string{
		string(attest.UpToDate), string(attest.SWHardeningNeeded), string(attest.ConfigurationNeeded),
		string(attest.ConfigurationAndSWHardeningNeeded), string(attest.OutOfDate),
		string(attest.OutOfDateConfigurationNeeded), string(attest.Revoked), string(attest.TDRelaunchAdvised),
		string(attest.TDRelaunchAdvisedConfigurationNeed), "Unknown",
	}
	for i, s := range statuses {
		switch {
		case !slices.Contains(known, s):
			c.Warn(problem.Item(path, i), "unknown TCB status %s will never match", problem.Quote(s)).Hint = c.Meant(s, known)
		case s == string(attest.Revoked):
			c.Warn(problem.Item(path, i), "accepting Revoked accepts platforms whose keys may be in foreign hands")
		}
	}
}

func (c checker) machine(path string, m Machine) {
	if m == (Machine{}) {
		c.Fail(path, "no machine is named").Hint = "set PPID, PlatformInstanceID or ChipID"
	}
	c.hexField(path+".PPID", m.PPID, 16)
	c.hexField(path+".PlatformInstanceID", m.PlatformInstanceID, 16)
	c.hexField(path+".ChipID", m.ChipID, 64, 8)
}

// hexField checks one of our own fields, which MarbleRun does not know.
func (c checker) hexField(path, value string, sizes ...int) {
	if value == "" {
		return
	}
	for _, size := range sizes {
		if isHex(value, size) {
			return
		}
	}
	c.Fail(path, "must be %s bytes in hex", strings.ReplaceAll(strings.Trim(fmt.Sprint(sizes), "[]"), " ", " or "))
}

func isHex(value string, size int) bool {
	_, err := hex.DecodeString(value)
	return err == nil && len(value) == 2*size
}

func isZero(value string) bool { return value != "" && strings.Trim(value, "0") == "" }
