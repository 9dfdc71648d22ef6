// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"sort"
	"strings"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/manifest/cert"
	"github.com/marblerun/marblerun/manifest/identity"
	"github.com/marblerun/marblerun/manifest/problem"
)

// Parts of the language that have packages of their own.
type (
	Package        = identity.Package
	TDXPackage     = identity.TDX
	SNPPackage     = identity.SNP
	SNPTCB         = identity.SNPTCB
	Infrastructure = identity.Infrastructure
	Machine        = identity.Machine
	CertTemplate   = cert.Template
	Problem        = problem.Problem
	Problems       = problem.Problems
)

// Policy is the policy of a package, with the manifest's Machines; false if there is no such package.
func (m *Manifest) Policy(name string) (attest.Policy, bool) {
	p, ok := m.Packages[name]
	if !ok {
		return attest.Policy{}, false
	}
	policy := p.Policy()
	policy.Machines = m.Machines()
	return policy, true
}

// Machines is the allow-list of hardware: the union over Infrastructures, without duplicates, hex in lower case.
// Empty means that all hardware is allowed (Check refuses an empty list of Machines).
func (m *Manifest) Machines() []attest.Machine {
	var machines []attest.Machine
	seen := make(map[attest.Machine]bool)
	for _, name := range sortedKeys(m.Infrastructures) {
		for _, one := range m.Infrastructures[name].Machines {
			machine := attest.Machine{
				PPID: strings.ToLower(one.PPID), PlatformInstanceID: strings.ToLower(one.PlatformInstanceID),
				ChipID: strings.ToLower(one.ChipID),
			}
			if !seen[machine] {
				seen[machine] = true
				machines = append(machines, machine)
			}
		}
	}
	return machines
}

// WithSecurityVersions is a copy whose packages have these security versions: a manifest as package updates left it.
// Names without a package are ignored.
func (m *Manifest) WithSecurityVersions(versions map[string]uint) *Manifest {
	out := *m
	out.Packages = make(map[string]Package, len(m.Packages))
	for name, p := range m.Packages {
		if v, ok := versions[name]; ok {
			p.SecurityVersion = &v
		}
		out.Packages[name] = p
	}
	return &out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
