// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcbdata

import (
	"encoding/hex"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
)

// The JSON of TCB info version 3, FORMATS §1.9. The order of fields is Intel's.
type tcbInfo struct {
	ID                      string           `json:"id"`
	Version                 int              `json:"version"`
	IssueDate               jsonTime         `json:"issueDate"`
	NextUpdate              jsonTime         `json:"nextUpdate"`
	FMSPC                   string           `json:"fmspc"`
	PCEID                   string           `json:"pceId"`
	TCBType                 int              `json:"tcbType"`
	TCBEvaluationDataNumber int              `json:"tcbEvaluationDataNumber"`
	TDXModule               *moduleInfo      `json:"tdxModule,omitempty"`
	TDXModuleIdentities     []moduleIdentity `json:"tdxModuleIdentities,omitempty"`
	TCBLevels               []tcbLevel       `json:"tcbLevels"`
}

type moduleInfo struct {
	MRSigner       string `json:"mrsigner"`
	Attributes     string `json:"attributes"`
	AttributesMask string `json:"attributesMask"`
}

type moduleIdentity struct {
	ID string `json:"id"`
	moduleInfo
	TCBLevels []isvLevel `json:"tcbLevels"`
}

type isvLevel struct {
	TCB struct {
		ISVSVN uint8 `json:"isvsvn"`
	} `json:"tcb"`
	levelStatus
}

type tcbLevel struct {
	TCB tcb `json:"tcb"`
	levelStatus
}

type tcb struct {
	SGX    [16]component  `json:"sgxtcbcomponents"`
	PCESVN uint16         `json:"pcesvn"`
	TDX    *[16]component `json:"tdxtcbcomponents,omitempty"`
}

type component struct {
	SVN      uint8  `json:"svn"`
	Category string `json:"category,omitempty"`
	Type     string `json:"type,omitempty"`
}

type levelStatus struct {
	TCBDate     jsonTime         `json:"tcbDate"`
	TCBStatus   attest.TCBStatus `json:"tcbStatus"`
	AdvisoryIDs []string         `json:"advisoryIDs,omitempty"`
}

// jsonTime is UTC with seconds.
type jsonTime time.Time

// MarshalText renders as Intel does.
func (t jsonTime) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05Z"), nil
}

// Platform is what TCB data says about the platform and its enclaves besides the levels.
type Platform struct {
	FMSPC string // 6 bytes, hex
	PCEID string // 2 bytes, hex
	// QESigner is MRSIGNER of both quoting enclaves.
	QESigner [32]byte
}

// TCBInfo is the JSON value of the TCB info version 3, FORMATS §1.9.
func (d Dataset) TCBInfo(p Platform, tee attest.TEE, from, to time.Time) any {
	info := tcbInfo{ID: strings.ToUpper(string(tee)), Version: 3, IssueDate: jsonTime(from), NextUpdate: jsonTime(to),
		FMSPC: p.FMSPC, PCEID: p.PCEID, TCBEvaluationDataNumber: d.EvaluationNumber}
	if tee == attest.TDX {
		module := moduleInfo{strings.Repeat("00", 48), strings.Repeat("00", 8), strings.Repeat("FF", 8)}
		info.TDXModule = &module
		for _, id := range []string{"TDX_03", "TDX_01"} {
			info.TDXModuleIdentities = append(info.TDXModuleIdentities, moduleIdentity{id, module, isvLevels(d.Module)})
		}
	}
	for _, l := range d.Platform {
		info.TCBLevels = append(info.TCBLevels, platformLevel(l, tee))
	}
	return info
}

func platformLevel(l Level, tee attest.TEE) tcbLevel {
	level := tcbLevel{levelStatus: statusOf(l)}
	for i, svn := range BaseSVNs() {
		level.TCB.SGX[i].SVN = svn
	}
	level.TCB.SGX[0] = component{l.SVN, "BIOS", "Early Microcode Update"}
	level.TCB.SGX[1] = component{l.SVN, "OS/VMM", "SGX Late Microcode Update"}
	level.TCB.PCESVN = PCESVN
	if tee == attest.TDX {
		level.TCB.TDX = &[16]component{
			{TDXComponent0, "OS/VMM", "TDX Module"}, {0, "OS/VMM", "TDX Module"},
			{l.SVN, "OS/VMM", "TDX Late Microcode Update"},
		}
	}
	return level
}

func statusOf(l Level) levelStatus { return levelStatus{jsonTime(l.Date), l.Status, l.Advisories} }

func isvLevels(ladder []Level) []isvLevel {
	out := make([]isvLevel, len(ladder))
	for i, l := range ladder {
		out[i].TCB.ISVSVN = l.SVN
		out[i].levelStatus = statusOf(l)
	}
	return out
}

// QEProdID is ISVPRODID of the quoting enclave: 1 for SGX, 2 for TDX.
func QEProdID(tee attest.TEE) byte {
	if tee == attest.TDX {
		return 2
	}
	return 1
}

// QEIdentity is the JSON value of the identity of QE or TD_QE, version 2, FORMATS §1.10.
func (d Dataset) QEIdentity(p Platform, tee attest.TEE, from, to time.Time) any {
	return struct {
		ID                      string     `json:"id"`
		Version                 int        `json:"version"`
		IssueDate               jsonTime   `json:"issueDate"`
		NextUpdate              jsonTime   `json:"nextUpdate"`
		TCBEvaluationDataNumber int        `json:"tcbEvaluationDataNumber"`
		MiscSelect              string     `json:"miscselect"`
		MiscSelectMask          string     `json:"miscselectMask"`
		Attributes              string     `json:"attributes"`
		AttributesMask          string     `json:"attributesMask"`
		MRSigner                string     `json:"mrsigner"`
		ISVProdID               byte       `json:"isvprodid"`
		TCBLevels               []isvLevel `json:"tcbLevels"`
	}{map[attest.TEE]string{attest.SGX: "QE", attest.TDX: "TD_QE"}[tee], 2, jsonTime(from), jsonTime(to),
		d.EvaluationNumber, "00000000", "FFFFFFFF", "11000000000000000000000000000000", "FBFFFFFFFFFFFFFF0000000000000000",
		strings.ToUpper(hex.EncodeToString(p.QESigner[:])), QEProdID(tee), isvLevels(d.QE)}
}

// EvaluationNumbers is the JSON value that lists data sets, in the given order.
func EvaluationNumbers(sets []Dataset, tee attest.TEE, from, to time.Time) any {
	type number struct {
		Number       int      `json:"tcbEvaluationDataNumber"`
		RecoveryDate jsonTime `json:"tcbRecoveryEventDate"`
		TCBDate      jsonTime `json:"tcbDate"`
	}
	list := struct {
		ID         string   `json:"id"`
		Version    int      `json:"version"`
		IssueDate  jsonTime `json:"issueDate"`
		NextUpdate jsonTime `json:"nextUpdate"`
		Numbers    []number `json:"tcbEvalNumbers"`
	}{ID: strings.ToUpper(string(tee)), Version: 1, IssueDate: jsonTime(from), NextUpdate: jsonTime(to)}
	for _, d := range sets {
		newest := jsonTime(d.Platform[0].Date)
		list.Numbers = append(list.Numbers, number{d.EvaluationNumber, jsonTime(d.RecoveryDate), newest})
	}
	return list
}
