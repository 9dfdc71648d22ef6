// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
)

// Update is a full update: what there was and what there shall be.
type Update struct {
	Old, New *manifest.Manifest
	// Current are all stored secrets under Old, Previous their values for .Previous.
	Current, Previous map[string]Value
	// Rotate: the root secret is replaced (Config.RotateRootSecret of New).
	Rotate bool
	// CA is the new one.
	CA   *pki.CA
	Now  time.Time
	Rand io.Reader
}

// UpdateValues returns the stored secrets after a full update and their values for .Previous (manifest §13.4 and
// §13.5), user-defined ones that are not uploaded included:
//
//	secret                            value                .Previous
//	new or redefined, generated       new                  equals the new value
//	new or redefined, user-defined    emptied              empty
//	shared symmetric key              kept                 untouched
//	the same with Rotate              new                  the value before
//	shared certificate                re-issued from New   the value before
//	user-defined certificate          kept                 the value before
//	user-defined key, plain           kept                 untouched; with Rotate: the value before
//	removed                           deleted              deleted
//
// Secrets that are made per Marble are not stored; their .Previous follows from the previous root secret.
func UpdateValues(ctx context.Context, u Update) (current, previous map[string]Value, err error) {
	keep := make(map[string]Value)
	for name, def := range u.New.Secrets {
		v, ok := u.Current[name]
		if ok && !u.redefined(name) && (def.UserDefined || !def.IsCertificate() && !u.Rotate) {
			keep[name] = v
		}
	}
	current, err = GenerateShared(ctx, u.New, u.CA, keep, u.Now, u.Rand)
	if err != nil {
		return nil, nil, err
	}
	previous = make(map[string]Value)
	for name, def := range u.New.Secrets {
		if def.UserDefined {
			current[name] = Empty(def)
			if v, ok := keep[name]; ok {
				current[name] = v
			}
		}
		if v, stored := current[name]; stored {
			previous[name] = u.previous(name, v)
		}
	}
	return current, previous, nil
}

// redefined tells whether the secret is new or its definition changed.
func (u Update) redefined(name string) bool {
	old, ok := u.Old.Secrets[name]
	return !ok || !old.SameDefinition(u.New.Secrets[name])
}

// previous returns the value for .Previous of a stored secret that now has the value v.
func (u Update) previous(name string, v Value) Value {
	before, stored := u.Current[name]
	untouched, ok := u.Previous[name]
	switch {
	case u.redefined(name):
		return v
	case stored && (v.certificate() || u.Rotate):
		return before
	case ok:
		return untouched
	default:
		return v
	}
}

// ReissueShared returns the shared secrets that a package update changes: the generated certificates get new keys and
// are signed by the new CA, with the end of validity that they had (manifest §13.4). All other secrets, and all values
// for .Previous, stay.
func ReissueShared(
	ctx context.Context, m *manifest.Manifest, ca *pki.CA, current map[string]Value, now time.Time, rand io.Reader,
) (map[string]Value, error) {
	g := generator{ca: ca, now: now, rand: rand, newKey: newKey}
	reissued := make(map[string]Value)
	for _, name := range slices.Sorted(maps.Keys(m.Secrets)) {
		def := m.Secrets[name]
		if !def.Shared || def.UserDefined || !def.IsCertificate() {
			continue
		}
		old, err := x509.ParseCertificate(current[name].Cert)
		if err != nil {
			return nil, fmt.Errorf("secret %q: reading the certificate to re-issue: %w", name, err)
		}
		days := validFor(def)
		def.Cert.NotAfter = old.NotAfter
		v, err := g.one(ctx, name, def)
		if err != nil {
			return nil, err
		}
		v.ValidFor = days
		reissued[name] = v
	}
	return reissued, nil
}
