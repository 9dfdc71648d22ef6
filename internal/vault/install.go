// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/file"
	"github.com/marblerun/marblerun/internal/journal/mem"
	"github.com/marblerun/marblerun/internal/journal/sealed"
	"github.com/marblerun/marblerun/internal/seal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

// plan is a journal that is to take the place of the present one.
type plan struct {
	next   *epoch
	image  journal.Image
	bodies func(*sealed.Cursor) iter.Seq2[[]byte, error] // moves the cursor along
	// retire: the present journal is another one, or goes out of use; set it aside.
	retire bool
}

// install puts a journal in place and makes it the current one. In files the order is
//
//  1. sealed_key with the old slots and the new ones
//  2. sealed_data replaced: from here on the change has happened
//  3. sealed_key with the new slots only, and a watermark
//
// so that a crash between any two steps leaves a pair that opens. The caller
// holds v.swap and v.writing.
func (v *Vault) install(ctx context.Context, p plan) error {
	v.keys.Lock()
	defer v.keys.Unlock()
	at := sealed.StartCursor(p.image)
	if !p.next.Persistent() {
		p.next.Driver = new(mem.Driver)
		if err := p.next.Driver.Replace(ctx, p.image, p.bodies(&at)); err != nil {
			return err
		}
		if p.retire {
			if err := v.retireFiles(); err != nil {
				return v.check(err)
			}
		}
		v.adopt(p.next, at)
		return nil
	}
	if p.retire {
		dataID, keyID := v.owners()
		err := errors.Join(v.dir.CopyAside(statedir.Data, dataID), v.dir.CopyAside(statedir.Key, keyID))
		if err != nil {
			return v.check(err)
		}
	}
	before := v.stored
	entry, err := p.next.entry(nil)
	if err != nil {
		return err
	}
	if err := v.writeKeys(withEntry(before, entry)); err != nil {
		return v.check(err)
	}
	p.next.Driver = file.New(v.cfg.FS, v.dir.Path(statedir.Data))
	if err := p.next.Driver.Replace(ctx, p.image, p.bodies(&at)); err != nil {
		return errors.Join(v.check(err), v.restoreKeys(err, before), p.next.Driver.Close())
	}
	v.adopt(p.next, at)
	v.warn(v.writeMark(), "Removing the old slots from sealed_key failed; the next watermark does it")
	return nil
}

// restoreKeys takes step 1 back after step 2 failed with nothing changed.
func (v *Vault) restoreKeys(cause error, before []seal.EpochKeys) error {
	if errors.Is(cause, ErrBroken) {
		return nil
	}
	if len(before) == 0 {
		v.stored = nil
		return v.dir.Remove(statedir.Key)
	}
	return v.writeKeys(before)
}

// retireFiles takes the files out of use for seal mode Disabled. Moving
// sealed_data is the moment of the change. If the journal goes on in memory, the
// key set aside has no TEE slots: only R opens the old files. If it is another
// journal that is dropped, its key is kept whole.
func (v *Vault) retireFiles() error {
	dataID, keyID := v.owners()
	if err := v.dir.MoveAside(statedir.Data, dataID); err != nil {
		return err
	}
	var err error
	if v.epoch == nil {
		err = v.dir.MoveAside(statedir.Key, keyID)
	} else {
		err = v.dir.StripKeyAside(keyID, v.stored)
	}
	v.stored = nil
	v.warn(err, "Setting sealed_key aside failed. Remove it by hand")
	return nil
}

// owners names the journals to which the two files belong.
func (v *Vault) owners() (data, key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.found != nil {
		return v.found.ID, v.found.KeyID
	}
	id := v.epoch.Journal.String()
	return id, id
}

// Genesis is the beginning of a journal.
type Genesis struct {
	SealMode       string // "ProductKey", "UniqueKey", "Disabled"; empty: ProductKey
	RecoverySecret []byte // R, 32 bytes; nil: no recovery
	RecoveryMeta   []byte // readable by everybody; what Boot.Recovery returns in phase Sealed
	Record         []byte // record 1
}

// Create starts a new journal: Fresh or Sealed → Ready. Old state is set aside
// first. On an error the vault is as it was. With SealMode Disabled nothing is
// written, and the journal lives as long as the process.
func (v *Vault) Create(ctx context.Context, g Genesis) error {
	v.swap.Lock()
	defer v.swap.Unlock()
	v.writing.Lock()
	defer v.writing.Unlock()
	if err := v.notReady(); err != nil {
		return fmt.Errorf("creating a journal: %w", err)
	}
	next, err := v.firstEpoch(ctx, g)
	if err != nil {
		return fmt.Errorf("creating a journal: %w", err)
	}
	nothing, err := new(mem.Driver).Reader()
	if err != nil {
		return err
	}
	p := plan{
		next: next, image: next.Image(0, 1, journal.Hash{}, nil),
		bodies: next.Carry(ctx, nothing, next.Epoch, g.Record), retire: true,
	}
	if err := v.install(ctx, p); err != nil {
		return fmt.Errorf("creating a journal: %w", err)
	}
	v.warn(v.DropShares(ctx), "Deleting the recovery shares failed")
	return nil
}

func (v *Vault) firstEpoch(ctx context.Context, g Genesis) (*epoch, error) {
	if g.Record == nil {
		return nil, errors.New("there is no first record")
	}
	id, err := seal.NewID(v.cfg.Rand)
	if err != nil {
		return nil, err
	}
	h := sealed.Header{Journal: id, Number: 1, SealMode: g.SealMode, Recovery: g.RecoveryMeta}
	return v.freshKey(ctx, h, g.RecoverySecret)
}

// freshKey returns an epoch with a new data key.
func (v *Vault) freshKey(ctx context.Context, h sealed.Header, secret []byte) (*epoch, error) {
	key, err := seal.NewKey(v.cfg.Rand)
	if err != nil {
		return nil, err
	}
	h.Slots, err = v.recoverySlots(secret, key, h.Journal, h.Number)
	if err != nil {
		return nil, err
	}
	return v.newEpoch(ctx, h, key, nil)
}

func (v *Vault) notReady() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.closed:
		return journal.ErrClosed
	case v.broken != nil:
		return v.broken
	case v.phase == Ready:
		return fmt.Errorf("%w: the vault is %s", ErrPhase, v.phase)
	}
	return nil
}
