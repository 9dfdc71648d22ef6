// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
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

// tcbStatus applies the grace and then the list.
func (k *checker) tcbStatus() {
	k.grace()
	status := k.verdict.TCBStatus
	listed := status != NotSupported && status != "" && slices.Contains(k.p.AcceptedTCBStatuses, string(status))
	if status == UpToDate || listed {
		return
	}
	if len(k.verdict.Short) > 0 {
		k.refuse(k.minimumReason())
		return
	}
	k.refuse(Reason{Field: "AcceptedTCBStatuses", Want: k.acceptedStatuses(), Got: string(status), Text: k.statusText(),
		Change: k.statusChange()})
}

// grace turns halves that are out of date, but not older than TCBDateAfter, into current ones (FORMATS §1.12 b). Each
// half answers for itself: a recent platform level excuses neither an old module nor an old quoting enclave.
func (k *checker) grace() {
	c, since := k.c, k.p.TCBDateAfter
	if since.IsZero() || c.TEE == SNP || c.PlatformStatus == "" {
		return
	}
	covered := func(status TCBStatus, date time.Time) TCBStatus {
		if !date.IsZero() && !date.Before(since) {
			return status.graced()
		}
		return status
	}
	status := covered(c.PlatformStatus, c.TCBDate)
	status = status.Merge(covered(c.ModuleStatus, c.ModuleDate)).Merge(covered(c.QEStatus, c.QEDate))
	if relaunch(c.TCBStatus) && status.outOfDate() {
		return // the merge above knows no relaunch; nothing was gained
	}
	if status == c.TCBStatus || c.TCBStatus == Revoked || c.TCBStatus == NotSupported {
		return
	}
	k.verdict.TCBStatus = status
	k.verdict.Notes = append(k.verdict.Notes, fmt.Sprintf("TCB status %s counts as %s: what is out of date is not older "+
		"than TCBDateAfter (%s)", c.TCBStatus, status, since.Format(time.DateOnly)))
}

func relaunch(s TCBStatus) bool {
	return s == TDRelaunchAdvised || s == TDRelaunchAdvisedConfigurationNeed
}

func (k *checker) acceptedStatuses() string {
	accepted := []string{string(UpToDate)}
	for _, s := range k.p.AcceptedTCBStatuses {
		if !slices.Contains(accepted, s) && s != string(NotSupported) {
			accepted = append(accepted, s)
		}
	}
	return strings.Join(accepted, ", ")
}

// statusText names the halves, the short components and the advisories.
func (k *checker) statusText() string {
	c := k.c
	text := fmt.Sprintf("TCB status %s is not accepted", k.verdict.TCBStatus)
	var halves []string
	for _, half := range []struct {
		name   string
		status TCBStatus
	}{{"platform", c.PlatformStatus}, {"TDX module", c.ModuleStatus}, {"quoting enclave", c.QEStatus}} {
		if half.status != "" && half.status != UpToDate {
			halves = append(halves, fmt.Sprintf("%s is %s", half.name, half.status))
		}
	}
	for _, s := range c.Short {
		halves = append(halves, fmt.Sprintf("%s has %d, the newest level wants %d", s.Name, s.Got, s.Want))
	}
	if len(halves) > 0 {
		text += ": " + strings.Join(halves, ", ")
	}
	if len(c.Advisories) > 0 {
		text += "; advisories " + strings.Join(c.Advisories, ", ")
	}
	return text
}

// statusChange is empty for Revoked and NotSupported: no one should be led to accept them.
func (k *checker) statusChange() string {
	status := k.verdict.TCBStatus
	if status == Revoked || status == NotSupported || status == "" {
		return ""
	}
	change := fmt.Sprintf("add %q to AcceptedTCBStatuses", status)
	if oldest := k.oldestOutOfDate(); status.outOfDate() && !oldest.IsZero() {
		change += ", or set TCBDateAfter to " + oldest.Format(time.DateOnly) + " or earlier"
	}
	return change
}

