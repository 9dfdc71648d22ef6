// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package tcb reads what Intel publishes about platforms (TCB info) and quoting enclaves (QE identity), and rates a
// platform by it: FORMATS §1.9 to §1.11, which follow Intel's own verification library.
//
// Invariants: pure functions on bytes whose signatures somebody else checks; levels are put in descending order
// whatever order they come in, so that the first match is the best; both halves of a TDX platform count, its module
// and its levels; what no level covers is attest.NotSupported, never a status that could be accepted.
package tcb

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/internal/strictjson"
)

// MaxSize is the largest document that is read, in bytes. Real ones stay below 64 KiB.
const MaxSize = 1 << 20

// SVNs are the security version numbers of the 16 components of a TCB.
type SVNs [16]uint8

// Info is TCB info: what levels of TCB the platforms of one FMSPC can have.
type Info struct {
	TEE                  attest.TEE // SGX or TDX
	Version              int        // 2 (SGX only) or 3
	IssueDate            time.Time
	NextUpdate           time.Time
	FMSPC                [6]byte
	PCEID                [2]byte
	EvaluationDataNumber int
	// Module is the identity of TDX modules of major version 0, and Modules are those of the others. TDX only.
	Module  *Module
	Modules []Module
	// Levels are in descending order; at least one.
	Levels []Level
}

// Level is a TCB level of a platform.
type Level struct {
	SGX        SVNs
	PCESVN     uint16
	TDX        SVNs // TDX only
	Date       time.Time
	Status     attest.TCBStatus
	Advisories []string
}

// Module is an identity that TDX modules can have.
type Module struct {
	ID             string // "TDX_01"; empty for major version 0
	MRSigner       [48]byte
	Attributes     [8]byte
	AttributesMask [8]byte
	Levels         []EnclaveLevel // descending; empty for major version 0
}

// EnclaveLevel is a TCB level of a TDX module or of a quoting enclave.
type EnclaveLevel struct {
	ISVSVN     uint16
	Date       time.Time
	Status     attest.TCBStatus
	Advisories []string
}

// present notes which mandatory members a document had, one bit each.
type present uint32

func (p *present) set(bit int) { *p |= 1 << bit }

// missing names the first of the members that is absent.
func (p present) missing(names ...string) error {
	for bit, name := range names {
		if p&(1<<bit) == 0 {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// ParseInfo reads the inner object of TCB info, version 3 or 2, exactly as it was served.
func ParseInfo(data []byte) (*Info, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("TCB info of %d bytes is larger than %d", len(data), MaxSize)
	}
	p := infoParser{r: strictjson.New(data)}
	p.r.Object(p.member)
	if err := p.r.End(); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	return &p.info, nil
}

// infoParser reads one Info.
type infoParser struct {
	r    *strictjson.Reader
	info Info
	id   string
	has  present

	// level in progress, and how many of its components each list had
	level    Level
	levelHas present
	sgx, tdx int
	oldSGX   uint32 // version 2 names its components: one bit each

	oldLevels, tdxLevels int // levels in the form of version 2, and with TDX components
}

func (p *infoParser) member(name []byte) {
	switch string(name) {
	case "version":
		p.info.Version = int(p.r.Uint(100))
		p.has.set(0)
	case "issueDate":
		p.info.IssueDate = p.r.Time()
		p.has.set(1)
	case "nextUpdate":
		p.info.NextUpdate = p.r.Time()
		p.has.set(2)
	case "fmspc":
		p.r.Hex(p.info.FMSPC[:])
		p.has.set(3)
	case "pceId":
		p.r.Hex(p.info.PCEID[:])
		p.has.set(4)
	case "tcbType":
		if kind := p.r.Uint(1 << 16); kind != 0 {
			p.r.Fail("tcbType %d is not supported, only 0", kind)
		}
		p.has.set(5)
	case "tcbEvaluationDataNumber":
		p.info.EvaluationDataNumber = int(p.r.Uint(1 << 30))
		p.has.set(6)
	case "tcbLevels":
		p.r.Array(p.readLevel)
		p.has.set(7)
	case "id":
		p.id = p.r.Text()
	case "tdxModule":
		p.info.Module = new(Module)
		readModule(p.r, p.info.Module)
	case "tdxModuleIdentities":
		p.r.Array(func() {
			p.info.Modules = append(p.info.Modules, Module{})
			readModule(p.r, &p.info.Modules[len(p.info.Modules)-1])
		})
	default:
		p.r.Skip()
	}
}

// check completes the document: what must be there, what belongs together, the order of the levels.
func (p *infoParser) check() error {
	err := p.has.missing("version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber",
		"tcbLevels")
	if err != nil {
		return err
	}
	info := &p.info
	switch {
	case info.Version == 2 && p.id == "", info.Version == 3 && p.id == "SGX":
		info.TEE = attest.SGX
	case info.Version == 3 && p.id == "TDX":
		info.TEE = attest.TDX
	default:
		return fmt.Errorf("version %d with id %q is not supported", info.Version, p.id)
	}
	if (info.Version == 2) != (p.oldLevels > 0) || p.oldLevels > 0 && p.oldLevels < len(info.Levels) {
		return fmt.Errorf("TCB levels are not in the form of version %d", info.Version)
	}
	if info.TEE == attest.TDX && p.tdxLevels < len(info.Levels) {
		return fmt.Errorf("TCB level without tdxtcbcomponents")
	}
	if err := p.checkModules(); err != nil {
		return err
	}
	return p.sortLevels()
}

func (p *infoParser) checkModules() error {
	info := &p.info
	if info.TEE == attest.SGX {
		if info.Module != nil || info.Modules != nil {
			return fmt.Errorf("TDX modules in TCB info for SGX")
		}
		return nil
	}
	if info.Module == nil {
		return fmt.Errorf("tdxModule is missing")
	}
	for i := range info.Modules {
		m := &info.Modules[i]
		if m.ID == "" || len(m.Levels) == 0 {
			return fmt.Errorf("TDX module identity without id or levels")
		}
		if info.module(m.ID) != m {
			return fmt.Errorf("TDX module identity %s appears twice", m.ID)
		}
	}
	return nil
}

// sortLevels puts the levels in descending order and refuses two of the same TCB: which one counts would be chance.
func (p *infoParser) sortLevels() error {
	levels := p.info.Levels
	if len(levels) == 0 {
		return fmt.Errorf("no TCB levels")
	}
	descending := func(a, b Level) int { return b.compare(a) }
	if !slices.IsSortedFunc(levels, descending) {
		slices.SortStableFunc(levels, descending)
	}
	for i := 1; i < len(levels); i++ {
		if levels[i].compare(levels[i-1]) == 0 {
			return fmt.Errorf("two TCB levels of the same TCB")
		}
	}
	return nil
}

// compare orders levels as Intel's library does: by SGX components, PCESVN, TDX components. A level that is at least as
// high in each of them comes not before another in this order.
func (l Level) compare(o Level) int {
	return cmp.Or(bytes.Compare(l.SGX[:], o.SGX[:]), cmp.Compare(l.PCESVN, o.PCESVN), bytes.Compare(l.TDX[:], o.TDX[:]))
}

// module finds the identity with the id ("TDX_01"), ignoring case.
func (i *Info) module(id string) *Module {
	for k := range i.Modules {
		if strings.EqualFold(i.Modules[k].ID, id) {
			return &i.Modules[k]
		}
	}
	return nil
}
