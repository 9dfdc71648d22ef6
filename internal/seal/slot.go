// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"fmt"
	"io"
)

// Kind says who can open a slot.
type Kind string

// The kinds of this program. Others are kept as they are.
const (
	Product  Kind = "product"
	Unique   Kind = "unique"
	Recovery Kind = "recovery"
)

// Known reports whether this program can write slots of the kind.
func (k Kind) Known() bool { return k == Product || k == Unique || k == Recovery }

// Slot is one wrapped copy of a data key.
type Slot struct {
	Kind   Kind   `json:"kind"`
	Sealer string `json:"sealer,omitempty"` // name of the sealer, for people
	Data   []byte `json:"data"`             // the sealer's format
}

const labelSlot = "marblerun/seal/slot/v1"

// slotAAD binds a slot to its journal, epoch and kind: place ‖ kind.
func slotAAD(kind Kind, id ID, epoch uint64) []byte {
	return append(place(labelSlot, id, epoch), kind...)
}

// Wrap seals the data key of an epoch with a sealer.
func Wrap(ctx context.Context, s Sealer, kind Kind, key Key, id ID, epoch uint64) (Slot, error) {
	data, err := s.Seal(ctx, key[:], slotAAD(kind, id, epoch))
	if err != nil {
		return Slot{}, fmt.Errorf("sealing the %s slot with %s: %w", kind, s.Name(), err)
	}
	return Slot{Kind: kind, Sealer: s.Name(), Data: data}, nil
}

// Unwrap opens a slot with a sealer.
func Unwrap(ctx context.Context, s Sealer, slot Slot, id ID, epoch uint64) (Key, error) {
	plaintext, err := s.Unseal(ctx, slot.Data, slotAAD(slot.Kind, id, epoch))
	if err != nil {
		return Key{}, fmt.Errorf("opening the %s slot of %q with %s: %w", slot.Kind, slot.Sealer, s.Name(), err)
	}
	return asKey(plaintext)
}

// WrapRecovery seals the data key of an epoch with HKDF(R), R being the recovery secret of 32 bytes.
func WrapRecovery(random io.Reader, secret []byte, key Key, id ID, epoch uint64) (Slot, error) {
	r, err := asKey(secret)
	if err != nil {
		return Slot{}, fmt.Errorf("recovery secret: %w", err)
	}
	data, err := NewCipher(r, purposeRecovery, random).Seal(nil, key[:], slotAAD(Recovery, id, epoch))
	if err != nil {
		return Slot{}, fmt.Errorf("sealing the recovery slot: %w", err)
	}
	return Slot{Kind: Recovery, Data: data}, nil
}

// UnwrapRecovery opens a recovery slot with R. ErrWrongKey: R is not the secret of this epoch.
func UnwrapRecovery(secret []byte, slot Slot, id ID, epoch uint64) (Key, error) {
	r, err := asKey(secret)
	if err != nil {
		return Key{}, fmt.Errorf("%w: a recovery secret has %d bytes", ErrWrongKey, KeySize)
	}
	plaintext, err := NewCipher(r, purposeRecovery, nil).Open(nil, slot.Data, slotAAD(Recovery, id, epoch))
	if err != nil {
		return Key{}, fmt.Errorf("opening the recovery slot: %w", err)
	}
	return asKey(plaintext)
}

func asKey(b []byte) (Key, error) {
	if len(b) != KeySize {
		return Key{}, fmt.Errorf("%w: a key of %d bytes instead of %d", ErrMalformed, len(b), KeySize)
	}
	return Key(b), nil
}
