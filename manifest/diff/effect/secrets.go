// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"slices"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
)

// fate is what becomes of a secret.
type fate int

// The fates of secrets; which one, says §13.4 of the contract.
const (
	added fate = iota
	addedOwn
	addedUpload
	redefined
	redefinedOwn
	emptied
	rotated
	rotatedOwn
	kept
	keptOwn
	reissued
	reissuedOwn
	removed
	fates // their number
)

// fateOf is what an update does to the value of a secret, and to that for .Previous.
func (r *reporter) fateOf(name string) fate {
	old, was := r.current.Secrets[name]
	def, is := r.next.Secrets[name]
	rotate := r.full && r.next.Config.RotateRootSecret
	switch {
	case !is:
		return removed
	case !was:
		return pick(def, added, addedOwn, addedUpload)
	case own(old) && own(def) && old.IsCertificate() && def.IsCertificate():
		return reissuedOwn // whatever else changed: there is no value to lose
	case !old.SameDefinition(def):
		return pick(def, redefined, redefinedOwn, emptied)
	case def.IsCertificate():
		return pick(def, reissued, reissuedOwn, kept)
	case rotate:
		return pick(def, rotated, rotatedOwn, kept)
	}
	return pick(def, kept, keptOwn, kept)
}

// own tells whether each Marble gets a value of its own.
func own(s manifest.Secret) bool { return !s.Shared && !s.UserDefined }

func pick(def manifest.Secret, shared, own, upload fate) fate {
	switch {
	case def.UserDefined:
		return upload
	case def.Shared:
		return shared
	}
	return own
}

// words say each fate: what kind of change it is, and what happens.
func (r *reporter) words(f fate) (diff.Kind, string) {
	switch f {
	case added:
		return diff.Generated, "new: the Coordinator generates a value; .Previous is the same"
	case addedOwn:
		return diff.Generated, "new: each Marble gets its own value when it activates"
	case addedUpload:
		return diff.Emptied, "new: empty until somebody uploads a value"
	case redefined:
		return diff.Regenerated, "defined otherwise: a new value, and .Previous is the same; the old value is lost"
	case redefinedOwn:
		return diff.Regenerated, "defined otherwise: each Marble gets a new value of its own; " +
			".Previous does not give the old one"
	case emptied:
		return diff.Emptied, "defined otherwise: emptied, also in .Previous; the value must be uploaded again"
	case rotated:
		return diff.Regenerated, "a new value, because the root secret is rotated; .Previous is the value before"
	case rotatedOwn:
		return diff.Regenerated, "each Marble's own key changes, because it is derived from the root secret; " +
			".Previous is derived from the one before"
	case kept:
		return diff.Kept, "kept: the value, if there is one, stays"
	case keptOwn:
		return diff.Kept, "kept: each Marble's own key is derived as before"
	case reissued:
		if r.full {
			return diff.Reissued, "shared certificates are issued anew: new key, current template, validity from now on; " +
				".Previous is the certificate before"
		}
		return diff.Reissued, "shared certificates are issued anew: new key, but the end of validity that they have; " +
			".Previous is untouched"
	case reissuedOwn:
		return diff.Reissued, "each Marble gets a new certificate when it activates, as always"
	default:
		return diff.Removed, "removed: the value is deleted, also for .Previous"
	}
}

// secrets says what becomes of all values, those with the same fate together.
func (r *reporter) secrets() {
	var by [fates][]string
	for _, name := range union(r.current.Secrets, r.next.Secrets) {
		f := r.fateOf(name)
		by[f] = append(by[f], name)
	}
	r.rootSecret()
	for f, names := range by {
		if len(names) == 0 {
			continue
		}
		kind, text := r.words(fate(f))
		c := diff.Change{Kind: kind, Text: text, Affects: diff.Affected{Secrets: names, Marbles: r.usersOf(names)}}
		c.Warning = slices.Contains([]fate{redefined, redefinedOwn, emptied, removed}, fate(f))
		if !slices.Contains([]fate{kept, keptOwn, reissued, reissuedOwn}, fate(f)) {
			c.Path = "$.Secrets"
		}
		if fate(f) == addedUpload || fate(f) == emptied {
			c.Affects.Users = r.uploaders(names)
		}
		section := Secrets
		if fate(f) == reissued || fate(f) == reissuedOwn {
			section = Certificates
		}
		r.add(section, c)
	}
}

// usersOf are the Marble types that use any of the secrets.
func (r *reporter) usersOf(secrets []string) []string {
	set := map[string]bool{}
	for _, name := range secrets {
		for _, marble := range r.uses.secrets[name] {
			set[marble] = true
		}
	}
	return sorted(set)
}

// uploaders are the users who may then write any of the secrets.
func (r *reporter) uploaders(secrets []string) []string {
	var users []string
	for _, user := range sorted(r.next.Users) {
		if slices.ContainsFunc(secrets, func(name string) bool {
			return r.next.Can(user, manifest.ResourceSecrets, manifest.ActionWriteSecret, name)
		}) {
			users = append(users, user)
		}
	}
	return users
}

// rootSecret says what its rotation does.
func (r *reporter) rootSecret() {
	if !r.full || !r.next.Config.RotateRootSecret {
		return
	}
	c := diff.Change{
		Path: "$.Config.RotateRootSecret", Kind: diff.Regenerated, Text: "the root secret is rotated; one rotation is " +
			"remembered: what was derived from the root secret before the last one is lost",
	}
	r.add(Secrets, c)
	var blind, keys []string
	for _, name := range sorted(r.next.Marbles) {
		now, before := r.next.ReferencedSecrets(name)
		lost := slices.DeleteFunc(without(now, before), func(s string) bool { return r.fateOf(s) != rotatedOwn })
		if len(lost) > 0 {
			blind, keys = append(blind, name), append(keys, lost...)
		}
	}
	if len(blind) > 0 {
		slices.Sort(keys)
		r.add(Secrets, diff.Change{
			Kind: diff.Changed, Warning: true, Affects: diff.Affected{Marbles: blind, Secrets: slices.Compact(keys)},
			Text: "keys of their own change for Marbles that do not use .Previous: they cannot read what they encrypted before",
		})
	}
}

// certificates says what every update does.
func (r *reporter) certificates() {
	r.add(Certificates, diff.Change{
		Kind: diff.Regenerated,
		Text: "the intermediate CA and the Marble Root get a new key and new certificates; " +
			"the Coordinator's root certificate stays",
	})
	r.add(Certificates, diff.Change{
		Kind: diff.Changed, Affects: diff.Affected{Marbles: sorted(r.next.Marbles)},
		Text: "certificates that Marbles hold stay valid among each other, but the Coordinator accepts them no longer " +
			"(e.g. for monotonic counters), nor do Marbles that start afterwards: restart all Marbles",
	})
}
