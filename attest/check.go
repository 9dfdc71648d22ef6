// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Check holds claims against the policy and gives every reason for a refusal, in the order: TEE, measurements and
// versions, Debug, TCB status, advisories, collateral, machine. The claims must come from a successful verification.
//
// The rules are those of the manifest contract §3: UpToDate always passes, any other status must be listed (statuses
// compare with case); Debug must be equal; advisories count only if the status is SWHardeningNeeded and the list is not
// empty. The additions never accept NotSupported and never turn Revoked into something else.
func (p Policy) Check(c *Claims) Verdict {
	if c == nil {
		return Verdict{Reasons: []Reason{{Text: "no claims: the evidence has not been verified"}}}
	}
	k := checker{p: p, c: c, verdict: Verdict{Reasons: []Reason{}, TCBStatus: c.TCBStatus}}
	k.tee()
	k.debug()
	k.tcbStatus()
	k.advisories()
	k.evaluation()
	k.machine()
	k.verdict.Accepted = len(k.verdict.Reasons) == 0
	return k.verdict
}

// checker collects the reasons of one Check.
type checker struct {
	p       Policy
	c       *Claims
	verdict Verdict
}

func (k *checker) refuse(r Reason) { k.verdict.Reasons = append(k.verdict.Reasons, r) }

// tee checks that the policy is for the evidence's kind of TEE and then the fields of that kind.
func (k *checker) tee() {
	var want []string
	if k.p.SGX != nil {
		want = append(want, string(SGX))
	}
	if k.p.TDX != nil {
		want = append(want, string(TDX))
	}
	if k.p.SNP != nil {
		want = append(want, string(SNP))
	}
	got := string(k.c.TEE)
	switch {
	case len(want) == 0:
		k.refuse(Reason{Field: "TEE", Got: got, Text: "the policy names no TEE: it must pin one of SGX, TDX and SNP"})
	case len(want) > 1:
		k.refuse(Reason{Field: "TEE", Want: strings.Join(want, ", "), Got: got,
			Text: "the policy names several TEEs: it must pin exactly one of SGX, TDX and SNP"})
	case k.p.SGX != nil && k.c.TEE == SGX && k.c.SGX != nil:
		k.sgx(k.p.SGX, k.c.SGX)
	case k.p.TDX != nil && k.c.TEE == TDX && k.c.TDX != nil:
		k.tdx(k.p.TDX, k.c.TDX)
	case k.p.SNP != nil && k.c.TEE == SNP && k.c.SNP != nil:
		k.snp(k.p.SNP, k.c.SNP)
	default:
		k.refuse(Reason{Field: "TEE", Want: want[0], Got: got,
			Text:   fmt.Sprintf("the evidence is of %s, the policy wants %s", got, want[0]),
			Change: "use a package that pins " + strings.ToUpper(got)})
	}
}

// equalHex refuses unless want is empty or equals got, ignoring case.
func (k *checker) equalHex(field, want, got string) {
	if want == "" || strings.EqualFold(want, got) {
		return
	}
	k.refuse(Reason{Field: field, Want: want, Got: got, Text: fmt.Sprintf("%s is %s, wanted %s", field, got, want),
		Change: fmt.Sprintf("set %s to %q", field, got)})
}

// equalUint refuses unless want equals got.
func (k *checker) equalUint(field string, want, got uint64) {
	if want == got {
		return
	}
	k.refuse(Reason{Field: field, Want: strconv.FormatUint(want, 10), Got: strconv.FormatUint(got, 10),
		Text: fmt.Sprintf("%s is %d, wanted %d", field, got, want), Change: fmt.Sprintf("set %s to %d", field, got)})
}

// atLeast refuses unless got is at least want.
func (k *checker) atLeast(field string, want, got uint64) {
	if got >= want {
		return
	}
	k.refuse(Reason{Field: field, Want: fmt.Sprintf("at least %d", want), Got: strconv.FormatUint(got, 10),
		Text:   fmt.Sprintf("%s is %d, wanted at least %d", field, got, want),
		Change: fmt.Sprintf("lower %s to %d", field, got)})
}

func (k *checker) debug() {
	if k.p.DebugAllowed || k.p.Debug == k.c.Debug {
		return
	}
	text := "the TEE is in debug mode, its host can read its memory; the policy wants production mode"
	if k.p.Debug {
		text = "the TEE is in production mode, the policy wants debug mode"
	}
	k.refuse(Reason{Field: "Debug", Want: strconv.FormatBool(k.p.Debug), Got: strconv.FormatBool(k.c.Debug), Text: text,
		Change: fmt.Sprintf("set Debug to %t", k.c.Debug)})
}

// CheckReportData compares the 64 bytes that the program chose with what they must be.
func CheckReportData(c *Claims, want [64]byte) *Reason {
	if c.ReportData == want {
		return nil
	}
	return &Reason{Field: "ReportData", Want: hex.EncodeToString(want[:]), Got: hex.EncodeToString(c.ReportData[:]),
		Text: "the report data is not the expected value: the evidence was made for something else"}
}

// CheckReportHash requires report data of hash ‖ 32 zero bytes, the form of FORMATS §3: the hash is SHA-256 over a
// certificate, with a nonce after it where the protocol has one.
func CheckReportHash(c *Claims, hash [32]byte) *Reason {
	var want [64]byte
	copy(want[:], hash[:])
	return CheckReportData(c, want)
}
