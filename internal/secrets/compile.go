// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/template"
)

// Compiled is what is derived once from a manifest for the activations under it: templates, and which secrets each
// Marble type uses. It is safe for concurrent use.
type Compiled struct {
	marbles map[string]*plan
	// users are the entries whose templates name a secret, by its name; everywhere are those that may use any.
	users      map[string][]place
	everywhere []place
	// described caches certificates as templates see them, by the name that use gives them: at most one per secret, for
	// its current and its previous value, and three of the CA. Each entry is checked against the bytes asked for.
	described sync.Map // string → template.Certificate
}

// plan is what an activation of one Marble type has to do.
type plan struct {
	files, env []entry
	// current and previous are the names of the secrets used, sorted, those that the manifest does not define left out.
	current, previous []string
	// reserved: a template uses .MarbleRun
	reserved bool
}

// entry is one of Files or Env.
type entry struct {
	list, name string
	literal    []byte             // without template
	tmpl       *template.Template // nil: literal
	err        error              // why there is no template
	uses       []string           // the secrets whose current values it uses, sorted
	before     []string           // the secrets whose previous values it names
	all        bool               // it may use any secret
}

// Compile compiles the templates of all Marbles. A template that does not compile fails the activations of its Marble
// type only: the Compiled is usable also beside an error, which names all of them. (The manifest's check refuses them,
// but a journal may hold a manifest that an older program accepted.)
func Compile(m *manifest.Manifest) (*Compiled, error) {
	c := &Compiled{marbles: make(map[string]*plan, len(m.Marbles)), users: map[string][]place{}}
	var problems []error
	for _, marbleType := range slices.Sorted(maps.Keys(m.Marbles)) {
		p := compilePlan(m, m.Marbles[marbleType])
		for _, e := range slices.Concat(p.files, p.env) {
			if e.err != nil {
				problems = append(problems, fmt.Errorf("Marble %q: %w", marbleType, e.err))
			}
			c.index(marbleType, e)
		}
		c.marbles[marbleType] = p
	}
	return c, errors.Join(problems...)
}

func compilePlan(m *manifest.Manifest, marble manifest.Marble) *plan {
	p := &plan{}
	var current, previous []string
	everything := false
	add := func(list string, kind template.Kind, values map[string]manifest.Value) (entries []entry) {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			e := compileEntry(list, name, kind, values[name])
			if e.tmpl != nil {
				now, before, all := e.tmpl.References()
				e.uses, e.before, e.all = now, before, all
				if all {
					e.uses = slices.Sorted(maps.Keys(m.Secrets))
				}
				current, previous = append(current, now...), append(previous, before...)
				everything = everything || all
				p.reserved = p.reserved || all || bytes.Contains(values[name].Data, []byte("MarbleRun"))
			}
			entries = append(entries, e)
		}
		return entries
	}
	p.files = add("Files", template.File, marble.Parameters.Files)
	p.env = add("Env", template.Env, marble.Parameters.Env)
	if everything {
		current = slices.Collect(maps.Keys(m.Secrets))
		previous = current
	}
	for _, tag := range marble.TLS {
		for _, in := range m.TLS[tag].Incoming {
			current = append(current, in.Cert)
		}
	}
	p.current, p.previous = defined(m, current), defined(m, previous)
	return p
}

// defined returns the names that m defines, sorted and each once.
func defined(m *manifest.Manifest, names []string) []string {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, ok := m.Secrets[name]
		return !ok
	})
	slices.Sort(names)
	return slices.Compact(names)
}

func compileEntry(list, name string, kind template.Kind, v manifest.Value) entry {
	e := entry{list: list, name: name, literal: v.Data}
	if v.NoTemplates || !bytes.Contains(v.Data, []byte("{{")) {
		return e
	}
	e.tmpl, e.err = template.Compile(fmt.Sprintf("%s[%q]", list, name), string(v.Data), kind)
	if e.err != nil {
		e.tmpl = nil
	}
	return e
}

// References returns the names of the secrets that a Marble type uses, of their current and their previous values,
// sorted: those that Parameters must find in Stored and Previous if they are shared or user-defined.
func (c *Compiled) References(marbleType string) (current, previous []string) {
	if p := c.marbles[marbleType]; p != nil {
		return p.current, p.previous
	}
	return nil, nil
}

// describe returns a certificate as templates see it. One that does not parse has Raw only, which is enough for pem,
// raw, hex and base64: a stricter program must not fail Marbles for a certificate that was accepted once.
func (c *Compiled) describe(use string, der []byte) template.Certificate {
	if len(der) == 0 {
		return template.Certificate{}
	}
	if cached, ok := c.described.Load(use); ok && bytes.Equal(cached.(template.Certificate).Raw, der) {
		return cached.(template.Certificate)
	}
	cert, err := template.ParseCertificate(der)
	if err != nil {
		cert = template.Certificate{Raw: der}
	}
	if strings.HasPrefix(use, storedUse) {
		c.described.Store(use, cert)
	}
	return cert
}

// Prefixes of the name that describe caches under. What is made per Marble is not cached.
const (
	storedUse = "stored:"
	freshUse  = "fresh:"
)
