// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

var (
	softSeed = []byte("a seed for the tests of snp")
	softNow  = time.Date(2026, 5, 17, 12, 30, 0, 0, time.UTC)
	// world makes one software TEE for the tests here: its RSA keys take a second.
	world = sync.OnceValues(func() (*softtee.Platform, error) {
		return softtee.New(softtee.Options{Seed: softSeed, Now: func() time.Time { return softNow }})
	})
)

// soft is evidence that a software TEE signed, and what is needed to verify it.
type soft struct {
	report []byte
	certs  snp.Certificates
	opts   snp.Options
}

// issueSoft issues evidence; tamper sees its parts before they are signed.
func issueSoft(t testing.TB, kind softtee.Kind, m softtee.Machine, tamper softtee.Tamper) soft {
	t.Helper()
	p, err := world()
	if err != nil {
		t.Fatal(err)
	}
	if m.Name == "" {
		m.Name = "machine"
	}
	report, table, err := p.Report(softtee.Request{Kind: kind, Machine: m, Tamper: tamper})
	if err != nil {
		t.Fatal(err)
	}
	roots, err := p.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	key := snp.VCEK
	if m.VLEK {
		key = snp.VLEK
	}
	return soft{report, table.Certificates(key), snp.Options{Roots: roots, Time: softNow}}
}

func (s soft) verify() (*attest.Claims, error) { return snp.Verify(s.report, s.certs, s.opts) }

// set is a tamper that changes bytes of a part before it is signed.
func set(part softtee.Part, at int, values ...byte) softtee.Tamper {
	return func(got softtee.Part, b []byte) []byte {
		if got == part {
			b = slices.Clone(b)
			copy(b[at:], values)
		}
		return b
	}
}

// TestMutations changes one field of genuine, re-signed evidence; each is refused for its own reason.
func TestMutations(t *testing.T) {
	const (
		body, signed                = softtee.PartSNPReport, softtee.PartSNPSigned
		vekTCB, vekHWID, vekProduct = softtee.PartVEKTCB, softtee.PartVEKHWID, softtee.PartVEKProduct
		v2, v3, v5                  = softtee.SNPv2, softtee.SNPv3, softtee.SNPv5
	)
	chip, vlek := softtee.Machine{}, softtee.Machine{VLEK: true}
	tests := map[string]struct {
		code    string
		kind    softtee.Kind
		machine softtee.Machine
		tamper  softtee.Tamper
	}{
		"version 1":               {snp.CodeFormat, v2, chip, set(body, 0, 1)},
		"version 4":               {snp.CodeFormat, v5, chip, set(body, 0, 4)},
		"version 6":               {snp.CodeFormat, v5, chip, set(body, 0, 6)},
		"version high byte":       {snp.CodeFormat, v3, chip, set(body, 0, 3, 0, 0, 1)},
		"algorithm":               {snp.CodeFormat, v3, chip, set(body, 0x34, 2)},
		"policy bit 17":           {snp.CodeFormat, v3, chip, set(body, 0x0A, 0x01)},
		"policy unknown bit":      {snp.CodeReserved, v3, chip, set(body, 0x0B, 0x04)},
		"policy top bit":          {snp.CodeReserved, v3, chip, set(body, 0x0F, 0x80)},
		"key info reserved bit":   {snp.CodeReserved, v3, chip, set(body, 0x48, 0x20)},
		"key info reserved value": {snp.CodeReserved, v3, chip, set(body, 0x48, 2<<2)},
		"reserved 0x4c":           {snp.CodeReserved, v3, chip, set(body, 0x4F, 1)},
		"v2 with CPUID":           {snp.CodeReserved, v2, chip, set(body, 0x188, 0x19)},
		"reserved 0x18b":          {snp.CodeReserved, v3, chip, set(body, 0x18B, 1)},
		"reserved 0x19f":          {snp.CodeReserved, v5, chip, set(body, 0x19F, 1)},
		"reserved 0x1eb":          {snp.CodeReserved, v3, chip, set(body, 0x1EB, 1)},
		"reserved 0x1ef":          {snp.CodeReserved, v3, chip, set(body, 0x1EF, 1)},
		"v3 with MIT vector":      {snp.CodeReserved, v3, chip, set(body, 0x1F8, 1)},
		"reserved 0x208":          {snp.CodeReserved, v5, chip, set(body, 0x208, 1)},
		"reserved 0x29f":          {snp.CodeReserved, v2, chip, set(body, 0x29F, 1)},
		"signature padding":       {snp.CodeReserved, v3, chip, set(signed, 0x330, 1)},
		"last byte":               {snp.CodeReserved, v3, chip, set(signed, 0x49F, 1)},
		"TCB reserved":            {snp.CodeReserved, v3, chip, set(body, 0x182, 1)},
		"Turin TCB reserved":      {snp.CodeReserved, v5, chip, set(body, 0x1E4, 1)},
		"current TCB reserved":    {snp.CodeReserved, v3, chip, set(body, 0x3A, 1)},
		"launch TCB reserved":     {snp.CodeReserved, v3, chip, set(body, 0x1F5, 1)},
		"not signed":              {snp.CodeSigningKey, v3, chip, set(body, 0x48, 7<<2)},
		"masked chip key":         {snp.CodeSigningKey, v3, chip, set(body, 0x48, 2)},
		"says VLEK, is VCEK":      {snp.CodeSigningKey, v3, chip, set(body, 0x48, 1<<2)},
		"says VCEK, is VLEK":      {snp.CodeSigningKey, v3, vlek, set(body, 0x48, 0)},
		"author digest, no key":   {snp.CodeSigningKey, v3, chip, set(body, 0x110, 1)},
		"another family":          {snp.CodeProduct, v3, chip, set(body, 0x188, 0x1A)},
		"another model":           {snp.CodeProduct, v3, chip, set(body, 0x189, 0x01)},
		"unknown CPU":             {snp.CodeProduct, v5, chip, set(body, 0x188, 0x1B)},
		"reported bootloader":     {snp.CodeTCB, v3, chip, set(body, 0x180, 11)},
		"reported TEE":            {snp.CodeTCB, v3, chip, set(body, 0x181, 1)},
		"reported SNP":            {snp.CodeTCB, v3, chip, set(body, 0x186, 99)},
		"reported microcode":      {snp.CodeTCB, v3, vlek, set(body, 0x187, 99)},
		"Turin reported FMC":      {snp.CodeTCB, v5, chip, set(body, 0x180, 2)},
		"Turin reported SNP":      {snp.CodeTCB, v5, chip, set(body, 0x183, 9)},
		"certificate's TCB":       {snp.CodeTCB, v3, chip, set(vekTCB, 0, 9)},
		"Turin certificate's FMC": {snp.CodeTCB, v5, chip, set(vekTCB, 0, 9)},
		"chip id":                 {snp.CodeChip, v3, chip, set(body, 0x1DF, 0xAB, 0)},
		"Turin chip id tail":      {snp.CodeChip, v5, chip, set(body, 0x1A8, 1)},
		"certificate's chip":      {snp.CodeChip, v3, chip, set(vekHWID, 0, 1, 2, 3)},
		"certificate's product":   {snp.CodeProduct, v3, chip, set(vekProduct, 0, []byte("Milan")...)},
		"unknown product":         {snp.CodeProduct, v3, chip, set(vekProduct, 0, []byte("Xenoa")...)},
		"R":                       {snp.CodeSignature, v3, chip, set(signed, 0x2A0, 1, 2, 3)},
		"R too large":             {snp.CodeSignature, v3, chip, set(signed, 0x2E7, 1)},
		"S zero":                  {snp.CodeSignature, v3, chip, set(signed, 0x2E8, make([]byte, 72)...)},
		"measurement":             {snp.CodeSignature, v3, chip, set(signed, 0x90, 1, 2, 3)},
		"report data":             {snp.CodeSignature, v2, chip, set(signed, 0x50, 1)},
		"policy, debug cleared":   {snp.CodeSignature, v5, vlek, set(signed, 0x0A, 0x02)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := issueSoft(t, test.kind, test.machine, test.tamper).verify()
			wantCode(t, err, test.code)
		})
	}
}

