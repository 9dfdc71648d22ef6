// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
	var status TCBStatus
	for i, half := range k.halves() {
		if !half.date.IsZero() && !half.date.Before(since) {
			half.status = half.status.graced()
		}
		if i == 0 {
			status = half.status
		} else {
			status = status.Merge(half.status)
		}
	}
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
	var why []string
	for _, half := range k.halves() {
		if half.status != "" && half.status != UpToDate {
			why = append(why, fmt.Sprintf("%s is %s", half.name, half.status))
		}
	}
	for _, s := range c.Short {
		why = append(why, fmt.Sprintf("%s has %d, the newest level wants %d", s.Name, s.Got, s.Want))
	}
	if len(why) > 0 {
		text += ": " + strings.Join(why, ", ")
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
	for _, half := range k.halves() {
		switch {
		case !half.status.outOfDate():
		case half.date.IsZero():
			return time.Time{}
		case oldest.IsZero() || half.date.Before(oldest):
			oldest = half.date
		}
	}
	return oldest
}

// half is one part of the TCB that has a status of its own.
type half struct {
	name   string
	status TCBStatus // empty if there is none
	date   time.Time // of the matched level
}

func (k *checker) halves() []half {
	return []half{
		{"platform", k.c.PlatformStatus, k.c.TCBDate},
		{"TDX module", k.c.ModuleStatus, k.c.ModuleDate},
		{"quoting enclave", k.c.QEStatus, k.c.QEDate},
	}
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
