// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

const notSupported = tcbdata.NotSupported

// TestStatusMatrix is statuses × kinds of quote: the real verifier finds what the machine is.
func TestStatusMatrix(t *testing.T) {
	p := newPlatform(t)
	statuses := []attest.TCBStatus{attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded,
		attest.ConfigurationAndSWHardeningNeeded, attest.OutOfDate, attest.OutOfDateConfigurationNeeded,
		attest.Revoked, notSupported}
	for _, kind := range softtee.Kinds() {
		if kind.TEE() == attest.SNP {
			continue
		}
		for _, status := range statuses {
			for _, processor := range []bool{false, true} {
				m := softtee.Machine{Name: "m", Status: status, ProcessorCA: processor}
				c, err := verify(t, p, issue(t, p, softtee.Request{Kind: kind, Machine: m}), processor)
				if status == notSupported {
					wantCode(t, err, attest.CodeNotSupported)
					continue
				}
				if err != nil {
					t.Errorf("%s %s: %v", kind, status, err)
					continue
				}
				if c.TCBStatus != status || c.PlatformStatus != status || c.QEStatus != attest.UpToDate {
					t.Errorf("%s %s: got %s, platform %s, QE %s", kind, status, c.TCBStatus, c.PlatformStatus, c.QEStatus)
				}
				if kind.TEE() == attest.TDX && c.ModuleStatus != attest.UpToDate {
					t.Errorf("%s %s: module %s", kind, status, c.ModuleStatus)
				}
				if c.TCBEvaluationDataNumber != 18 || c.TCBDate.IsZero() {
					t.Errorf("%s %s: evaluation %d, date %s", kind, status, c.TCBEvaluationDataNumber, c.TCBDate)
				}
			}
		}
	}
}

// TestHalves: platform, module and quoting enclave are merged; none is dropped (FORMATS §1.9, 4 to 6).
func TestHalves(t *testing.T) {
	p := newPlatform(t)
	const (
		up      = attest.UpToDate
		hard    = attest.SWHardeningNeeded
		conf    = attest.ConfigurationNeeded
		old     = attest.OutOfDate
		oldConf = attest.OutOfDateConfigurationNeeded
		revoked = attest.Revoked
	)
	tests := []struct {
		platform, module, qe, want attest.TCBStatus
		advisories                 []string
	}{
		{up, up, old, old, []string{tcbdata.AdvisoryQE}},
		{hard, up, old, old, []string{tcbdata.AdvisoryHardening, tcbdata.AdvisoryQE}},
		{conf, up, old, oldConf, []string{tcbdata.AdvisoryConfiguration, tcbdata.AdvisoryQE}},
		{up, up, revoked, revoked, []string{tcbdata.AdvisoryQE}},
		{up, up, notSupported, "", nil},
		{up, old, up, old, []string{tcbdata.AdvisoryModule}},
		{conf, old, up, oldConf, []string{tcbdata.AdvisoryConfiguration, tcbdata.AdvisoryModule}},
		{old, up, up, old, []string{tcbdata.AdvisoryHardening, tcbdata.AdvisoryOutOfDate}},
		{up, revoked, up, revoked, []string{tcbdata.AdvisoryModule}},
		{up, notSupported, up, "", nil},
		{revoked, old, old, revoked, []string{tcbdata.AdvisoryHardening, tcbdata.AdvisoryConfiguration,
			tcbdata.AdvisoryOutOfDate, tcbdata.AdvisoryModule, tcbdata.AdvisoryQE}},
	}
	for _, test := range tests {
		for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.SGXv5, softtee.TDXv4, softtee.TDXv5, softtee.TDXv5TD10} {
			if kind.TEE() == attest.SGX && test.module != up {
				continue
			}
			name := fmt.Sprintf("%s %s/%s/%s", kind, test.platform, test.module, test.qe)
			m := softtee.Machine{Name: "m", Status: test.platform, Module: test.module, QE: test.qe}
			c, err := verify(t, p, issue(t, p, softtee.Request{Kind: kind, Machine: m}), false)
			if test.want == "" {
				wantCode(t, err, attest.CodeNotSupported)
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := slices.Sorted(slices.Values(test.advisories))
			if c.TCBStatus != test.want || !slices.Equal(c.Advisories, want) {
				t.Errorf("%s: got %s %v, want %s %v", name, c.TCBStatus, c.Advisories, test.want, want)
			}
		}
	}
}

