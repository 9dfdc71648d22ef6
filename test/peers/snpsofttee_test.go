// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"strings"
	"testing"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// TestSNPSoftwareTEE sets both on reports of the software TEE. The answers of go-sev-guest's two packages are separate:
// verify checks signatures, validate compares certificate and report.
func TestSNPSoftwareTEE(t *testing.T) {
	type machine = softtee.Machine
	turin, _ := sevDifference(snp.Turin)
	otherChip := func(part softtee.Part, b []byte) []byte {
		if part == softtee.PartVEKHWID {
			b[0] ^= 1
		}
		return b
	}
	otherTCB := func(part softtee.Part, b []byte) []byte {
		if part == softtee.PartVEKTCB {
			b[7]++
		}
		return b
	}
	tests := []struct {
		name              string
		kind              softtee.Kind
		machine           machine
		tamper            softtee.Tamper
		world             func(*amdWorld)
		edit              func(*reportCase)
		code              string // of our refusal; "" accepts
		verifies, compare string // parts of go-sev-guest's errors; "" accepts
		why               string // if it differs
	}{
		{name: "v2 Milan", kind: softtee.SNPv2},
		{name: "v3 Milan", kind: softtee.SNPv3, machine: machine{Product: snp.Milan}},
		{name: "v3 Genoa", kind: softtee.SNPv3},
		{name: "v5 Genoa", kind: softtee.SNPv5, machine: machine{Product: snp.Genoa}},
		{name: "v3 Milan, VLEK", kind: softtee.SNPv3, machine: machine{Product: snp.Milan, VLEK: true}},
		{name: "v3 Genoa, VLEK, masked chip", kind: softtee.SNPv3, machine: machine{VLEK: true, MaskChip: true}},
		{name: "revoked intermediate", kind: softtee.SNPv3, world: func(w *amdWorld) { w.revoked = true },
			code: snp.CodeRevoked, verifies: "revoked"},
		{name: "CRL of another key", kind: softtee.SNPv3, world: func(w *amdWorld) { w.foreign = true },
			code: snp.CodeCRL, verifies: "CRL is not signed by ARK"},
		{name: "later than all", kind: softtee.SNPv3, edit: func(c *reportCase) { c.at = c.at.AddDate(30, 0, 0) },
			code: snp.CodeValidity, verifies: "expired"},
		{name: "other product's root", kind: softtee.SNPv3, edit: func(c *reportCase) {
			other := newAMDWorld(t).report(softtee.SNPv3, machine{Name: "other"}, nil)
			c.roots, c.certs.ARK, c.certs.ASK = other.roots, other.certs.ARK, other.certs.ASK
		}, code: snp.CodeChain, verifies: "error verifying"},
		{name: "certificate of another chip", kind: softtee.SNPv3, tamper: otherChip, code: snp.CodeChip,
			compare: "CHIP_ID"},
		{name: "certificate of another TCB", kind: softtee.SNPv3, tamper: otherTCB, code: snp.CodeTCB, compare: "TCB"},

		{name: "v5 Turin", kind: softtee.SNPv5, verifies: turin, why: "Turin is not known"},
		{name: "stale CRL", kind: softtee.SNPv3, world: func(w *amdWorld) { w.stale = true }, code: snp.CodeCRL,
			why: "go-sev-guest does not look at the nextUpdate of a list that it has just fetched"},
	}
	shared := newAMDWorld(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := *shared
			if test.world != nil {
				test.world(&w)
			}
			test.machine.Name = "m"
			c := w.report(test.kind, test.machine, test.tamper)
			if test.edit != nil {
				test.edit(&c)
			}
			claims, err := c.verify(nil)
			wantCode(t, err, test.code)
			if claims != nil {
				sameGuest(t, c, claims)
			}
			attestation, verifies := sevGuest(c, newSEVGuest(t, c))
			wantPart(t, "verify", verifies, test.verifies)
			if verifies == nil {
				wantPart(t, "validate", sevGuestValidates(attestation), test.compare)
			}
			if differs := (test.code == "") != (test.verifies+test.compare == ""); differs != (test.why != "") {
				t.Errorf("a difference has its reason in the table, and only a difference has: %q", test.why)
			}
		})
	}
}

// wantPart wants an error that has the part, or none if part is empty.
func wantPart(t *testing.T, who string, err error, part string) {
	t.Helper()
	if (err != nil) != (part != "") || err != nil && !strings.Contains(err.Error(), part) {
		t.Errorf("go-sev-guest's %s should say %q, but says %v", who, part, err)
	}
}
