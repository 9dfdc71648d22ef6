// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"fmt"
	"slices"
	"strings"
)

func (k *checker) machine() {
	if len(k.p.Machines) == 0 {
		return
	}
	got := k.c.Machine
	if slices.ContainsFunc(k.p.Machines, func(m Machine) bool { return m.covers(got) }) {
		return
	}
	k.refuse(Reason{Field: "Machines", Want: fmt.Sprintf("one of the %d listed machines", len(k.p.Machines)),
		Got: got.String(), Text: fmt.Sprintf("the evidence comes from a machine that is not listed: %s", got),
		Change: fmt.Sprintf("add the machine (%s) to Machines", got)})
}

// covers tells whether got has all identifiers that m names. An m that names none covers nothing.
func (m Machine) covers(got Machine) bool {
	same := func(want, got string) bool { return want == "" || strings.EqualFold(want, got) }
	return m != Machine{} && same(m.PPID, got.PPID) && same(m.PlatformInstanceID, got.PlatformInstanceID) &&
		sameChip(m.ChipID, got.ChipID) && same(m.FMSPC, got.FMSPC)
}

// sameChip takes the 8 bytes of a Turin and the 64 that its reports have, filled with zeros, for the same.
func sameChip(want, got string) bool {
	unfilled := func(id string) string { return strings.TrimRight(id, "0") }
	return want == "" || got != "" && strings.EqualFold(unfilled(want), unfilled(got))
}

// String lists the identifiers that are known.
func (m Machine) String() string {
	var parts []string
	for _, part := range [][2]string{{"PPID", m.PPID}, {"platform instance", m.PlatformInstanceID}, {"chip", m.ChipID},
		{"FMSPC", m.FMSPC}} {
		if part[1] != "" {
			parts = append(parts, part[0]+" "+part[1])
		}
	}
	if len(parts) == 0 {
		return "unknown machine"
	}
	return strings.Join(parts, ", ")
}
