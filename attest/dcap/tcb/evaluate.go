// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcb

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/marblerun/marblerun/attest"
)

// Measured is what the evidence says about the versions of a platform.
type Measured struct {
	TEE   attest.TEE
	FMSPC [6]byte
	PCEID [2]byte
	QE    QEReport
	// SGX and PCESVN are those of the PCK certificate: the quote's own CPUSVN is not comparable.
	SGX    SVNs
	PCESVN uint16
	// TD report, TDX only. SVN2 and Has2 are of a TD report 1.5: the versions after an update of the module under a
	// running TD.
	SVN            SVNs
	SVN2           SVNs
	Has2           bool
	MRSignerSEAM   [48]byte
	SEAMAttributes [8]byte
}

// Rating is what a platform's TCB is worth.
type Rating struct {
	// Status merges the three below. Module is empty for SGX and for TDX modules of major version 0.
	Status, Platform, Module, QE attest.TCBStatus
	// The matched levels; nil where the status is empty or NotSupported.
	PlatformLevel        *Level
	ModuleLevel, QELevel *EnclaveLevel
	Short                []attest.ShortComponent
	sgxLevel             *Level  // matched by the SGX components alone
	module               *Module // of the module that launched the TD, if it has an identity of its own
}

// Evaluate rates a platform by TCB info and QE identity, FORMATS §1.9 and §1.10, except for signatures and dates. A
// non-empty list of reasons means that there is no status at all. NotSupported in any part makes Status NotSupported.
func Evaluate(info *Info, identity *Identity, m Measured) (Rating, []attest.Reason) {
	r := Rating{}
	reasons := info.check(m)
	if len(reasons) == 0 && m.TEE == attest.TDX {
		reasons = r.findModule(info, m)
	}
	if reasons = append(reasons, identity.check(m.TEE, m.QE)...); len(reasons) > 0 {
		return r, reasons
	}
	r.matchPlatform(info, m)
	r.matchModule(m)
	r.matchQE(identity, m.QE.ISVSVN)
	if reasons := r.unknownStatuses(); len(reasons) > 0 {
		return r, reasons
	}
	r.Status = r.Platform.Merge(r.Module)
	if m.Has2 {
		if reason := r.relaunch(info, m); reason != nil {
			return r, []attest.Reason{*reason}
		}
	}
	r.Status = r.Status.Merge(r.QE)
	r.Short = r.short(info, identity, m)
	return r, nil
}

// check is step 0: whether the TCB info is for this kind of TEE and this kind of machine.
func (i *Info) check(m Measured) []attest.Reason {
	var reasons []attest.Reason
	differ := func(what, want, got string) {
		if want != got {
			reasons = append(reasons, attest.Reason{Code: attest.CodeTCBInfoMismatch, Want: want, Got: got,
				Text: fmt.Sprintf("TCB info is for %s %s, the evidence is of %s", what, got, want)})
		}
	}
	differ("TEE", string(m.TEE), string(i.TEE))
	differ("FMSPC", hex.EncodeToString(m.FMSPC[:]), hex.EncodeToString(i.FMSPC[:]))
	differ("PCE-ID", hex.EncodeToString(m.PCEID[:]), hex.EncodeToString(i.PCEID[:]))
	return reasons
}

// matchPlatform is steps 1 and 2: the first level that all components reach.
func (r *Rating) matchPlatform(info *Info, m Measured) {
	r.Platform = attest.NotSupported
	for i := range info.Levels {
		level := &info.Levels[i]
		if !m.SGX.reach(level.SGX, 0) || m.PCESVN < level.PCESVN {
			continue
		}
		if r.sgxLevel == nil {
			r.sgxLevel = level
		}
		if m.TEE == attest.TDX && !m.SVN.reach(level.TDX, m.firstTDX()) {
			continue
		}
		r.Platform, r.PlatformLevel = level.Status, level
		return
	}
}

// firstTDX is the first TDX component that levels are compared by. Components 0 and 1 are the module's version, which
// its own identity rates if it has a major version.
func (m Measured) firstTDX() int {
	if m.SVN[1] > 0 {
		return 2
	}
	return 0
}

// reach tells whether all components from the given one on are at least those of the level.
func (s SVNs) reach(level SVNs, from int) bool {
	for i := from; i < len(s); i++ {
		if s[i] < level[i] {
			return false
		}
	}
	return true
}

// findModule is the first half of step 3: which identity the TDX module has, and whether it is signed as that says.
func (r *Rating) findModule(info *Info, m Measured) []attest.Reason {
	want := info.Module
	if m.SVN[1] > 0 {
		if want = info.module(moduleID(m.SVN[1])); want == nil {
			return []attest.Reason{unknownModule(m.SVN[1])}
		}
		r.module = want
	}
	var reasons []attest.Reason
	differ := func(what string, want, got []byte) {
		if string(want) != string(got) {
			reasons = append(reasons, attest.Reason{Code: attest.CodeModule, Want: hex.EncodeToString(want),
				Got: hex.EncodeToString(got), Text: fmt.Sprintf("the TDX module's %s is %x, wanted %x", what, got, want)})
		}
	}
	differ("MRSIGNERSEAM", want.MRSigner[:], m.MRSignerSEAM[:])
	differ("masked SEAMATTRIBUTES", want.Attributes[:], masked(m.SEAMAttributes[:], want.AttributesMask[:]))
	differ("SEAMATTRIBUTES", make([]byte, len(m.SEAMAttributes)), m.SEAMAttributes[:])
	return reasons
}

