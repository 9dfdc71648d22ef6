// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package effect says in words what an update does to a deployment: not only what differs between two manifests, but
// what follows from it for packages, secrets, certificates, users, recovery and the Marbles that run (contract manifest
// §13).
//
// Invariants: everything is computed from two manifests and a list of activations, without I/O; the result is the same
// for the same input, in the order of the sections and then of the names; no value of Env, Files and Argv is in it,
// only names and sizes. It says what a Coordinator does that applies the update; whether it would is for the checks of
// package manifest, and a Coordinator makes them again.
package effect

import (
	"slices"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
)

// The sections of a report, in their order.
const (
	Packages        = "packages"
	Infrastructures = "infrastructures"
	Marbles         = "marbles"
	TLS             = "tls"
	Secrets         = "secrets"
	Certificates    = "certificates"
	Users           = "users"
	Recovery        = "recovery"
	Settings        = "settings"
)

// Report is what an update does.
type Report struct {
	Kind    string        `json:"update"` // "package" or "full"
	Needs   Needs         `json:"needs"`
	Changes []diff.Change `json:"changes"`           // by section, see the constants
	Running *Running      `json:"running,omitempty"` // nil: not asked for
}

// The kinds of update in a Report.
const (
	Package = "package"
	Full    = "full"
)

// Needs is who must agree to an update.
type Needs struct {
	Permission string   `json:"permission"` // an action of roles
	Users      []string `json:"users"`      // who have it, sorted
	// Acknowledgments is how many of them, whoever submits the update included.
	Acknowledgments int `json:"acknowledgments"`
}

// Changed tells whether the update changes the manifest at all. If it does not, certificates rotate all the same.
func (r Report) Changed() bool {
	return slices.ContainsFunc(r.Changes, func(c diff.Change) bool { return c.Path != "" })
}

// Of says what an update does. Current is the manifest in force, with earlier package updates folded in, see
// [manifest.Manifest.WithSecurityVersions]. The update is a document as it would be posted: a package update or a whole
// manifest. It must have passed the checks of package manifest.
func Of(current, update *manifest.Manifest) Report {
	r := newReporter(current, update)
	for _, d := range diff.Compare(*current, *r.next) {
		r.difference(d)
	}
	r.marbles()
	r.certificates()
	r.secrets()
	r.users()
	if r.full {
		r.owners()
		r.recovery()
		r.settings()
	}
	return r.report()
}

// reporter collects what an update does.
type reporter struct {
	current, next *manifest.Manifest // next: what would be in force
	full          bool
	needs         Needs
	changes       []diff.Change
	// uses are the Marble types by package, by TLS tag and by secret (current or previous value), before and after.
	uses struct{ packages, tags, secrets map[string][]string }
}

func newReporter(current, update *manifest.Manifest) *reporter {
	r := &reporter{current: current, next: Next(current, update), full: update.UpdateKind() == manifest.FullUpdate}
	r.needs = needs(current, update)
	r.uses.packages, r.uses.tags, r.uses.secrets = map[string][]string{}, map[string][]string{}, map[string][]string{}
	for _, m := range []*manifest.Manifest{r.current, r.next} {
		for name, marble := range m.Marbles {
			note(r.uses.packages, marble.Package, name)
			for _, tag := range marble.TLS {
				note(r.uses.tags, tag, name)
			}
			now, before := m.ReferencedSecrets(name)
			for _, secret := range slices.Concat(now, before) {
				note(r.uses.secrets, secret, name)
			}
		}
	}
	return r
}

// note adds a name to a sorted list without duplicates.
func note(lists map[string][]string, key, name string) {
	if i, found := slices.BinarySearch(lists[key], name); !found {
		lists[key] = slices.Insert(lists[key], i, name)
	}
}

// Next is the manifest that is in force after the update, package updates folded in.
func Next(current, update *manifest.Manifest) *manifest.Manifest {
	if update.UpdateKind() == manifest.FullUpdate {
		return update
	}
	versions := map[string]uint{}
	for name, p := range update.Packages {
		if p.SecurityVersion != nil {
			versions[name] = *p.SecurityVersion
		}
	}
	return current.WithSecurityVersions(versions)
}

func needs(current, update *manifest.Manifest) Needs {
	if update.UpdateKind() == manifest.FullUpdate {
		return Needs{
			Permission: manifest.ActionUpdateManifest, Users: append([]string{}, current.Updaters()...),
			Acknowledgments: current.RequiredAcknowledgments(),
		}
	}
	n := Needs{Permission: manifest.ActionUpdateSecurityVersion, Users: []string{}, Acknowledgments: 1}
	for _, user := range sorted(current.Users) {
		all := true
		for name := range update.Packages {
			all = all && current.Can(user, manifest.ResourcePackages, manifest.ActionUpdateSecurityVersion, name)
		}
		if all {
			n.Users = append(n.Users, user)
		}
	}
	return n
}

func (r *reporter) add(section string, c diff.Change) {
	c.Section = section
	r.changes = append(r.changes, c)
}

func (r *reporter) report() Report {
	order := []string{Packages, Infrastructures, Marbles, TLS, Secrets, Certificates, Users, Recovery, Settings}
	slices.SortStableFunc(r.changes, func(a, b diff.Change) int {
		return slices.Index(order, a.Section) - slices.Index(order, b.Section)
	})
	kind := Package
	if r.full {
		kind = Full
	}
	return Report{Kind: kind, Needs: r.needs, Changes: append([]diff.Change{}, r.changes...)}
}
