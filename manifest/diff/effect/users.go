// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
	"github.com/marblerun/marblerun/manifest/problem"
)

// permission is what a user may do.
type permission struct{ resource, action, name string }

// permissions are those of a user, by the roles that grant them.
func permissions(m *manifest.Manifest, user string) map[permission]bool {
	set := map[permission]bool{}
	for _, role := range m.Users[user].Roles {
		maps.Copy(set, granted(m.Roles[role]))
	}
	return set
}

// granted are the permissions of a role. Those on the manifest need no name.
func granted(r manifest.Role) map[permission]bool {
	set := map[permission]bool{}
	names := r.ResourceNames
	if r.ResourceType == manifest.ResourceManifest {
		names = []string{""}
	}
	for _, action := range r.Actions {
		for _, name := range names {
			set[permission{r.ResourceType, canonical(action), name}] = true
		}
	}
	return set
}

// actions are all there are, with what they let a user do.
func actions() [][2]string {
	return [][2]string{
		{manifest.ActionUpdateManifest, "update the manifest"},
		{manifest.ActionUpdateSecurityVersion, "update the versions of packages"},
		{manifest.ActionReadSecret, "read the secrets"},
		{manifest.ActionWriteSecret, "write the secrets"},
		{manifest.ActionRotateSecret, "rotate the secrets"},
		{manifest.ActionBanMarble, "ban Marbles of the types"},
	}
}

// canonical is the spelling of an action: case does not count.
func canonical(action string) string {
	for _, a := range actions() {
		if strings.EqualFold(a[0], action) {
			return a[0]
		}
	}
	return action
}

// sayPermissions says those of a that b lacks, "" if there are none.
func sayPermissions(a, b map[permission]bool) string {
	var parts []string
	for _, action := range actions() {
		var names []string
		found := false
		for p := range a {
			if p.action == action[0] && !b[p] {
				found, names = true, append(names, p.name)
			}
		}
		slices.Sort(names)
		switch {
		case !found:
		case action[0] == manifest.ActionUpdateManifest:
			parts = append(parts, action[1])
		default:
			parts = append(parts, action[1]+" "+Names(slices.Compact(names)))
		}
	}
	return strings.Join(parts, "; ")
}

// users says who comes and goes, and who may do what from now on.
func (r *reporter) users() {
	concerned := map[string]bool{}
	for _, name := range union(r.current.Users, r.next.Users) {
		old, was := r.current.Users[name]
		next, is := r.next.Users[name]
		path := problem.Key("$.Users", name)
		say := func(kind diff.Kind, format string, args ...any) {
			r.add(Users, diff.Change{Path: path, Kind: kind, Affects: diff.Affected{Users: []string{name}},
				Text: quoted("user", name) + " " + fmt.Sprintf(format, args...)})
		}
		switch {
		case !was:
			say(diff.Added, "added")
		case !is:
			say(diff.Removed, "removed")
		case !sameCertificate(old, next):
			say(diff.Changed, "has another certificate; the old one opens nothing any more")
		}
		before, after := permissions(r.current, name), permissions(r.next, name)
		if won := sayPermissions(after, before); won != "" {
			concern(concerned, old, next)
			say(diff.Added, "may now: %s", won)
		}
		if lost := sayPermissions(before, after); lost != "" {
			concern(concerned, old, next)
			say(diff.Removed, "may no longer: %s", lost)
		}
	}
	r.otherRoles(concerned)
}

func concern(roles map[string]bool, users ...manifest.User) {
	for _, u := range users {
		for _, role := range u.Roles {
			roles[role] = true
		}
	}
}

func sameCertificate(a, b manifest.User) bool {
	x, errA := a.DER()
	y, errB := b.DER()
	return a.Certificate == b.Certificate || errA == nil && errB == nil && bytes.Equal(x, y)
}

// otherRoles names the roles that change without any effect on what was said of users.
func (r *reporter) otherRoles(concerned map[string]bool) {
	var names []string
	for _, name := range union(r.current.Roles, r.next.Roles) {
		old, was := r.current.Roles[name]
		next, is := r.next.Roles[name]
		if !concerned[name] && (was != is || !maps.Equal(granted(old), granted(next))) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		r.add(Users, diff.Change{Path: "$.Roles", Kind: diff.Changed,
			Text: "roles that change for no user: " + Names(names)})
	}
}

// owners says who may update the manifest the next time, if that changes.
func (r *reporter) owners() {
	before, after := r.current.Updaters(), r.next.Updaters()
	n, m := r.current.RequiredAcknowledgments(), r.next.RequiredAcknowledgments()
	if slices.Equal(before, after) && n == m {
		return
	}
	c := diff.Change{
		Path: "$.Config.UpdateThreshold", Kind: diff.Changed, Affects: diff.Affected{Users: after},
		Text: fmt.Sprintf("full updates will need %d of %s, now %d of %d", m, count(len(after), "user"), n, len(before)),
	}
	switch {
	case len(after) == 0:
		c.Warning, c.Text = true, "nobody will be able to update the manifest any more"
	case m < n:
		c.Warning = true
	}
	r.add(Users, c)
}
