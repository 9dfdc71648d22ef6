// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcb

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
)

// all makes SVNs of one value; first replace the first ones.
func all(svn uint8, first ...uint8) SVNs {
	var s SVNs
	for i := range s {
		s[i] = svn
	}
	copy(s[:], first)
	return s
}

func tdxInfo(levels ...Level) *Info {
	return &Info{TEE: attest.TDX, Version: 3, Module: &Module{}, Levels: levels, Modules: []Module{
		{ID: "TDX_01", Levels: []EnclaveLevel{{ISVSVN: 6, Status: attest.UpToDate}, {ISVSVN: 4, Status: attest.OutOfDate},
			{ISVSVN: 2, Status: attest.Revoked}}},
		{ID: "TDX_0A", Levels: []EnclaveLevel{{ISVSVN: 2, Status: attest.UpToDate}}},
	}}
}

func tdQE(status attest.TCBStatus) *Identity {
	return &Identity{TEE: attest.TDX, Levels: []EnclaveLevel{{ISVSVN: 0, Status: status}}}
}

// tdxCase is a TDX platform and its rating. Empty fields: the levels up to date (all 5) and out of date (all 3), quoting
// enclave up to date, SGX components all 5.
type tdxCase struct {
	levels                   []Level
	qe                       attest.TCBStatus
	svn, svn2                SVNs
	sgx                      uint8
	has2                     bool
	status, platform, module attest.TCBStatus
}

func newestLevel(status attest.TCBStatus) Level {
	return Level{SGX: all(5), TDX: all(5), PCESVN: 11, Status: status}
}

func oldLevel() Level { return Level{SGX: all(3), TDX: all(3), PCESVN: 5, Status: attest.OutOfDate} }

// TestTDX goes through steps 1 to 4 and 6, one fact at a time.
func TestTDX(t *testing.T) {
	runTDX(t, map[string]tdxCase{
		"components 0 and 1 are the module's": {svn: all(5, 6, 1), status: attest.UpToDate, platform: attest.UpToDate,
			module: attest.UpToDate},
		"components 0 and 1 far below the level's, with a module": {svn: all(9, 2, 10), status: attest.UpToDate,
			platform: attest.UpToDate, module: attest.UpToDate},
		"component 2 below": {svn: all(5, 6, 1, 4), status: attest.OutOfDate, platform: attest.OutOfDate,
			module: attest.UpToDate},
		"component 15 below": {svn: func() SVNs { s := all(5, 6, 1); s[15] = 4; return s }(), status: attest.OutOfDate,
			platform: attest.OutOfDate, module: attest.UpToDate},
		"SGX component below": {svn: all(5, 6, 1), sgx: 4, status: attest.OutOfDate, platform: attest.OutOfDate,
			module: attest.UpToDate},
		"major version 0: all components count": {svn: all(5, 5, 0), status: attest.NotSupported,
			platform: attest.NotSupported},
		"major version 0: levels with component 1 of 0": {svn: all(5, 5, 0), status: attest.UpToDate,
			platform: attest.UpToDate,
			levels:   []Level{{SGX: all(5), TDX: all(5, 5, 0), PCESVN: 11, Status: attest.UpToDate}}},
		"major version 0: component 0 below": {svn: all(5, 4, 0), status: attest.NotSupported, platform: attest.NotSupported,
			levels: []Level{{SGX: all(5), TDX: all(5, 5, 0), PCESVN: 11, Status: attest.UpToDate}}},
		"old module, current platform": {svn: all(5, 5, 1), status: attest.OutOfDate, platform: attest.UpToDate,
			module: attest.OutOfDate},
		"current module, old platform": {svn: all(4, 6, 1), status: attest.OutOfDate, platform: attest.OutOfDate,
			module: attest.UpToDate},
		"revoked module": {svn: all(5, 3, 1), status: attest.Revoked, platform: attest.UpToDate, module: attest.Revoked},
		"module below all levels": {svn: all(5, 1, 1), status: attest.NotSupported, platform: attest.UpToDate,
			module: attest.NotSupported},
		"module id in upper-case hex": {svn: all(5, 2, 10), status: attest.UpToDate, platform: attest.UpToDate,
			module: attest.UpToDate},
		"old module on a platform that needs configuration": {svn: all(5, 5, 1),
			levels: []Level{newestLevel(attest.ConfigurationAndSWHardeningNeeded)},
			status: attest.OutOfDateConfigurationNeeded, platform: attest.ConfigurationAndSWHardeningNeeded,
			module: attest.OutOfDate},
		"old quoting enclave": {svn: all(5, 6, 1), qe: attest.OutOfDate, status: attest.OutOfDate, platform: attest.UpToDate,
			module: attest.UpToDate},
		"revoked quoting enclave": {svn: all(5, 6, 1), qe: attest.Revoked, status: attest.Revoked, platform: attest.UpToDate,
			module: attest.UpToDate},
		"best level first, whatever the order": {svn: all(5, 6, 1), levels: []Level{oldLevel(), newestLevel(attest.UpToDate)},
			status: attest.UpToDate, platform: attest.UpToDate, module: attest.UpToDate},
	})
}

