// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"slices"

	"github.com/marblerun/marblerun/manifest"
)

// place is where an entry with a template is.
type place struct {
	marble string
	entry  entry
}

// index notes which secrets the entry's template names.
func (c *Compiled) index(marbleType string, e entry) {
	at := place{marbleType, e}
	switch {
	case e.tmpl == nil:
	case e.all:
		c.everywhere = append(c.everywhere, at)
	default:
		names := slices.Concat(e.uses, e.before)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			c.users[name] = append(c.users[name], at)
		}
	}
}

// Affected returns the part of m, of which c is compiled, whose templates may yield something else because these
// secrets change: the Files and Env with such templates, and the secrets that they use. A dry run of it costs what is
// in it, however large m is.
func (c *Compiled) Affected(m *manifest.Manifest, names []string) *manifest.Manifest {
	part := &manifest.Manifest{Marbles: map[string]manifest.Marble{}, Secrets: map[string]manifest.Secret{}}
	take := func(places []place) {
		for _, at := range places {
			addEntry(part, m, at)
		}
	}
	take(c.everywhere)
	for _, name := range names {
		take(c.users[name])
	}
	if len(c.everywhere) > 0 {
		part.Secrets = m.Secrets
	}
	return part
}

// addEntry copies an entry of m, and the definitions of the secrets that it names.
func addEntry(part, m *manifest.Manifest, at place) {
	of := m.Marbles[at.marble].Parameters
	marble, ok := part.Marbles[at.marble]
	if !ok {
		marble.Parameters = manifest.Parameters{Files: map[string]manifest.Value{}, Env: map[string]manifest.Value{}}
		part.Marbles[at.marble] = marble
	}
	if at.entry.list == "Files" {
		marble.Parameters.Files[at.entry.name] = of.Files[at.entry.name]
	} else {
		marble.Parameters.Env[at.entry.name] = of.Env[at.entry.name]
	}
	if at.entry.all {
		return
	}
	for _, name := range slices.Concat(at.entry.uses, at.entry.before) {
		if def, ok := m.Secrets[name]; ok {
			part.Secrets[name] = def
		}
	}
}
