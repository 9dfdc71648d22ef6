// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"io"
	"reflect"

	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// prepareUpdate makes everything that applying the full update needs: what rotates, what is retained (manifest.md §13.4),
// and how the journal's keys change. It finds every reason for which the update could not be applied.
func (c *Coordinator) prepareUpdate(ctx context.Context, s *State, data []byte) (*updateApplied, *epochChange, error) {
	d, err := c.acceptManifest(ctx, data, s.ca)
	if err != nil {
		return nil, nil, refuse(Invalid, "invalid manifest: %w", err)
	}
	ca, err := s.ca.Rotate(c.cfg.Now(), c.cfg.Rand)
	if err != nil {
		return nil, nil, refuse(Internal, "rotating intermediate CA: %w", err)
	}
	e := &updateApplied{}
	if e.installed, err = install(d, ca); err != nil {
		return nil, nil, refuse(Internal, "%w", err)
	}
	if err := c.prepareValues(ctx, s, e); err != nil {
		return nil, nil, err
	}
	epoch, err := c.prepareEpoch(s, e)
	return e, epoch, err
}

// prepareValues makes the new secrets and executes all templates with them.
func (c *Coordinator) prepareValues(ctx context.Context, s *State, e *updateApplied) error {
	next := e.deployment.base
	rotate := next.Config.RotateRootSecret
	stored := s.plainStored()
	current, previous, err := secrets.UpdateValues(ctx, secrets.Update{
		Old: s.manifest.base, New: next, Current: stored, Previous: s.previous.Plain(),
		Rotate: rotate, CA: e.ca, Now: c.cfg.Now(), Rand: c.cfg.Rand,
	})
	if err != nil {
		return refuse(Invalid, "generating secrets from manifest: %w", err)
	}
	e.Previous, e.Secrets = previous, changedValues(stored, current)
	if err := c.dryRun(ctx, e.deployment, e.ca, current); err != nil {
		return err
	}
	if !rotate {
		return nil
	}
	e.RootSecret = make([]byte, rootSecretSize)
	if _, err := io.ReadFull(c.cfg.Rand, e.RootSecret); err != nil {
		return refuse(Internal, "making root secret: %w", err)
	}
	return nil
}

// changedValues returns the values that differ from what is stored. Only they travel in the event, so that a secret
// written meanwhile is not overwritten by the update.
func changedValues(stored, current map[string]secrets.Value) map[string]secrets.Value {
	changed := map[string]secrets.Value{}
	for name, v := range current {
		if old, ok := stored[name]; !ok || !reflect.DeepEqual(old, v) {
			changed[name] = v
		}
	}
	return changed
}

// prepareEpoch deals a new recovery secret if the recovery keys changed, and follows a change of the seal mode.
func (c *Coordinator) prepareEpoch(s *State, e *updateApplied) (*epochChange, error) {
	old, next := s.manifest.base, e.deployment.base
	if !manifest.RecoveryKeysChanged(old, next) {
		if old.SealMode() == next.SealMode() {
			return nil, nil
		}
		return &epochChange{sealMode: next.SealMode()}, nil
	}
	keys, err := newRecoveryKeys(next, c.cfg.Rand)
	if err != nil {
		return nil, refuse(Invalid, "generating recovery encryption key: %w", err)
	}
	meta, err := json.Marshal(keys.meta)
	if err != nil {
		return nil, refuse(Internal, "%w", err)
	}
	e.Recovery = &recovery{Secrets: keys.encrypted}
	return &epochChange{
		sealMode: next.SealMode(), rekey: true, recoverySecret: keys.secret, recoveryMeta: meta,
	}, nil
}
