// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tcb

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/internal/strictjson"
)

// readLevel reads one element of tcbLevels.
func (p *infoParser) readLevel() {
	p.level, p.levelHas, p.sgx, p.tdx, p.oldSGX = Level{}, 0, 0, 0, 0
	p.r.Object(func(name []byte) {
		switch string(name) {
		case "tcb":
			p.r.Object(p.levelTCB)
		case "tcbDate":
			p.level.Date = p.r.Time()
			p.levelHas.set(1)
		case "tcbStatus":
			p.level.Status = readStatus(p.r)
			p.levelHas.set(2)
		case "advisoryIDs":
			p.level.Advisories = readStrings(p.r)
		default:
			p.r.Skip()
		}
	})
	if p.r.Err() != nil {
		return
	}
	if err := p.checkLevel(); err != nil {
		p.r.Fail("TCB level: %v", err)
		return
	}
	if p.info.Levels == nil {
		p.info.Levels = make([]Level, 0, 24)
	}
	p.info.Levels = append(p.info.Levels, p.level)
}

// levelTCB reads a member of tcb: two lists of components in version 3, sgxtcbcomp01svn … sgxtcbcomp16svn in version 2.
func (p *infoParser) levelTCB(name []byte) {
	switch string(name) {
	case "pcesvn":
		p.level.PCESVN = uint16(p.r.Uint(1<<16 - 1))
		p.levelHas.set(0)
	case "sgxtcbcomponents":
		p.sgx = readComponents(p.r, &p.level.SGX)
	case "tdxtcbcomponents":
		p.tdx = readComponents(p.r, &p.level.TDX)
	default:
		n := oldComponent(string(name))
		if n == 0 {
			p.r.Skip()
			return
		}
		p.level.SGX[n-1] = uint8(p.r.Uint(255))
		p.oldSGX |= 1 << (n - 1)
	}
}

// oldComponent returns the number of a component as version 2 names it, 1 to 16, else 0.
func oldComponent(name string) int {
	const before, after = "sgxtcbcomp", "svn"
	if len(name) != len(before)+2+len(after) || name[:len(before)] != before || name[len(before)+2:] != after {
		return 0
	}
	n, err := strconv.ParseUint(name[len(before):len(before)+2], 10, 8)
	if err != nil || n > 16 {
		return 0
	}
	return int(n)
}

// checkLevel wants all SGX components, in one form or the other, and all or none of the TDX components. Whether there
// must be TDX components is known only at the end of the document.
func (p *infoParser) checkLevel() error {
	if err := p.levelHas.missing("pcesvn", "tcbDate", "tcbStatus"); err != nil {
		return err
	}
	switch {
	case p.sgx == 16 && p.oldSGX == 0, p.sgx == 0 && p.oldSGX == 1<<16-1:
	default:
		return fmt.Errorf("16 SGX components expected")
	}
	if p.tdx != 0 && p.tdx != 16 {
		return fmt.Errorf("16 TDX components expected")
	}
	if p.oldSGX != 0 {
		p.oldLevels++
	}
	if p.tdx != 0 {
		p.tdxLevels++
	}
	return nil
}

// readComponents reads a list of {"svn":n,…} into dst and returns how many there were; more than 16 fail.
func readComponents(r *strictjson.Reader, dst *SVNs) int {
	n, has := 0, false
	member := func(name []byte) {
		if string(name) != "svn" {
			r.Skip()
			return
		}
		if svn := uint8(r.Uint(255)); n < len(dst) {
			dst[n], has = svn, true
		}
	}
	r.Array(func() {
		has = false
		if n >= len(dst) {
			r.Fail("more than %d components", len(dst))
			return
		}
		if r.Object(member); !has {
			r.Fail("component without svn")
		}
		n++
	})
	return n
}

// readModule reads tdxModule or an element of tdxModuleIdentities.
func readModule(r *strictjson.Reader, m *Module) {
	var has present
	r.Object(func(name []byte) {
		switch string(name) {
		case "id":
			m.ID = r.Text()
		case "mrsigner":
			r.Hex(m.MRSigner[:])
			has.set(0)
		case "attributes":
			r.Hex(m.Attributes[:])
			has.set(1)
		case "attributesMask":
			r.Hex(m.AttributesMask[:])
			has.set(2)
		case "tcbLevels":
			m.Levels = readEnclaveLevels(r)
		default:
			r.Skip()
		}
	})
	if err := has.missing("mrsigner", "attributes", "attributesMask"); r.Err() == nil && err != nil {
		r.Fail("TDX module: %v", err)
	}
}

// readEnclaveLevels reads the levels of a module or a quoting enclave and puts them in descending order.
func readEnclaveLevels(r *strictjson.Reader) []EnclaveLevel {
	var levels []EnclaveLevel
	r.Array(func() { levels = append(levels, readEnclaveLevel(r)) })
	slices.SortStableFunc(levels, func(a, b EnclaveLevel) int { return cmp.Compare(b.ISVSVN, a.ISVSVN) })
	for i := 1; i < len(levels); i++ {
		if levels[i].ISVSVN == levels[i-1].ISVSVN {
			r.Fail("two TCB levels of the same isvsvn")
		}
	}
	return levels
}

func readEnclaveLevel(r *strictjson.Reader) EnclaveLevel {
	var level EnclaveLevel
	var has present
	r.Object(func(name []byte) {
		switch string(name) {
		case "tcb":
			r.Object(func(name []byte) {
				if string(name) != "isvsvn" {
					r.Skip()
					return
				}
				level.ISVSVN = uint16(r.Uint(1<<16 - 1))
				has.set(0)
			})
		case "tcbDate":
			level.Date = r.Time()
			has.set(1)
		case "tcbStatus":
			level.Status = readStatus(r)
			has.set(2)
		case "advisoryIDs":
			level.Advisories = readStrings(r)
		default:
			r.Skip()
		}
	})
	if err := has.missing("isvsvn", "tcbDate", "tcbStatus"); r.Err() == nil && err != nil {
		r.Fail("TCB level: %v", err)
	}
	return level
}

// readStatus keeps a status that is not known as it is: only a level that matches makes it matter.
func readStatus(r *strictjson.Reader) attest.TCBStatus {
	return attest.TCBStatus(r.Text())
}

func readStrings(r *strictjson.Reader) []string {
	list := make([]string, 0, 8)
	r.Array(func() { list = append(list, r.Text()) })
	return list
}