// TestRelaunch is step 5.
func TestRelaunch(t *testing.T) {
	runTDX(t, map[string]tdxCase{
		"relaunch": {svn: all(5, 5, 1), has2: true, svn2: all(5, 6, 1), status: attest.TDRelaunchAdvised,
			platform: attest.UpToDate, module: attest.OutOfDate},
		"relaunch to another major version": {svn: all(5, 5, 1), has2: true, svn2: all(5, 2, 10),
			status: attest.TDRelaunchAdvised, platform: attest.UpToDate, module: attest.OutOfDate},
		"relaunch to major version 0": {svn: all(5, 5, 1), has2: true, svn2: all(5, 5, 0),
			status: attest.TDRelaunchAdvised, platform: attest.UpToDate, module: attest.OutOfDate},
		"no relaunch: major version 0 is old": {svn: all(5, 5, 1), has2: true, svn2: all(5, 4, 0),
			status: attest.OutOfDate, platform: attest.UpToDate, module: attest.OutOfDate},
		"relaunch with configuration": {svn: all(5, 5, 1), has2: true, svn2: all(5, 6, 1),
			levels: []Level{newestLevel(attest.ConfigurationNeeded)},
			status: attest.TDRelaunchAdvisedConfigurationNeed, platform: attest.ConfigurationNeeded, module: attest.OutOfDate},
		"relaunch where only the TDX components are old": {svn: all(4, 5, 1), has2: true, svn2: all(5, 6, 1),
			status: attest.TDRelaunchAdvised, platform: attest.OutOfDate, module: attest.OutOfDate},
		"no relaunch: module is current": {svn: all(4, 6, 1), has2: true, svn2: all(5, 6, 1), status: attest.OutOfDate,
			platform: attest.OutOfDate, module: attest.UpToDate},
		"no relaunch: running module is old": {svn: all(5, 5, 1), has2: true, svn2: all(5, 5, 1), status: attest.OutOfDate,
			platform: attest.UpToDate, module: attest.OutOfDate},
		"no relaunch: running component 2 is old": {svn: all(5, 5, 1), has2: true, svn2: all(4, 6, 1),
			status: attest.OutOfDate, platform: attest.UpToDate, module: attest.OutOfDate},
		"no relaunch: SGX level is old": {svn: all(5, 5, 1), sgx: 4, has2: true, svn2: all(5, 6, 1),
			status: attest.OutOfDate, platform: attest.OutOfDate, module: attest.OutOfDate},
		"no relaunch: quoting enclave is old": {svn: all(5, 5, 1), qe: attest.OutOfDate, has2: true, svn2: all(5, 6, 1),
			status: attest.OutOfDate, platform: attest.UpToDate, module: attest.OutOfDate},
		"no relaunch: module is revoked": {svn: all(5, 2, 1), has2: true, svn2: all(5, 6, 1), status: attest.Revoked,
			platform: attest.UpToDate, module: attest.Revoked},
		"no relaunch without TD report 1.5": {svn: all(5, 5, 1), svn2: all(5, 6, 1), status: attest.OutOfDate,
			platform: attest.UpToDate, module: attest.OutOfDate},
	})
}

func runTDX(t *testing.T, cases map[string]tdxCase) {
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			if test.levels == nil {
				test.levels = []Level{newestLevel(attest.UpToDate), oldLevel()}
			}
			if test.qe == "" {
				test.qe = attest.UpToDate
			}
			if test.sgx == 0 {
				test.sgx = 5
			}
			p := infoParser{info: *tdxInfo(test.levels...)}
			if err := p.sortLevels(); err != nil {
				t.Fatal(err)
			}
			m := Measured{TEE: attest.TDX, SGX: all(test.sgx), PCESVN: 11, SVN: test.svn, SVN2: test.svn2, Has2: test.has2}
			got, reasons := Evaluate(&p.info, tdQE(test.qe), m)
			if len(reasons) > 0 {
				t.Fatal(reasons)
			}
			want := [4]attest.TCBStatus{test.status, test.platform, test.module, test.qe}
			if have := [4]attest.TCBStatus{got.Status, got.Platform, got.Module, got.QE}; have != want {
				t.Errorf("got %v, want %v", have, want)
			}
		})
	}
}

