// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// Epoch is a change of the recovery secret.
type Epoch struct {
	SealMode       string // of the new epoch; empty: ProductKey
	RecoverySecret []byte // the new R, 32 bytes; nil: no recovery
	RecoveryMeta   []byte
	Position       uint64 // of Record: one after the last
	State          []byte // after Record
	Record         []byte
}

// Rekey starts a new epoch: a new data key, wrapped for the new R, and a new
// file in which everything retained is sealed again, the record of the change
// included. What was readable with the old R stays so in old copies of the
// files; nothing written from now on is. Called by the writer; durable on return.
func (v *Vault) Rekey(ctx context.Context, c Epoch) error {
	next := func(cur *epoch) (*epoch, error) {
		h := sealed.Header{Journal: cur.Journal, Number: cur.Number + 1, SealMode: c.SealMode, Recovery: c.RecoveryMeta}
		return v.freshKey(ctx, h, c.RecoverySecret)
	}
	if err := v.change(ctx, next, c.Position, c.State, c.Record); err != nil {
		return fmt.Errorf("starting a new epoch: %w", err)
	}
	return nil
}

// SetSealMode changes who can open the journal without R, and stores the
// record of that change. Position is the record's, one after the last, and
// state is the state after it. From Disabled it writes files; to Disabled it
// sets them aside, without the TEE's slots. Called by the writer; in effect and
// durable on return.
func (v *Vault) SetSealMode(ctx context.Context, mode string, position uint64, state, record []byte) error {
	next := func(cur *epoch) (*epoch, error) {
		h := cur.Header
		h.SealMode = mode
		return v.newEpoch(ctx, h, cur.Key, cur.tee)
	}
	if err := v.change(ctx, next, position, state, record); err != nil {
		return fmt.Errorf("changing the seal mode: %w", err)
	}
	return nil
}

func (v *Vault) change(
	ctx context.Context, successor func(*epoch) (*epoch, error), position uint64, state, record []byte,
) error {
	v.swap.Lock()
	defer v.swap.Unlock()
	v.writing.Lock()
	defer v.writing.Unlock()
	if err := v.writable(); err != nil {
		return err
	}
	cur, at, r, err := v.view()
	if err != nil {
		return err
	}
	defer r.Close()
	if record == nil {
		return errors.New("there is no record of the change")
	}
	if position != at.Last+1 {
		return fmt.Errorf("%w: record %d does not follow record %d", ErrConflict, position, at.Last)
	}
	next, err := successor(cur)
	if err != nil {
		return err
	}
	return v.install(ctx, plan{
		next: next, image: next.Image(position, at.First, at.Anchor, state),
		bodies: cur.Carry(ctx, r, next.Epoch, record), retire: cur.Persistent() != next.Persistent(),
	})
}

// Recover opens sealed state with the recovery secret: Sealed → Ready. The
// slots for this machine's TEE are sealed at once. State that is older than
// sealed_key, or comes from another kind of TEE, continues in a new epoch with
// the same R. On an error the vault is as it was, and another secret may be
// tried. Durable on return.
func (v *Vault) Recover(ctx context.Context, secret []byte) error {
	return v.RecoverIf(ctx, secret, func(Replayer) error { return nil })
}

// Replayer gives back what is stored, like Replay.
type Replayer func(state func([]byte) error, record func(Record) error) error

// RecoverIf is Recover with a condition on what is recovered. accept is called
// with the right secret before anything is written; if it fails, the vault
// stays sealed and its error is returned.
func (v *Vault) RecoverIf(ctx context.Context, secret []byte, accept func(Replayer) error) error {
	v.swap.Lock()
	defer v.swap.Unlock()
	v.writing.Lock()
	defer v.writing.Unlock()
	if err := v.notReady(); err != nil {
		return fmt.Errorf("recovering: %w", err)
	}
	v.mu.Lock()
	f := v.found
	v.mu.Unlock()
	if err := v.recoverable(f); err != nil {
		return err
	}
	if err := v.recover(ctx, f, secret, accept); err != nil {
		return v.check(fmt.Errorf("recovering: %w", err))
	}
	v.warn(v.DropShares(ctx), "Deleting the recovery shares failed")
	return nil
}

func (v *Vault) recoverable(f *statedir.Found) error {
	_, slot := f.Header.RecoverySlot()
	switch {
	case !f.Data:
		return fmt.Errorf("%w: there is no state", ErrPhase)
	case f.Raw == nil:
		return fmt.Errorf("%w: %s", ErrNoRecovery, f.Reason)
	case v.cfg.TEE != Simulation && f.Header.TEE == Simulation:
		return fmt.Errorf("%w: %s", ErrNoRecovery, f.Reason)
	case !slot:
		return fmt.Errorf("%w: its manifest has no recovery keys", ErrNoRecovery)
	}
	return nil
}
