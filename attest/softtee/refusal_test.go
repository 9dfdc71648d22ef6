// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/softtee"
)

// TestRefusals: knobs of the platform and tampered parts, each refused for its reason.
func TestRefusals(t *testing.T) {
	type settings = softtee.Settings
	configure := func(f func(*settings)) func(*softtee.Platform, *softtee.Request) {
		return func(p *softtee.Platform, _ *softtee.Request) { p.Configure(f) }
	}
	flip := func(part softtee.Part, at int) func(*softtee.Platform, *softtee.Request) {
		tamper := func(got softtee.Part, b []byte) []byte {
			if got != part {
				return b
			}
			b = slices.Clone(b)
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
		return func(p *softtee.Platform, r *softtee.Request) {
			r.Tamper = tamper
			p.Configure(func(s *softtee.Settings) { s.Tamper = tamper })
		}
	}
	machines := []string{"other", "machine"}
	revokeCA := func(ca string) func(*softtee.Platform, *softtee.Request) {
		return configure(func(s *settings) { s.RevokedCAs = []string{ca} })
	}
	tests := map[string]struct {
		code   string
		change func(*softtee.Platform, *softtee.Request)
	}{
		"machine revoked":     {attest.CodeRevoked, configure(func(s *settings) { s.RevokedMachines = machines })},
		"CA revoked":          {attest.CodeRevoked, revokeCA(softtee.CAPlatform)},
		"TCB signing revoked": {attest.CodeRevoked, revokeCA(softtee.CATCBSigning)},
		"no PCK CRL":          {attest.CodeCRLMissing, configure(func(s *settings) { s.NoPCKCRL = true })},
		"no root CRL":         {attest.CodeCRLMissing, configure(func(s *settings) { s.NoRootCRL = true })},
		"collateral expired":  {attest.CodeExpired, configure(func(s *settings) { s.Age = s.Validity + time.Hour })},
		"collateral not yet":  {attest.CodeNotYetValid, configure(func(s *settings) { s.Age = -time.Hour })},
		"PCK extension":       {attest.CodePCKCertificate, flip(softtee.PartPCKExtension, 1)},
		"QE report":           {attest.CodeQEIdentity, flip(softtee.PartQEReport, 128)},
		"QE debug":            {attest.CodeQEIdentity, flipBit(softtee.PartQEReport, 48, 2)},
		"QE report data":      {attest.CodeQEReportData, flip(softtee.PartQEReport, 320)},
		"QE report padding":   {attest.CodeQEReportData, flip(softtee.PartQEReport, 383)},
		"QE report signed":    {attest.CodeQEReportSignature, flip(softtee.PartQESigned, 0)},
		"attestation key":     {attest.CodeQEReportData, flip(softtee.PartAttestKey, 40)},
		"auth data":           {attest.CodeQEReportData, flip(softtee.PartAuthData, 3)},
		"vendor":              {attest.CodeQuoteFormat, flip(softtee.PartHeader, 12)},
		"measurement":         {attest.CodeQuoteSignature, flip(softtee.PartQuote, 48+64)},
		"report data":         {attest.CodeQuoteSignature, flip(softtee.PartQuote, 48+320)},
		"other FMSPC":         {attest.CodeTCBInfoMismatch, edit(softtee.PartTCBInfo, softtee.FMSPC, "00906ea10000")},
		"TDX, no components":  {attest.CodeTCBInfoFormat, edit(softtee.PartTCBInfo, `"SGX","version"`, `"TDX","version"`)},
		"TCB info version":    {attest.CodeTCBInfoFormat, edit(softtee.PartTCBInfo, `"version":3`, `"version":9`)},
		"identity of TDX":     {attest.CodeQEIdentity, edit(softtee.PartQEIdentity, `"id":"QE"`, `"id":"TD_QE"`)},
		"identity product":    {attest.CodeQEIdentity, edit(softtee.PartQEIdentity, `"isvprodid":1`, `"isvprodid":3`)},
		"PCK CRL":             {attest.CodePCKCRL, flip(softtee.PartPCKCRL, -1)},
		"root CRL":            {attest.CodeRootCRL, flip(softtee.PartRootCRL, -1)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := newPlatform(t)
			r := softtee.Request{Kind: softtee.SGXv3, Machine: softtee.Machine{Name: "machine"}}
			test.change(p, &r)
			quote, err := p.Quote(r)
			if err != nil {
				t.Fatal(err)
			}
			col := collateral(t, p, attest.SGX, false)
			_, err = dcap.Verify(quote, col, dcap.Options{Roots: intelRoots(t, p), Time: now})
			wantCode(t, err, test.code)
		})
	}
}

// edit replaces text of a part of the collateral before it is signed.
func edit(part softtee.Part, old, with string) func(*softtee.Platform, *softtee.Request) {
	return func(p *softtee.Platform, _ *softtee.Request) {
		p.Configure(func(s *softtee.Settings) {
			s.Tamper = func(got softtee.Part, b []byte) []byte {
				if got == part {
					b = bytes.ReplaceAll(b, []byte(old), []byte(with))
				}
				return b
			}
		})
	}
}

// flipBit flips bits of a byte of a part before it is signed.
func flipBit(part softtee.Part, at int, mask byte) func(*softtee.Platform, *softtee.Request) {
	return func(_ *softtee.Platform, r *softtee.Request) {
		r.Tamper = func(got softtee.Part, b []byte) []byte {
			if got == part {
				b = slices.Clone(b)
				b[at] ^= mask
			}
			return b
		}
	}
}
