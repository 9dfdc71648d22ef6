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

// RotateShared returns new values for the named secrets, which must be shared and generated: a new random key, or a new
// key with a certificate from the manifest's template and a new period of validity. The error is about the first name
// that has none.
func RotateShared(
	ctx context.Context, m *manifest.Manifest, ca *pki.CA, names []string, now time.Time, rand io.Reader,
) (map[string]Value, error) {
	g := generator{ca: ca, now: now, rand: rand, newKey: newKey}
	rotated := make(map[string]Value, len(names))
	for _, name := range names {
		def, ok := m.Secrets[name]
		if !ok || !def.Shared || def.UserDefined {
			return nil, fmt.Errorf("secret %q is not a shared secret that is generated", name)
		}
		v, err := g.one(ctx, name, def)
		if err != nil {
			return nil, err
		}
		rotated[name] = v
	}
	return rotated, nil
}
