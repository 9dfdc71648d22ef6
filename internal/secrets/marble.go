// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
)

// MarbleInputs say whose secrets to make.
type MarbleInputs struct {
	Manifest         *manifest.Manifest
	MarbleType, UUID string // the UUID in canonical form
	CA               *pki.CA
	// RootSecret and the one before the last rotation, nil without one. 32 bytes.
	RootSecret, PreviousRootSecret []byte
	// Current and Previous are the names wanted, of .Secrets and .Previous.Secrets; stored ones are passed over.
	Current, Previous []string
	Now               time.Time
	Rand              io.Reader
}

// GenerateForMarble returns the secrets among those wanted that are made per Marble. The previous value of a symmetric
// key derives from the previous root secret, or from the current one if there was no rotation; that of a certificate is
// a fresh one (manifest §13.5, quirk Q19).
func GenerateForMarble(ctx context.Context, in MarbleInputs) (current, previous map[string]Value, err error) {
	if current, err = in.generate(ctx, in.Current, in.RootSecret); err != nil {
		return nil, nil, err
	}
	root := in.PreviousRootSecret
	if root == nil {
		root = in.RootSecret
	}
	if previous, err = in.generate(ctx, in.Previous, root); err != nil {
		return nil, nil, fmt.Errorf("previous value of %w", err)
	}
	return current, previous, nil
}

func (in MarbleInputs) generate(ctx context.Context, names []string, root []byte) (map[string]Value, error) {
	info := in.MarbleType
	if in.Manifest.Marbles[in.MarbleType].DisableSecretBinding {
		info = ""
	}
	g := generator{ca: in.CA, now: in.Now, rand: in.Rand, newKey: newKey}
	values := make(map[string]Value, len(names))
	for _, name := range names {
		def, ok := in.Manifest.Secrets[name]
		if !ok || def.Shared || def.UserDefined {
			continue
		}
		var v Value
		var err error
		if def.Type == manifest.TypeSymmetricKey {
			v, err = derived(root, in.UUID, name, info, def)
		} else {
			v, err = g.one(ctx, name, def)
		}
		if err != nil {
			return nil, err
		}
		values[name] = v
	}
	return values, nil
}

func derived(root []byte, id, name, info string, def manifest.Secret) (Value, error) {
	key, err := Derive(root, id, name, info, def.Size)
	if err != nil {
		return Value{}, fmt.Errorf("secret %q: %w", name, err)
	}
	v := Empty(def)
	v.Private, v.Public = key, key
	return v, nil
}
