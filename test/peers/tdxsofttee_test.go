// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/tcbdata"
)

// TestTDXSoftwareTEE: on the software TEE's matrix of platform, module and quoting enclave both find the same status.
func TestTDXSoftwareTEE(t *testing.T) {
	w := newIntelWorld(t)
	platform := []attest.TCBStatus{attest.UpToDate, attest.SWHardeningNeeded, attest.ConfigurationNeeded,
		attest.ConfigurationAndSWHardeningNeeded, attest.OutOfDate, attest.OutOfDateConfigurationNeeded, attest.Revoked,
		tcbdata.NotSupported}
	halves := []attest.TCBStatus{attest.UpToDate, attest.OutOfDate, attest.Revoked, tcbdata.NotSupported}
	for _, status := range platform {
		for _, module := range halves {
			for _, qe := range halves {
				name := strings.Join([]string{string(status), string(module), string(qe)}, "/")
				c := w.quote(softtee.TDXv4, softtee.Machine{Name: name, Status: status, Module: module, QE: qe})
				claims, err := c.verify(nil)
				peer := tdxGuest(c)
				if want, said := tdxGuestAnswer(claims, err), tdxGuestSaid(peer); said != want || want == "refused" {
					t.Errorf("%s: we say %q (%v), go-tdx-guest %q: %v", name, want, err, said, peer)
				}
				if claims != nil {
					sameTD(t, c, claims)
				}
			}
		}
	}
}

// TestTDXRefusals sets both on evidence and collateral that must be refused whatever the TCB is. go-tdx-guest is known
// to accept some, and to refuse some that is genuine.
func TestTDXRefusals(t *testing.T) {
	tests := []struct {
		name     string
		machine  softtee.Machine
		settings func(*softtee.Settings)
		world    func(*intelWorld)
		edit     func(*quoteCase)
		code     string // of our refusal; "" accepts
		said     string // go-tdx-guest's answer
		why      string // if it differs
	}{
		{name: "genuine"},
		{name: "revoked PCK", world: func(w *intelWorld) { w.revokedPCK = true }, code: attest.CodeRevoked, said: "refused"},
		{name: "revoked CA", world: func(w *intelWorld) { w.revokedCA = true }, code: attest.CodeRevoked, said: "refused"},
		{name: "expired TCB info", edit: func(c *quoteCase) { c.at = c.at.AddDate(0, 2, 0) }, code: attest.CodeExpired,
			said: "refused"},
		{name: "TCB info edited", edit: func(c *quoteCase) {
			c.col.TCBInfo = strings.Replace(c.col.TCBInfo, "OutOfDate", "UpToDate", 1)
		}, code: attest.CodeTCBInfoSignature, said: "refused"},
		{name: "QE identity edited", edit: func(c *quoteCase) {
			c.col.QEIdentity = strings.Replace(c.col.QEIdentity, "OutOfDate", "UpToDate", 1)
		}, code: attest.CodeQEIdentitySign, said: "refused"},
		{name: "CRLs swapped", edit: func(c *quoteCase) {
			c.col.PCKCRL, c.col.RootCACRL = c.col.RootCACRL, c.col.PCKCRL
		}, code: attest.CodePCKCRL, said: "refused"},
		{name: "other root", edit: func(c *quoteCase) {
			other := newIntelWorld(t).quote(softtee.TDXv4, softtee.Machine{Name: "other"})
			c.root, c.key = other.root, other.key
		}, code: attest.CodeUntrustedRoot, said: "refused"},

		{name: "no CRLs, and not asked for", edit: func(c *quoteCase) {
			c.col.PCKCRL, c.col.RootCACRL, c.crls = nil, nil, false
		}},
		{name: "TCB info and identity not yet valid", settings: func(s *softtee.Settings) { s.Age = -2 * time.Hour },
			code: attest.CodeNotYetValid, why: "go-tdx-guest does not look at issueDate"},
		{name: "CRLs not yet valid", world: func(w *intelWorld) { w.crlFrom = 48 * time.Hour }, code: attest.CodeNotYetValid,
			why: "go-tdx-guest does not look at thisUpdate"},
		{name: "processor CA", machine: softtee.Machine{ProcessorCA: true}, said: "refused",
			why: "go-tdx-guest knows the platform CA only"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newIntelWorld(t)
			if test.settings != nil {
				w.platform.Configure(test.settings)
			}
			if test.world != nil {
				test.world(w)
			}
			test.machine.Name = "m"
			c := w.quote(softtee.TDXv4, test.machine)
			if test.edit != nil {
				test.edit(&c)
			}
			_, err := c.verify(nil)
			wantCode(t, err, test.code)
			peer := tdxGuest(c)
			if said := tdxGuestSaid(peer); said != test.said {
				t.Errorf("go-tdx-guest should say %q (%s), says %q: %v", test.said, test.why, said, peer)
			}
			if differs := (test.code == "") != (test.said == ""); differs != (test.why != "") {
				t.Errorf("a difference has its reason in the table, and only a difference has: %q", test.why)
			}
		})
	}
}
