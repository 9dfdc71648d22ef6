// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee/internal/derive"
)

// Report issues an SNP report and the certificate table that its host provides: VEK, intermediate, root, and the CRL if
// it is not withheld.
func (p *Platform) Report(r Request) ([]byte, snp.CertTable, error) {
	if r.Kind.TEE() != attest.SNP {
		return nil, snp.CertTable{}, fmt.Errorf("no report of kind %q", r.Kind)
	}
	m, err := p.amdMachine(r.Machine, r.Kind)
	if err != nil {
		return nil, snp.CertTable{}, err
	}
	chip := m.chipID
	if m.VLEK {
		chip = nil
	}
	vek, err := p.vek(m.product, chip, m.tcb, r.Tamper)
	if err != nil {
		return nil, snp.CertTable{}, err
	}
	body, err := p.snpBody(m, r)
	if err != nil {
		return nil, snp.CertTable{}, err
	}
	body = r.Tamper.apply(PartSNPReport, body)
	signature, err := derive.SignSNP(vek.key, body)
	if err != nil {
		return nil, snp.CertTable{}, fmt.Errorf("signing the report: %w", err)
	}
	report := slices.Concat(body, signature, make([]byte, snp.ReportSize-len(body)-len(signature)))
	table, err := p.certTable(m, vek)
	return r.Tamper.apply(PartSNPSigned, report), table, err
}

func (p *Platform) certTable(m *amdMachine, vek issuer) (snp.CertTable, error) {
	pki, err := p.amdOf(m.product)
	if err != nil {
		return snp.CertTable{}, err
	}
	table := snp.CertTable{VCEK: vek.cert.Raw, ASK: pki.ask.cert.Raw, ARK: pki.ark.cert.Raw}
	if m.VLEK {
		table.VCEK, table.VLEK, table.ASK = nil, vek.cert.Raw, pki.asvk.cert.Raw
	}
	table.CRL, err = p.AMDCRL(m.product)
	return table, err
}

// defaultGuestPolicy is ABI 0.31 with SMT allowed.
const defaultGuestPolicy = 0x3001F

// snpBody is the signed part of a report, FORMATS §5.1, 0x2A0 bytes.
func (p *Platform) snpBody(m *amdMachine, r Request) ([]byte, error) {
	b, c := make([]byte, 0x2A0), r.Workload.SNP
	policy := c.Policy
	if policy == 0 {
		policy = defaultGuestPolicy
	}
	policy = policy&^(1<<19) | 1<<17
	if r.Workload.Debug {
		policy |= 1 << 19
	}
	version := map[Kind]uint32{SNPv2: 2, SNPv3: 3, SNPv5: 5}[r.Kind]
	binary.LittleEndian.PutUint32(b, version)
	binary.LittleEndian.PutUint32(b[0x04:], c.GuestSVN)
	binary.LittleEndian.PutUint64(b[0x08:], policy)
	binary.LittleEndian.PutUint32(b[0x30:], c.VMPL)
	b[0x34] = 1 // ECDSA P-384 with SHA-384
	binary.LittleEndian.PutUint64(b[0x40:], 0x25)
	b[0x48] = m.keyInfo(c)
	copy(b[0x50:], r.ReportData[:])
	copy(b[0x160:0x180], slices.Repeat([]byte{0xFF}, 32)) // no migration agent
	if !m.MaskChip {
		copy(b[0x1A0:0x1E0], m.chipID)
	}
	m.fillVersions(b, version)
	return b, fill(b, []slot{
		{0x10, 16, c.FamilyID, ""}, {0x20, 16, c.ImageID, ""}, {0x90, 48, c.Measurement, "Simulation measurement"},
		{0xC0, 32, c.HostData, ""}, {0xE0, 48, c.IDKeyDigest, ""}, {0x110, 48, c.AuthorKeyDigest, ""},
		{0x140, 32, "", "Simulation report id " + m.Name},
	})
}

// keyInfo has AUTHOR_KEY_EN and SIGNING_KEY.
func (m *amdMachine) keyInfo(c attest.SNPClaims) byte {
	var info byte
	if c.AuthorKeyDigest != "" {
		info |= 1
	}
	if m.VLEK {
		info |= 1 << 2
	}
	return info
}

// fillVersions sets TCB and firmware versions, and what reports have from versions 3 and 5 on.
func (m *amdMachine) fillVersions(b []byte, version uint32) {
	tcb := snp.Join(m.product, m.tcb)
	for _, at := range []int{0x38, 0x180, 0x1E0, 0x1F0} {
		copy(b[at:], tcb[:])
	}
	copy(b[0x1E8:], []byte{40, 55, 1})
	copy(b[0x1EC:], []byte{40, 55, 1})
	if version >= 3 {
		copy(b[0x188:], cpuid(m.product))
	}
	if version >= 5 {
		b[0x1F8], b[0x200] = 0x3F, 0x3F
	}
}

// cpuid is family, model and stepping.
func cpuid(p snp.Product) []byte {
	switch p {
	case snp.Milan:
		return []byte{0x19, 0x01, 0x01}
	case snp.Genoa:
		return []byte{0x19, 0x11, 0x01}
	}
	return []byte{0x1A, 0x02, 0x01}
}
