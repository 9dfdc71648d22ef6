// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// secretsRotated replaces generated shared secrets without an update of the manifest.
type secretsRotated struct {
	Secrets map[string]secrets.Value `json:"secrets"`
}

func (*secretsRotated) kind() string   { return "secrets-rotated" }
func (*secretsRotated) resolve() error { return nil }

func (e *secretsRotated) apply(d *State, at moment) {
	d.rotations++
	for _, name := range slices.Sorted(maps.Keys(e.Secrets)) {
		d.previous = d.previous.With(name, d.stored.Value(name).Value)
		d.addLine(at, line(at.time, "Secret rotated",
			field{"user", at.actor}, field{"secret", name}, field{"type", e.Secrets[name].Type}))
	}
	d.stored = storeAll(d.stored, e.Secrets, at.position)
}

// RotateSecrets gives shared secrets that the Coordinator generated new values, all or none, and returns their names,
// sorted. The values before become those of .Previous. Additive: MarbleRun needs a manifest update for that.
func (c *Coordinator) RotateSecrets(ctx context.Context, user string, names []string) ([]string, error) {
	k, err := c.running()
	if err != nil {
		return nil, err
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	if len(names) == 0 {
		return nil, refuse(BadRequest, "no secrets to rotate").hint(`send a list of secret names, e.g. {"secrets":["key"]}`)
	}
	_, err = k.propose(ctx, user, func(s *State) (decision, error) {
		e, err := c.prepareRotation(ctx, s, user, names)
		if err != nil {
			return nil, err
		}
		return e.unlessChanged(s), nil
	})
	if err != nil {
		return nil, err
	}
	c.log.Info("Secrets rotated", "user", user, "secrets", names)
	c.log.Info("Please restart your Marbles to give them the new secrets.")
	return names, nil
}

// prepareRotation makes the new values and executes the templates that use them.
func (c *Coordinator) prepareRotation(ctx context.Context, s *State, user string, names []string,
) (*secretsRotated, error) {
	m := s.manifest.manifest
	if err := permit(m, user, manifest.ResourceSecrets, manifest.ActionRotateSecret, names...); err != nil {
		return nil, err
	}
	slow := slices.ContainsFunc(names, func(n string) bool { return m.Secrets[n].Type == manifest.TypeCertRSA })
	release, err := c.acquireKeyWork(ctx, slow)
	if err != nil {
		return nil, err
	}
	defer release()
	values, err := secrets.RotateShared(ctx, m, s.ca, names, c.cfg.Now(), c.cfg.Rand)
	if err != nil {
		return nil, refuse(Invalid, "rotating secrets: %w", err)
	}
	return &secretsRotated{Secrets: values}, c.dryRunWritten(ctx, s.manifest, values)
}

// unlessChanged writes the event if neither manifest, CA nor the values that it replaces changed since s.
func (e *secretsRotated) unlessChanged(s *State) decision {
	return func(now *State) (outcome, error) {
		if now.generations.Manifest != s.generations.Manifest || now.generations.CA != s.generations.CA {
			return outcome{}, errStale
		}
		for name := range e.Secrets {
			if now.stored.Value(name).Version != s.stored.Value(name).Version {
				return outcome{}, errStale
			}
		}
		return outcome{events: []event{e}}, nil
	}
}
