// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package effect

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/diff"
	"github.com/marblerun/marblerun/manifest/problem"
)

// marbles says what happens to Marble types.
func (r *reporter) marbles() {
	for _, name := range union(r.current.Marbles, r.next.Marbles) {
		old, was := r.current.Marbles[name]
		next, is := r.next.Marbles[name]
		m := marbleChange{r: r, name: name}
		switch {
		case !was:
			m.add("", diff.Added, "added: package "+problem.Quote(next.Package))
		case !is:
			m.add("", diff.Removed, "removed: no Marble of this type is admitted any more")
		default:
			m.compare(old, next)
		}
	}
}

// marbleChange says what happens to one Marble type.
type marbleChange struct {
	r    *reporter
	name string
}

func (m marbleChange) add(field string, kind diff.Kind, text string) *diff.Change {
	path := problem.Key("$.Marbles", m.name)
	subject := quoted("Marble", m.name) + " "
	if field != "" {
		path, subject = path+"."+field, quoted("Marble", m.name)+": "
	}
	m.r.add(Marbles, diff.Change{
		Path: path, Kind: kind, Text: subject + text, Affects: diff.Affected{Marbles: []string{m.name}},
	})
	return &m.r.changes[len(m.r.changes)-1]
}

func (m marbleChange) compare(old, next manifest.Marble) {
	if old.Package != next.Package {
		c := m.add("Package", diff.Changed, fmt.Sprintf("Package is %s, was %s",
			problem.Quote(next.Package), problem.Quote(old.Package)))
		c.Affects.Packages = slices.Compact(slices.Sorted(slices.Values([]string{old.Package, next.Package})))
	}
	if old.MaxActivations != next.MaxActivations {
		m.add("MaxActivations", diff.Changed, fmt.Sprintf("MaxActivations is %s, was %s; earlier activations count",
			limit(next.MaxActivations), limit(old.MaxActivations)))
	}
	m.values("Env", old.Parameters.Env, next.Parameters.Env)
	m.values("Files", old.Parameters.Files, next.Parameters.Files)
	if !slices.Equal(old.Parameters.Argv, next.Parameters.Argv) {
		m.add("Parameters.Argv", diff.Changed, fmt.Sprintf("Argv changes (%s, were %d)",
			count(len(next.Parameters.Argv), "argument"), len(old.Parameters.Argv)))
	}
	m.list("TLS", "TLS tags", old.TLS, next.TLS)
	m.names(old.AllowedNames, next.AllowedNames)
	if old.DisableSecretBinding != next.DisableSecretBinding {
		m.binding(next)
	}
}

func limit(n uint) string {
	if n == 0 {
		return "unlimited"
	}
	return strconv.FormatUint(uint64(n), 10)
}

// values says which entries of Env or Files come, go and change, by name.
func (m marbleChange) values(list string, old, next map[string]manifest.Value) {
	by := map[diff.Kind][]string{}
	for _, name := range union(old, next) {
		a, was := old[name]
		b, is := next[name]
		switch {
		case !was:
			by[diff.Added] = append(by[diff.Added], name)
		case !is:
			by[diff.Removed] = append(by[diff.Removed], name)
		case !bytes.Equal(a.Data, b.Data) || a.NoTemplates != b.NoTemplates:
			by[diff.Changed] = append(by[diff.Changed], name)
		}
	}
	for _, kind := range []diff.Kind{diff.Added, diff.Changed, diff.Removed} {
		if names := by[kind]; len(names) > 0 {
			m.add("Parameters."+list, kind, fmt.Sprintf("%s %s: %s", list, kind, Names(names)))
		}
	}
}

func (m marbleChange) list(field, noun string, old, next []string) {
	var parts []string
	if won := without(next, old); len(won) > 0 {
		parts = append(parts, "gains "+noun+" "+Names(won))
	}
	if lost := without(old, next); len(lost) > 0 {
		parts = append(parts, "loses "+noun+" "+Names(lost))
	}
	if len(parts) > 0 {
		m.add(field, diff.Changed, strings.Join(parts, ", "))
	}
}

// names: no AllowedNames allow all.
func (m marbleChange) names(old, next []string) {
	const field = "AllowedNames"
	switch {
	case old == nil && next != nil:
		m.add(field, diff.Changed, "names in its certificates are limited to "+orNone(next)+", were not limited")
	case old != nil && next == nil:
		m.add(field, diff.Changed, "names in its certificates are no longer limited").Warning = true
	default:
		m.list(field, "allowed names", old, next)
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return Names(names)
}

// binding: the Marble type goes into the derivation of the Marble's own keys, or no longer does.
func (m marbleChange) binding(next manifest.Marble) {
	c := m.add("DisableSecretBinding", diff.Changed, fmt.Sprintf("DisableSecretBinding is %t, was %t: its own symmetric "+
		"keys change, and .Previous does not give the old ones", next.DisableSecretBinding, !next.DisableSecretBinding))
	c.Warning = true
	now, _ := m.r.next.ReferencedSecrets(m.name)
	for _, name := range now {
		if derived(m.r.next.Secrets[name]) {
			c.Affects.Secrets = append(c.Affects.Secrets, name)
		}
	}
}

// derived tells whether each Marble has a key of its own that follows from the root secret.
func derived(s manifest.Secret) bool {
	return s.Type == manifest.TypeSymmetricKey && own(s)
}

// marbleChanged tells whether the entry of a Marble type differs.
func (r *reporter) marbleChanged(name string) bool {
	return !reflect.DeepEqual(r.current.Marbles[name], r.next.Marbles[name])
}
