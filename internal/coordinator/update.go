// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/internal/secrets"
	"github.com/marblerun/marblerun/manifest"
)

// errUpdatePending and errNoUpdate are texts of client-api.md §5.
func errUpdatePending() error {
	return refuse(Invalid,
		"update already in progress. Acknowledge the update to apply it, or cancel it to start a new one")
}

func errNoUpdate() error { return refuse(NoUpdate, "no update in progress") }

// Update submits a package update, which applies at once, or a full update, which applies with its last acknowledgement
// (manifest.md §13).
func (c *Coordinator) Update(ctx context.Context, user string, data []byte) (UpdateResult, error) {
	c.log.Info("UpdateManifest called", "user", user)
	k, err := c.running()
	if err != nil {
		return UpdateResult{}, err
	}
	update, err := manifest.Parse(data)
	if err != nil {
		return UpdateResult{}, refuse(Invalid, "unmarshaling manifest: %w", err)
	}
	release, err := c.settle(ctx)
	if err != nil {
		return UpdateResult{}, err
	}
	defer release()
	if update.UpdateKind() == manifest.PackageUpdate {
		return UpdateResult{}, c.updatePackages(ctx, k, user, update)
	}
	return c.proposeUpdate(ctx, k, user, data)
}

// updatePackages raises security versions.
func (c *Coordinator) updatePackages(ctx context.Context, k *kernel, user string, update *manifest.Manifest) error {
	names := slices.Sorted(maps.Keys(update.Packages))
	_, err := k.propose(ctx, user, func(s *State) (decision, error) {
		if s.pending != nil {
			return nil, errUpdatePending()
		}
		if len(names) == 0 {
			return nil, refuse(Invalid, "invalid manifest: the update names no packages")
		}
		m := s.manifest.manifest
		if err := permit(m, user, manifest.ResourcePackages, manifest.ActionUpdateSecurityVersion, names...); err != nil {
			return nil, err
		}
		if problems := manifest.CheckPackageUpdate(m, update).Errors(); len(problems) > 0 {
			return nil, refuse(Invalid, "invalid manifest: %w", problems)
		}
		e, err := c.preparePackages(ctx, s, update)
		if err != nil {
			return nil, err
		}
		return unlessChanged(s, e, nil), nil
	})
	if err != nil {
		return err
	}
	c.log.Info("UpdateManifest successful", "user", user)
	c.log.Info("Please restart your Marbles to enforce the update.")
	return nil
}

func (c *Coordinator) preparePackages(ctx context.Context, s *State, update *manifest.Manifest) (*packagesUpdated, error) {
	ca, err := s.ca.Rotate(c.cfg.Now(), c.cfg.Rand)
	if err != nil {
		return nil, refuse(Internal, "rotating intermediate CA: %w", err)
	}
	reissued, err := secrets.ReissueShared(ctx, s.manifest.manifest, ca, s.plainStored(), c.cfg.Now(), c.cfg.Rand)
	if err != nil {
		return nil, refuse(Internal, "re-issuing shared certificates: %w", err)
	}
	marshaled, err := ca.Marshal()
	if err != nil {
		return nil, refuse(Internal, "%w", err)
	}
	versions := make(map[string]uint, len(update.Packages))
	for name, p := range update.Packages {
		versions[name] = *p.SecurityVersion
	}
	return &packagesUpdated{Versions: versions, CA: marshaled, Reissued: reissued, ca: ca}, nil
}

// unlessChanged writes the events if neither manifest, CA nor pending update changed since s, and no secret was
// rotated.
func unlessChanged(s *State, e event, epoch *epochChange, before ...event) decision {
	read, pending, rotations := s.generations, s.pending, s.rotations
	return func(now *State) (outcome, error) {
		if now.generations != read || now.pending != pending || now.rotations != rotations {
			return outcome{}, errStale
		}
		return outcome{events: append(slices.Clone(before), e), epoch: epoch}, nil
	}
}

// proposeUpdate submits a full update. All that can be checked now is checked now.
func (c *Coordinator) proposeUpdate(ctx context.Context, k *kernel, user string, data []byte) (UpdateResult, error) {
	var recoverySecrets map[string][]byte
	s, err := k.propose(ctx, user, func(s *State) (decision, error) {
		if s.pending != nil {
			return nil, errUpdatePending()
		}
		m := s.manifest.manifest
		if err := permit(m, user, manifest.ResourceManifest, manifest.ActionUpdateManifest); err != nil {
			return nil, err
		}
		e, epoch, err := c.prepareUpdate(ctx, s, data)
		if err != nil {
			return nil, err
		}
		proposed := &updateProposed{Update: pendingUpdate{
			Manifest: data, Eligible: m.Updaters(), Required: m.RequiredAcknowledgments(), Acknowledged: []string{user},
		}}
		if proposed.Update.missingCount() > 0 {
			return unlessChanged(s, proposed, nil), nil
		}
		recoverySecrets = newRecoverySecrets(e)
		return unlessChanged(s, e, epoch, proposed), nil
	})
	if err != nil {
		return UpdateResult{}, err
	}
	return c.updateResult(s, recoverySecrets, user), nil
}