func moduleID(major uint8) string { return fmt.Sprintf("TDX_%02X", major) }

func unknownModule(major uint8) attest.Reason {
	return attest.Reason{Code: attest.CodeModule, Got: moduleID(major),
		Text: fmt.Sprintf("TCB info knows no TDX module %s", moduleID(major))}
}

// matchModule is the second half of step 3: the level of a module that has an identity of its own.
func (r *Rating) matchModule(m Measured) {
	if r.module == nil {
		return
	}
	r.Module, r.ModuleLevel = match(r.module.Levels, uint16(m.SVN[0]))
}

func (r *Rating) matchQE(identity *Identity, svn uint16) {
	r.QE, r.QELevel = match(identity.Levels, svn)
}

// match finds the first level that svn reaches.
func match(levels []EnclaveLevel, svn uint16) (attest.TCBStatus, *EnclaveLevel) {
	for i := range levels {
		if svn >= levels[i].ISVSVN {
			return levels[i].Status, &levels[i]
		}
	}
	return attest.NotSupported, nil
}

// unknownStatuses refuses matched levels with a status that levels of their kind do not have.
func (r *Rating) unknownStatuses() []attest.Reason {
	var reasons []attest.Reason
	check := func(code, what string, status attest.TCBStatus, known bool) {
		if !known {
			reasons = append(reasons, attest.Reason{Code: code, Got: string(status),
				Text: fmt.Sprintf("%s level has the status %q, which is not known", what, status)})
		}
	}
	if r.sgxLevel != nil {
		status := r.sgxLevel.Status
		check(attest.CodeTCBInfoFormat, "TCB", status, platformStatus(status))
	}
	if r.PlatformLevel != nil && r.PlatformLevel != r.sgxLevel {
		check(attest.CodeTCBInfoFormat, "TCB", r.Platform, platformStatus(r.Platform))
	}
	if r.ModuleLevel != nil {
		check(attest.CodeTCBInfoFormat, "TDX module", r.Module, enclaveStatus(r.Module))
	}
	if r.QELevel != nil {
		check(attest.CodeQEIdentityFormat, "quoting enclave", r.QE, enclaveStatus(r.QE))
	}
	return reasons
}

func platformStatus(s attest.TCBStatus) bool {
	switch s {
	case attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded, attest.ConfigurationAndSWHardeningNeeded,
		attest.OutOfDate, attest.OutOfDateConfigurationNeeded, attest.Revoked:
		return true
	}
	return false
}

func enclaveStatus(s attest.TCBStatus) bool {
	return s == attest.UpToDate || s == attest.OutOfDate || s == attest.Revoked
}

// relaunch is step 5: a TD that was launched by a module now out of date, and runs under a current one, needs no more
// than to be launched again. As in Intel's library, a current module that TCB info does not know refuses.
func (r *Rating) relaunch(info *Info, m Measured) *attest.Reason {
	outOfDate := r.Status == attest.OutOfDate || r.Status == attest.OutOfDateConfigurationNeeded
	if r.QE != attest.UpToDate || r.sgxLevel == nil || !relaunchable(r.sgxLevel.Status) || r.Module != attest.OutOfDate ||
		!outOfDate {
		return nil
	}
	newest := info.Levels[0]
	minor := uint16(newest.TDX[0])
	if major := m.SVN2[1]; major > 0 {
		current := info.module(moduleID(major))
		if current == nil {
			reason := unknownModule(major)
			return &reason
		}
		minor = current.Levels[0].ISVSVN
	}
	if uint16(m.SVN2[0]) < minor || m.SVN2[2] < newest.TDX[2] {
		return nil
	}
	configuration := strings.Contains(string(r.sgxLevel.Status), "Configuration") ||
		r.Status == attest.OutOfDateConfigurationNeeded
	r.Status = attest.TDRelaunchAdvised
	if configuration {
		r.Status = attest.TDRelaunchAdvisedConfigurationNeed
	}
	return nil
}

// relaunchable are the statuses of an SGX level that relaunching a TD can cure.
func relaunchable(s attest.TCBStatus) bool {
	switch s {
	case attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded, attest.ConfigurationAndSWHardeningNeeded:
		return true
	}
	return false
}

// short lists the components below the newest level's.
func (r *Rating) short(info *Info, identity *Identity, m Measured) []attest.ShortComponent {
	var list []attest.ShortComponent
	add := func(name string, got, want int) {
		if got < want {
			list = append(list, attest.ShortComponent{Name: name, Got: got, Want: want})
		}
	}
	addAll := func(name string, got, want SVNs, from int) {
		for i := from; i < len(got); i++ {
			if got[i] < want[i] {
				add(fmt.Sprintf("%s[%d]", name, i), int(got[i]), int(want[i]))
			}
		}
	}
	newest := info.Levels[0]
	addAll("sgx", m.SGX, newest.SGX, 0)
	add("pcesvn", int(m.PCESVN), int(newest.PCESVN))
	if m.TEE == attest.TDX {
		addAll("tdx", m.SVN, newest.TDX, m.firstTDX())
	}
	if r.module != nil {
		add("module", int(m.SVN[0]), int(r.module.Levels[0].ISVSVN))
	}
	add("qe", int(m.QE.ISVSVN), int(identity.Levels[0].ISVSVN))
	return list
}