// TestAcceptable: what may differ is accepted.
func TestAcceptable(t *testing.T) {
	const body = softtee.PartSNPReport
	tests := map[string]struct {
		kind    softtee.Kind
		machine softtee.Machine
		tamper  softtee.Tamper
	}{
		"Bergamo":               {softtee.SNPv3, softtee.Machine{}, set(body, 0x189, 0xA0)},
		"Siena certificate":     {softtee.SNPv3, softtee.Machine{}, set(softtee.PartVEKProduct, 0, []byte("Siena")...)},
		"masked chip":           {softtee.SNPv3, softtee.Machine{MaskChip: true}, nil},
		"VLEK, masked chip key": {softtee.SNPv3, softtee.Machine{VLEK: true}, set(body, 0x48, 1<<2|2)},
		"author key":            {softtee.SNPv3, softtee.Machine{}, set(body, 0x48, 1)},
		"newer platform":        {softtee.SNPv5, softtee.Machine{}, set(body, 0x38, 9, 9, 9, 9)},
		"new platform info":     {softtee.SNPv5, softtee.Machine{}, set(body, 0x40, 0xFF, 0xFF)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := issueSoft(t, test.kind, test.machine, test.tamper).verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAllReasons: a certificate of another chip and TCB, too late and without CRL, is refused with all reasons.
func TestAllReasons(t *testing.T) {
	s := issueSoft(t, softtee.SNPv3, softtee.Machine{}, nil)
	other := issueSoft(t, softtee.SNPv3, softtee.Machine{Name: "other", Status: attest.OutOfDate}, nil)
	s.certs, s.opts.Time, s.opts.Cache = other.certs, softNow.AddDate(100, 0, 0), snp.NewCache(2)
	s.certs.CRL = nil
	for range 2 {
		claims, err := s.verify()
		if claims != nil {
			t.Fatal("accepted")
		}
		for _, code := range []string{snp.CodeValidity, snp.CodeCRL, snp.CodeTCB, snp.CodeChip, snp.CodeSignature} {
			wantCode(t, err, code)
		}
	}
}
