// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package tcbdata is the TCB data of the software TEE: a ladder of levels with a status each, and Intel's JSON of it
// (FORMATS §1.9, §1.10). It signs nothing.
package tcbdata

import (
	"slices"
	"time"

	"github.com/marblerun/marblerun/attest"
)

// NotSupported stands for a machine below the lowest TCB level; no evidence has it as a status, it is refused.
const NotSupported attest.TCBStatus = "NotSupported"

// What all machines have and all levels want, besides the SVNs of the ladder.
const (
	// PCESVN of the provisioning certification enclave.
	PCESVN = 11
	// TDXComponent0 is what all TDX levels want of TDX component 0. A verifier must not compare it with the SVN of a
	// module that has an identity, which is lower (FORMATS §7).
	TDXComponent0 = 5
)

// BaseSVNs are the SGX components; 0 and 1 follow the ladder.
func BaseSVNs() [16]uint8 { return [16]uint8{2: 2, 3: 2, 4: 3, 5: 1, 7: 3} }

// Dataset is the TCB data of one evaluation number.
type Dataset struct {
	EvaluationNumber int       `json:"evaluationNumber"`
	RecoveryDate     time.Time `json:"recoveryDate"`
	// Platform, Module and QE are ladders of levels, highest first. Both TDX modules and both quoting enclaves share
	// theirs.
	Platform []Level `json:"platform"`
	Module   []Level `json:"module"`
	QE       []Level `json:"qe"`
}

// Level is a TCB level. For the platform the SVN is that of the microcode (SGX components 0 and 1, TDX component 2);
// for a module and a quoting enclave it is the ISVSVN.
type Level struct {
	SVN        uint8            `json:"svn"`
	Status     attest.TCBStatus `json:"status"`
	Date       time.Time        `json:"date"`
	Advisories []string         `json:"advisories,omitempty"`
}

// Advisories that the levels have; the numbers are not in use at Intel.
const (
	AdvisoryHardening     = "INTEL-SA-99001"
	AdvisoryConfiguration = "INTEL-SA-99002"
	AdvisoryOutOfDate     = "INTEL-SA-99003"
	AdvisoryModule        = "INTEL-SA-99010"
	AdvisoryQE            = "INTEL-SA-99020"
	AdvisoryRecovery      = "INTEL-SA-99100"
)

// NewDataset has a platform level for every status.
func NewDataset() Dataset {
	newest, older := date(2024, 11, 13), date(2024, 3, 13)
	hard, conf, old := AdvisoryHardening, AdvisoryConfiguration, AdvisoryOutOfDate
	return Dataset{
		EvaluationNumber: 18,
		RecoveryDate:     newest,
		Platform: []Level{
			{10, attest.UpToDate, newest, nil},
			{9, attest.SWHardeningNeeded, newest, []string{hard}},
			{8, attest.ConfigurationNeeded, newest, []string{conf}},
			{7, attest.ConfigurationAndSWHardeningNeeded, newest, []string{hard, conf}},
			{6, attest.OutOfDate, older, []string{hard, old}},
			{5, attest.OutOfDateConfigurationNeeded, older, []string{hard, conf, old}},
			{4, attest.Revoked, date(2018, 1, 4), []string{hard, conf, old}},
		},
		Module: []Level{
			{3, attest.UpToDate, newest, nil},
			{2, attest.OutOfDate, older, []string{AdvisoryModule}},
			{1, attest.Revoked, date(2023, 2, 15), []string{AdvisoryModule}},
		},
		QE: []Level{
			{8, attest.UpToDate, newest, nil},
			{6, attest.OutOfDate, older, []string{AdvisoryQE}},
			{5, attest.Revoked, date(2018, 1, 4), []string{AdvisoryQE}},
		},
	}
}

// Recover is the data set after a TCB recovery: the next evaluation number, and a new level that no machine has, so
// that what was UpToDate is OutOfDate.
func (d Dataset) Recover() Dataset {
	d.EvaluationNumber++
	d.RecoveryDate = d.RecoveryDate.AddDate(0, 6, 0)
	d.Platform = slices.Clone(d.Platform)
	for i, l := range d.Platform {
		if l.Status == attest.UpToDate || l.Status == attest.SWHardeningNeeded {
			d.Platform[i].Status = attest.OutOfDate
			d.Platform[i].Advisories = append(slices.Clone(l.Advisories), AdvisoryRecovery)
		}
	}
	top := Level{SVN: d.Platform[0].SVN + 1, Status: attest.UpToDate, Date: d.RecoveryDate}
	d.Platform = append([]Level{top}, d.Platform...)
	return d
}

func date(year, month, day int) time.Time {
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
}

// SVN is the SVN of a status on a ladder of NewDataset: what a machine of that status has. It is one below the lowest
// level for NotSupported.
func SVN(ladder []Level, s attest.TCBStatus) (uint8, bool) {
	if s == NotSupported {
		return ladder[len(ladder)-1].SVN - 1, true
	}
	if s == "" {
		s = attest.UpToDate
	}
	i := slices.IndexFunc(ladder, func(l Level) bool { return l.Status == s })
	if i < 0 {
		return 0, false
	}
	return ladder[i].SVN, true
}