// TestModules: the modules of major version 0 have no identity, 3 has its own; a relaunch is advised if a newer module
// was loaded under the TD (FORMATS §1.9, 3 and 5).
func TestModules(t *testing.T) {
	p := newPlatform(t)
	const up, old = attest.UpToDate, attest.OutOfDate
	const v4, v5, v5TD10 = softtee.TDXv4, softtee.TDXv5, softtee.TDXv5TD10
	conf, relaunchConf := attest.ConfigurationNeeded, attest.TDRelaunchAdvisedConfigurationNeed
	type machine = softtee.Machine
	tests := []struct {
		name         string
		kind         softtee.Kind
		machine      machine
		want, module attest.TCBStatus
	}{
		{"major 0", v4, machine{ModuleMajor: -1}, up, ""},
		{"major 0, platform old", v5, machine{ModuleMajor: -1, Status: old}, old, ""},
		{"major 3", v5, machine{ModuleMajor: 3}, up, up},
		{"major 3, old", v4, machine{ModuleMajor: 3, Module: old}, old, old},
		{"relaunch", v5, machine{Module: old, Relaunch: true}, attest.TDRelaunchAdvised, old},
		{"relaunch, configuration", v5, machine{Status: conf, Module: old, Relaunch: true}, relaunchConf, old},
		{"relaunch, platform old", v5, machine{Status: old, Module: old, Relaunch: true}, old, old},
		{"relaunch, QE old", v5, machine{QE: old, Module: old, Relaunch: true}, old, old},
		{"no relaunch in a 1.0 body", v5TD10, machine{Module: old, Relaunch: true}, old, old},
	}
	for _, test := range tests {
		test.machine.Name = "m"
		c, err := verify(t, p, issue(t, p, softtee.Request{Kind: test.kind, Machine: test.machine}), false)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if c.TCBStatus != test.want || c.ModuleStatus != test.module {
			t.Errorf("%s: got %s, module %q; want %s, module %q", test.name, c.TCBStatus, c.ModuleStatus, test.want, test.module)
		}
	}
	m := softtee.Machine{Name: "m", ModuleMajor: 2}
	_, err := verify(t, p, issue(t, p, softtee.Request{Kind: softtee.TDXv4, Machine: m}), false)
	wantCode(t, err, attest.CodeModule)
}

// TestRecovery: a TCB recovery turns a machine that was fine into one that is out of date, under a new number.
func TestRecovery(t *testing.T) {
	p := newPlatform(t)
	p.Configure(func(s *softtee.Settings) { s.Standard = s.Early })
	c, err := verify(t, p, issue(t, p, softtee.Request{Kind: softtee.SGXv3}), false)
	if err != nil {
		t.Fatal(err)
	}
	if c.TCBStatus != attest.OutOfDate || c.TCBEvaluationDataNumber != 19 || len(c.Short) == 0 ||
		!slices.Equal(c.Advisories, []string{tcbdata.AdvisoryRecovery}) {
		t.Errorf("after recovery: %+v", c)
	}
}

// TestCRLAbsenceAllowed: an offline verifier that says so gets its claims.
func TestCRLAbsenceAllowed(t *testing.T) {
	p := newPlatform(t)
	p.Configure(func(s *softtee.Settings) { s.NoPCKCRL, s.NoRootCRL, s.NoAMDCRL = true, true, true })
	quote, err := p.Quote(softtee.Request{Kind: softtee.TDXv4, Machine: softtee.Machine{Name: "m"}})
	if err != nil {
		t.Fatal(err)
	}
	opts := dcap.Options{Roots: intelRoots(t, p), Time: now, AllowMissingCRLs: true}
	if _, err := dcap.Verify(quote, collateral(t, p, attest.TDX, false), opts); err != nil {
		t.Error(err)
	}
	e, err := attest.Parse(issue(t, p, softtee.Request{Kind: softtee.SNPv3}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = verifySNP(t, p, e)
	wantCode(t, err, snp.CodeCRL)
}

// TestSNPMatrix is products × versions × kinds of key × statuses.
func TestSNPMatrix(t *testing.T) {
	p := newPlatform(t)
	minimum := map[snp.Product]attest.SNPTCB{
		snp.Milan: {Bootloader: 4, SNP: 24, Microcode: 219}, snp.Genoa: {Bootloader: 10, SNP: 23, Microcode: 84},
		snp.Turin: {FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 81},
	}
	for _, kind := range []softtee.Kind{softtee.SNPv2, softtee.SNPv3, softtee.SNPv5} {
		for _, product := range snp.Products() {
			for _, m := range []softtee.Machine{{}, {VLEK: true}, {MaskChip: true}, {VLEK: true, MaskChip: true},
				{Status: attest.OutOfDate}} {
				m.Name, m.Product = "m", product
				c, err := verify(t, p, issue(t, p, softtee.Request{Kind: kind, Machine: m}), false)
				if err != nil {
					t.Errorf("%s %+v: %v", kind, m, err)
					continue
				}
				if c.SNP.Product != string(product) || (c.Machine.ChipID == "") != (m.VLEK && m.MaskChip) {
					t.Errorf("%s %+v: %+v", kind, m, c)
				}
				least := minimum[product]
				v := attest.Policy{SNP: &attest.SNPPolicy{MinimumTCB: &least}}.Check(c)
				if v.Accepted != (m.Status == "") || v.TCBStatus == attest.OutOfDate == v.Accepted {
					t.Errorf("%s %+v: verdict %+v", kind, m, v)
				}
			}
		}
	}
}
