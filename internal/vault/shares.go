// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/vault/statedir"
)

const labelShares = "marblerun/vault/shares/v1"

// sharesAAD binds the shares to the state that they are to open: label ‖ 0 ‖ header.
func sharesAAD(f *statedir.Found) []byte { return append([]byte(labelShares+"\x00"), f.Raw...) }

// locked returns what lies in the directory in phase Sealed.
func (v *Vault) locked() (*statedir.Found, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, journal.ErrClosed
	}
	if v.phase != Sealed {
		return nil, fmt.Errorf("%w: the vault is %s", ErrPhase, v.phase)
	}
	return v.found, nil
}

// SaveShares keeps recovery shares collected so far over a restart, sealed
// with this program's unique key. ErrNoSealer: the TEE has none, so they must
// stay in memory. Create and Recover delete them.
func (v *Vault) SaveShares(ctx context.Context, shares []byte) error {
	f, err := v.locked()
	if err != nil {
		return fmt.Errorf("storing recovery shares: %w", err)
	}
	if v.cfg.Sealers.Unique == nil {
		return fmt.Errorf("storing recovery shares: %w", ErrNoSealer)
	}
	data, err := v.cfg.Sealers.Unique.Seal(ctx, shares, sharesAAD(f))
	if err != nil {
		return fmt.Errorf("sealing recovery shares: %w", err)
	}
	return v.dir.WriteShares(data)
}

// LoadShares returns what SaveShares stored for this state. Nil without an
// error: nothing. An error: there are shares that cannot be opened here, from
// another program, machine or state; they are of no use any more.
func (v *Vault) LoadShares(ctx context.Context) ([]byte, error) {
	f, err := v.locked()
	if err != nil {
		return nil, fmt.Errorf("loading recovery shares: %w", err)
	}
	data, err := v.dir.ReadShares()
	if err != nil || data == nil {
		return nil, err
	}
	if v.cfg.Sealers.Unique == nil {
		return nil, fmt.Errorf("loading recovery shares: %w", ErrNoSealer)
	}
	shares, err := v.cfg.Sealers.Unique.Unseal(ctx, data, sharesAAD(f))
	if err != nil {
		return nil, fmt.Errorf("opening recovery shares: %w", err)
	}
	return shares, nil
}

// DropShares deletes the stored shares, durably.
func (v *Vault) DropShares(context.Context) error { return v.dir.Remove(statedir.Shares) }