// oldestOutOfDate is the latest TCBDateAfter that would cover all halves; zero if none does.
func (k *checker) oldestOutOfDate() time.Time {
	var oldest time.Time
	halves := map[time.Time]TCBStatus{k.c.TCBDate: k.c.PlatformStatus}
	if k.c.ModuleStatus.outOfDate() {
		halves[k.c.ModuleDate] = k.c.ModuleStatus
	}
	if k.c.QEStatus.outOfDate() {
		halves[k.c.QEDate] = k.c.QEStatus
	}
	for date, status := range halves {
		if status.outOfDate() && (oldest.IsZero() || date.Before(oldest)) {
			oldest = date
		}
	}
	return oldest
}

func (k *checker) advisories() {
	if k.verdict.TCBStatus != SWHardeningNeeded || len(k.p.AcceptedAdvisories) == 0 {
		return
	}
	var missing []string
	for _, a := range k.c.PlatformAdvisories {
		if !slices.ContainsFunc(k.p.AcceptedAdvisories, func(s string) bool { return strings.EqualFold(s, a) }) {
			missing = append(missing, a)
		}
	}
	if len(missing) == 0 {
		return
	}
	got := strings.Join(missing, ", ")
	k.refuse(Reason{Field: "AcceptedAdvisories", Want: strings.Join(k.p.AcceptedAdvisories, ", "), Got: got,
		Text:   fmt.Sprintf("TCB status %s with advisories that are not accepted: %s", SWHardeningNeeded, got),
		Change: "add " + got + " to AcceptedAdvisories"})
}

// evaluation refuses decisions by collateral of an older TCB recovery, of the platform and of the quoting enclave. AMD
// has no such numbers.
func (k *checker) evaluation() {
	const field = "MinimumTCBEvaluationDataNumber"
	minimum := k.p.MinimumTCBEvaluationDataNumber
	if minimum <= 0 || k.c.TEE == SNP {
		return
	}
	check := func(what string, got int) {
		if got >= minimum {
			return
		}
		k.refuse(Reason{Field: field, Want: fmt.Sprintf("at least %d", minimum), Got: strconv.Itoa(got),
			Text: fmt.Sprintf("the %s has TCB evaluation data number %d, wanted at least %d: newer collateral is needed",
				what, got, minimum),
			Change: fmt.Sprintf("lower %s to %d", field, got)})
	}
	check("TCB info", k.c.TCBEvaluationDataNumber)
	check("QE identity", k.c.QEEvaluationDataNumber)
}

func (k *checker) machine() {
	if len(k.p.Machines) == 0 {
		return
	}
	got := k.c.Machine
	if slices.ContainsFunc(k.p.Machines, func(m Machine) bool { return m.covers(got) }) {
		return
	}
	k.refuse(Reason{Field: "Machines", Want: fmt.Sprintf("one of the %d listed machines", len(k.p.Machines)),
		Got: got.String(), Text: fmt.Sprintf("the evidence comes from a machine that is not listed: %s", got),
		Change: fmt.Sprintf("add the machine (%s) to Machines", got)})
}

// covers tells whether got has all identifiers that m names. An m that names none covers nothing.
func (m Machine) covers(got Machine) bool {
	same := func(want, got string) bool { return want == "" || strings.EqualFold(want, got) }
	return m != Machine{} && same(m.PPID, got.PPID) && same(m.PlatformInstanceID, got.PlatformInstanceID) &&
		same(m.ChipID, got.ChipID) && same(m.FMSPC, got.FMSPC)
}

// String lists the identifiers that are known.
func (m Machine) String() string {
	var parts []string
	for _, part := range [][2]string{{"PPID", m.PPID}, {"platform instance", m.PlatformInstanceID}, {"chip", m.ChipID},
		{"FMSPC", m.FMSPC}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	if len(parts) == 0 {
		return "unknown machine"
	}
	return strings.Join(parts, ", ")
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