// TestRelaunchUnknownModule: a running module that TCB info does not know refuses, as in Intel's library.
func TestRelaunchUnknownModule(t *testing.T) {
	info := tdxInfo(Level{SGX: all(5), TDX: all(5), Status: attest.UpToDate})
	m := Measured{TEE: attest.TDX, SGX: all(5), SVN: all(5, 5, 1), SVN2: all(5, 6, 3), Has2: true}
	_, reasons := Evaluate(info, tdQE(attest.UpToDate), m)
	if len(reasons) != 1 || reasons[0].Code != attest.CodeModule {
		t.Errorf("got %v", reasons)
	}
}

// TestSGX: components and PCESVN, each below its level.
func TestSGX(t *testing.T) {
	info := &Info{TEE: attest.SGX, Levels: []Level{
		{SGX: all(5), PCESVN: 11, Status: attest.SWHardeningNeeded, Date: time.Unix(3, 0)},
		{SGX: all(5), PCESVN: 5, Status: attest.ConfigurationNeeded, Date: time.Unix(2, 0)},
		{SGX: all(2), PCESVN: 4, Status: attest.OutOfDate, Date: time.Unix(1, 0)}}}
	identity := &Identity{TEE: attest.SGX, Levels: []EnclaveLevel{{Status: attest.UpToDate}}}
	lower := func(i int) SVNs { s := all(5); s[i] = 4; return s }
	for i, test := range []struct {
		sgx   SVNs
		pce   uint16
		want  attest.TCBStatus
		short []attest.ShortComponent
	}{
		{all(5), 11, attest.SWHardeningNeeded, nil},
		{all(255), 65535, attest.SWHardeningNeeded, nil},
		{all(5), 10, attest.ConfigurationNeeded, []attest.ShortComponent{{Name: "pcesvn", Got: 10, Want: 11}}},
		{lower(0), 11, attest.OutOfDate, []attest.ShortComponent{{Name: "sgx[0]", Got: 4, Want: 5}}},
		{lower(15), 11, attest.OutOfDate, []attest.ShortComponent{{Name: "sgx[15]", Got: 4, Want: 5}}},
		{all(5), 3, attest.NotSupported, []attest.ShortComponent{{Name: "pcesvn", Got: 3, Want: 11}}},
	} {
		got, reasons := Evaluate(info, identity, Measured{TEE: attest.SGX, SGX: test.sgx, PCESVN: test.pce})
		if got.Status != test.want || len(reasons) > 0 {
			t.Errorf("%d: got %s %v, want %s", i, got.Status, reasons, test.want)
		}
		if diff := cmp.Diff(test.short, got.Short); diff != "" {
			t.Errorf("%d: short (-want +got):\n%s", i, diff)
		}
	}
}

// TestSortLevels: Intel's order, and no two levels of one TCB.
func TestSortLevels(t *testing.T) {
	levels := []Level{{SGX: all(1)}, {SGX: all(2), PCESVN: 1}, {SGX: all(2), PCESVN: 2, TDX: all(1)},
		{SGX: all(2), PCESVN: 2, TDX: all(2)}, {SGX: all(1, 9)}}
	p := infoParser{info: Info{Levels: levels}}
	if err := p.sortLevels(); err != nil {
		t.Fatal(err)
	}
	want := []Level{{SGX: all(2), PCESVN: 2, TDX: all(2)}, {SGX: all(2), PCESVN: 2, TDX: all(1)},
		{SGX: all(2), PCESVN: 1}, {SGX: all(1, 9)}, {SGX: all(1)}}
	// all(1, 9) is 9 in component 0, so it comes before all(2).
	want = append([]Level{want[3]}, want[0], want[1], want[2], want[4])
	if diff := cmp.Diff(want, p.info.Levels); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	p.info.Levels = append(p.info.Levels, Level{SGX: all(1)})
	if err := p.sortLevels(); err == nil {
		t.Error("two levels of the same TCB accepted")
	}
}