// updateResult tells what is missing after a submission or acknowledgement whose effects are in s.
func (c *Coordinator) updateResult(s *State, recoverySecrets map[string][]byte, user string) UpdateResult {
	if s.pending == nil {
		c.log.Info("UpdateManifest successful", "user", user)
		c.log.Info("Please restart your Marbles to enforce the update.")
		return UpdateResult{RecoverySecrets: recoverySecrets}
	}
	missing := s.pending.missingCount()
	c.log.Info("UpdateManifest successful. Waiting for acknowledgments to apply the update",
		"user", user, "missingAcknowledgments", missing)
	return UpdateResult{MissingAcknowledgments: missing, MissingUsers: s.pending.missing()}
}

func newRecoverySecrets(e *updateApplied) map[string][]byte {
	if e.Recovery == nil {
		return nil
	}
	return e.Recovery.Secrets
}

// PendingUpdate returns the full update that waits for acknowledgements.
func (c *Coordinator) PendingUpdate() (PendingUpdate, error) {
	k := c.phase.Load().kernel
	if k == nil {
		return PendingUpdate{}, errNoUpdate()
	}
	p := k.state.Load().pending
	if p == nil {
		return PendingUpdate{}, errNoUpdate()
	}
	return PendingUpdate{
		Manifest: p.Manifest, MissingAcknowledgments: p.missingCount(), MissingUsers: p.missing(),
	}, nil
}

// Acknowledge is a user's consent to the pending update, by sending the same bytes. The last one needed applies it.
func (c *Coordinator) Acknowledge(ctx context.Context, user string, data []byte) (UpdateResult, error) {
	c.log.Info("Received update acknowledgement", "user", user)
	k, err := c.running()
	if err != nil {
		return UpdateResult{}, err
	}
	release, err := c.settle(ctx)
	if err != nil {
		return UpdateResult{}, err
	}
	defer release()
	var recoverySecrets map[string][]byte
	s, err := k.propose(ctx, user, func(s *State) (decision, error) {
		e, epoch, err := c.prepareAcknowledgement(ctx, s, user, data)
		if err != nil {
			return nil, err
		}
		acknowledged := &updateAcknowledged{User: user}
		switch {
		case slices.Contains(s.pending.Acknowledged, user):
			return func(now *State) (outcome, error) {
				if now.pending != s.pending {
					return outcome{}, errStale // canceled meanwhile: that is not "applied"
				}
				return outcome{}, nil
			}, nil
		case e == nil:
			return unlessChanged(s, acknowledged, nil), nil
		}
		recoverySecrets = newRecoverySecrets(e)
		return unlessChanged(s, e, epoch, acknowledged), nil
	})
	if err != nil {
		return UpdateResult{}, err
	}
	return c.updateResult(s, recoverySecrets, user), nil
}

// prepareAcknowledgement checks the acknowledgement, and prepares the update if it is the last one needed.
func (c *Coordinator) prepareAcknowledgement(ctx context.Context, s *State, user string, data []byte,
) (*updateApplied, *epochChange, error) {
	p := s.pending
	switch {
	case p == nil:
		return nil, nil, errNoUpdate()
	case !slices.Contains(p.Eligible, user):
		return nil, nil, refuse(Forbidden, "user %s is not allowed to acknowledge manifest updates", user)
	case !bytes.Equal(p.Manifest, data):
		return nil, nil, refuse(Invalid, "provided manifest does not match the pending manifest")
	case slices.Contains(p.Acknowledged, user) || p.missingCount() > 1:
		return nil, nil, nil
	}
	c.log.Info("All users have acknowledged the update manifest, applying update")
	e, epoch, err := c.prepareUpdate(ctx, s, data)
	if err != nil && ctx.Err() == nil {
		c.cancelFailed(ctx, s)
	}
	return e, epoch, err
}

// cancelFailed removes a pending update that could not be applied.
func (c *Coordinator) cancelFailed(ctx context.Context, s *State) {
	k, err := c.running()
	if err == nil {
		_, err = k.submit(ctx, "", unlessChanged(s, &updateCanceled{}, nil))
	}
	if err != nil {
		c.log.Error("Removing the update that could not be applied failed", "error", err)
	}
}

// CancelUpdate drops the pending update.
func (c *Coordinator) CancelUpdate(ctx context.Context, user string) error {
	k, err := c.running()
	if err != nil {
		return err
	}
	_, err = k.submit(ctx, user, func(s *State) (outcome, error) {
		if err := permit(s.manifest.manifest, user, manifest.ResourceManifest, manifest.ActionUpdateManifest); err != nil {
			return outcome{}, err
		}
		if s.pending == nil {
			return outcome{}, errNoUpdate()
		}
		return outcome{events: []event{&updateCanceled{User: user}}}, nil
	})
	if err == nil {
		c.log.Info("Manifest update canceled", "user", user)
	}
	return err
}
