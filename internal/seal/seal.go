// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package seal is the key hierarchy: one data key per epoch of a journal, and
// slots that each hold a wrapped copy of it.
//
//	data key ──HKDF──► record, snapshot and watermark keys (Cipher)
//	   ▲ wrapped once per slot
//	   ├── product   TEE key that survives updates of the program   (Sealer)
//	   ├── unique    TEE key of exactly this program                (Sealer)
//	   └── recovery  HKDF(recovery secret R)
//
// Whoever can open one slot can open the journal. Another way to unseal (a
// cloud KMS, an attested peer) is another Sealer and another slot kind, nothing
// else: kinds that a program does not know are kept and passed over.
//
// The slots of this machine's TEE live in the file sealed_key (KeyFile), all
// others in the header of the journal.
//
// Invariants: a key never leaves a slot but in memory; everything sealed is
// bound to a purpose and to additional data that names the journal and the
// epoch; no nonce follows from a position, so that a position written twice
// (torn tail, restored backup, forked replica) repeats none.
package seal

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Errors that a caller tells apart.
var (
	// ErrWrongKey: the key, or the additional data, is not the one that was used for sealing; or the
	// sealed bytes were changed. Authenticated encryption cannot tell these apart.
	ErrWrongKey = errors.New("it does not open with this key")
	// ErrMalformed: the bytes have not the expected format.
	ErrMalformed = errors.New("malformed")
)

// KeySize is the length of the data key and of the recovery secret R, in bytes.
const KeySize = 32

// Key is a data key or a recovery secret. It prints as its type, never as its value.
type Key [KeySize]byte

// String hides the key from logs and errors.
func (Key) String() string { return "seal.Key" }

// GoString hides the key from %#v.
func (Key) GoString() string { return "seal.Key" }

// NewKey draws a key.
func NewKey(random io.Reader) (Key, error) {
	var k Key
	if _, err := io.ReadFull(random, k[:]); err != nil {
		return Key{}, fmt.Errorf("drawing a key: %w", err)
	}
	return k, nil
}

// ID names a journal: 16 random bytes, written as 32 hex digits.
type ID [16]byte

// NewID draws an id.
func NewID(random io.Reader) (ID, error) {
	var id ID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return ID{}, fmt.Errorf("drawing a journal id: %w", err)
	}
	return id, nil
}

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText accepts exactly 32 lower-case hex digits: the id becomes part of file names.
func (id *ID) UnmarshalText(text []byte) error {
	n, err := hex.Decode(id[:], text[:min(len(text), 2*len(id))])
	if err != nil || n != len(id) || id.String() != string(text) {
		return fmt.Errorf("%w: journal id", ErrMalformed)
	}
	return nil
}

// Sealer wraps the data key with a key that only this TEE, this machine or
// some service can use. Sealed bytes are the sealer's own format and may carry
// what it needs later (security version, key name and version, nonce).
type Sealer interface {
	// Name says which sealer this is, for people, such as "simulation-product". It is stored beside the slot.
	Name() string
	// Seal protects plaintext (at most 64 bytes) and binds it to aad.
	Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error)
	// Unseal is the inverse. ErrWrongKey: sealed elsewhere, for something else, or changed.
	Unseal(ctx context.Context, sealed, aad []byte) ([]byte, error)
}

// Sealers are those of this process. Nil: this TEE cannot do it.
type Sealers struct {
	Product Sealer // the key survives updates of the program (same signer and product, not an older version)
	Unique  Sealer // the key belongs to exactly this program
}

// For returns the sealer of a slot kind, nil if there is none.
func (s Sealers) For(kind Kind) Sealer {
	switch kind {
	case Product:
		return s.Product
	case Unique:
		return s.Unique
	}
	return nil
}

// Simulation returns sealers that protect nothing: their keys are constants in
// this source file. They exist so that a Coordinator without a TEE follows the
// same paths. TEE kind "simulation" in the journal's header marks such state.
func Simulation() Sealers {
	return Sealers{Product: simulation("simulation-product"), Unique: simulation("simulation-unique")}
}

// SimulationPrefix begins the name of every sealer that protects nothing.
const SimulationPrefix = "simulation-"

type simulation string

func (s simulation) Name() string { return string(s) }

func (s simulation) cipher() *Cipher {
	var constant Key
	copy(constant[:], s+" protects nothing")
	return NewCipher(constant, purposeSimulation, rand.Reader)
}

func (s simulation) Seal(_ context.Context, plaintext, aad []byte) ([]byte, error) {
	return s.cipher().Seal(nil, plaintext, aad)
}

func (s simulation) Unseal(_ context.Context, sealed, aad []byte) ([]byte, error) {
	return s.cipher().Open(nil, sealed, aad)
}

// place is additional data that names a place: label ‖ 0 ‖ journal id, 16 bytes ‖ epoch, 8 bytes big-endian.
func place(label string, id ID, epoch uint64) []byte {
	out := append([]byte(label), 0)
	out = append(out, id[:]...)
	return binary.BigEndian.AppendUint64(out, epoch)
}
