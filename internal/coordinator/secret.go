// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// ReadSecrets returns the named secrets to a user who may read all of them (client-api.md §8).
func (c *Coordinator) ReadSecrets(_ context.Context, user string, names []string) (map[string]wire.Secret, error) {
	k, err := c.running()
	if err != nil {
		return nil, err
	}
	s := k.state.Load()
	if err := permit(s.manifest.manifest, user, manifest.ResourceSecrets, manifest.ActionReadSecret, names...); err != nil {
		return nil, err
	}
	out := make(map[string]wire.Secret, len(names))
	for _, name := range names {
		v := s.stored.Value(name)
		out[name] = wire.Secret{
			Type: v.Type, Size: v.Size, Shared: v.Shared, UserDefined: v.UserDefined, Cert: v.Cert,
			ValidFor: v.ValidFor, Private: v.Private, Public: v.Public,
		}
	}
	return out, nil
}

// WriteSecrets stores user-defined secrets, all or none. Templates are executed with the new values before.
func (c *Coordinator) WriteSecrets(ctx context.Context, user string, values map[string]wire.UserSecret) error {
	k, err := c.running()
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return refuse(Invalid, "no secrets to set").hint(`send a map of secret names, e.g. {"token":{"Key":"…"}}`)
	}
	_, err = k.propose(ctx, user, func(s *State) (decision, error) {
		written, err := c.prepareSecrets(ctx, s, user, values)
		if err != nil {
			return nil, err
		}
		read := s.generations.Manifest
		return func(s *State) (outcome, error) {
			if s.generations.Manifest != read {
				return outcome{}, errStale
			}
			number := s.secretLineCount + uint64(len(written))
			return outcome{events: []event{&secretsWritten{Number: number, Secrets: written}}}, nil
		}, nil
	})
	return err
}

// prepareSecrets checks and converts uploaded values.
func (c *Coordinator) prepareSecrets(ctx context.Context, s *State, user string, values map[string]wire.UserSecret,
) (map[string]secrets.Value, error) {
	m := s.manifest.manifest
	written := make(map[string]secrets.Value, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		def, ok := m.Secrets[name]
		if !ok || !def.UserDefined {
			return nil, refuse(Invalid, "secret %q is not a user-defined secret of the manifest", name)
		}
		v, err := userValue(def, values[name])
		if err != nil {
			return nil, refuse(Invalid, "secret %q: %w", name, err)
		}
		written[name] = v
	}
	if err := c.dryRunWritten(ctx, s.manifest, written); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(values))
	return written, permit(m, user, manifest.ResourceSecrets, manifest.ActionWriteSecret, names...)
}

// dryRunWritten executes the templates that name a written secret, with placeholders for all others.
func (c *Coordinator) dryRunWritten(ctx context.Context, d *deployment, written map[string]secrets.Value) error {
	view, err := secrets.TemplateSecrets(written)
	if err != nil {
		return refuse(Invalid, "running manifest template dry run: %w", err)
	}
	affected := d.compiled.Affected(d.base, slices.Sorted(maps.Keys(written)))
	if problems := affected.DryRun(ctx, view).Errors(); len(problems) > 0 {
		return refuse(Invalid, "running manifest template dry run: %w", problems)
	}
	return nil
}

// userValue checks one uploaded value against its definition.
func userValue(def manifest.Secret, in wire.UserSecret) (secrets.Value, error) {
	v := secrets.Value{Type: def.Type, Size: def.Size, Shared: def.Shared, UserDefined: true, ValidFor: def.ValidFor}
	switch def.Type {
	case manifest.TypeSymmetricKey, manifest.TypePlain:
		if len(in.Cert) > 0 || len(in.Private) > 0 {
			return v, refuse(Invalid, "a secret of type %s takes Key only, not Cert or Private", def.Type)
		}
		if err := checkKey(def, in.Key); err != nil {
			return v, err
		}
		v.Private, v.Public = in.Key, in.Key
		return v, nil
	}
	if len(in.Key) > 0 {
		return v, refuse(Invalid, "a secret of type %s takes Cert and Private, not Key", def.Type)
	}
	if len(in.Cert) == 0 {
		return v, refuse(Invalid, "a secret of type %s needs Cert, base64 of DER", def.Type)
	}
	cert, err := x509.ParseCertificate(in.Cert)
	if err != nil {
		return v, refuse(Invalid, "Cert does not parse: %w", err).hint("Cert is base64 of the DER certificate, without PEM lines")
	}
	v.Cert, v.Public, v.Private = cert.Raw, cert.RawSubjectPublicKeyInfo, in.Private
	return v, nil
}

func checkKey(def manifest.Secret, key []byte) error {
	if def.Type != manifest.TypeSymmetricKey {
		if key == nil { // a misspelled field must not erase the value
			return refuse(Invalid, "a secret of type %s needs Key, base64 of the data", def.Type)
		}
		return nil
	}
	if def.Size == 0 || def.Size%8 != 0 {
		return refuse(Invalid, "its Size in the manifest is %d, not a positive multiple of 8", def.Size)
	}
	if uint(len(key)) != def.Size/8 {
		return refuse(Invalid, "Key has %d bytes, want %d (Size %d bits)", len(key), def.Size/8, def.Size)
	}
	return nil
}
