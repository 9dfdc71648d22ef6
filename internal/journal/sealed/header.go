// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/seal"
)

// Seal modes, as in the manifest. The empty string means ProductKey.
const (
	ProductKey = "ProductKey"
	UniqueKey  = "UniqueKey"
	Disabled   = "Disabled"
)

// Header is what everybody can read of a journal. Nothing authenticates it, so
// the snapshot repeats it byte for byte.
type Header struct {
	Journal  seal.ID     `json:"journal"`
	Number   uint64      `json:"epoch"` // of the epoch, from 1
	TEE      string      `json:"tee"`   // kind of TEE that wrote it
	SealMode string      `json:"sealMode"`
	Slots    []seal.Slot `json:"slots"`              // all but those of the machine's TEE
	Recovery []byte      `json:"recovery,omitempty"` // what the Coordinator needs to collect shares
}

// ParseHeader reads a header. Every error wraps seal.ErrMalformed.
func ParseHeader(raw []byte) (Header, error) {
	var h Header
	if err := seal.DecodeJSON(raw, &h); err != nil {
		return Header{}, fmt.Errorf("its header: %w", err)
	}
	if h.Number == 0 || h.TEE == "" || !slices.Contains([]string{ProductKey, UniqueKey, Disabled}, h.SealMode) {
		return Header{}, fmt.Errorf("its header is %w: epoch %d, TEE %q, seal mode %q",
			seal.ErrMalformed, h.Number, h.TEE, h.SealMode)
	}
	return h, nil
}

// Encode returns the bytes to store.
func (h Header) Encode() ([]byte, error) {
	raw, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding the journal's header: %w", err)
	}
	return raw, nil
}

// RecoverySlot returns the recovery slot.
func (h Header) RecoverySlot() (seal.Slot, bool) {
	i := slices.IndexFunc(h.Slots, func(s seal.Slot) bool { return s.Kind == seal.Recovery })
	if i < 0 {
		return seal.Slot{}, false
	}
	return h.Slots[i], true
}

// Mode returns the canonical name of a seal mode.
func Mode(mode string) (string, error) {
	switch mode {
	case "", ProductKey:
		return ProductKey, nil
	case UniqueKey, Disabled:
		return mode, nil
	}
	return "", fmt.Errorf("unknown seal mode %q", mode)
}

// aadVersion begins all additional data of records and snapshots.
const aadVersion = 1

// aad is format, 4 bytes ‖ journal id, 16 ‖ epoch, 8: all of a snapshot's
// additional data, the beginning of a record's. Integers are big-endian.
func (h Header) aad() []byte {
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 68), aadVersion)
	out = append(out, h.Journal[:]...)
	return binary.BigEndian.AppendUint64(out, h.Number)
}

// recordAAD is aad ‖ position, 8 ‖ chain hash of the record before, 32.
func (h Header) recordAAD(position uint64, prev journal.Hash) []byte {
	return append(binary.BigEndian.AppendUint64(h.aad(), position), prev[:]...)
}

// snapshot is the plaintext of a snapshot: what the head of the journal
// claims, repeated, and the state.
//
//	header length, u32 ‖ header ‖ position, u64 ‖ chain hash at position, 32 ‖
//	first retained position, u64 ‖ chain hash before it, 32 ‖ state
type snapshot struct {
	header   []byte
	position uint64
	chain    journal.Hash
	first    uint64
	anchor   journal.Hash
	state    []byte
}

const snapshotFixed = 4 + 8 + 32 + 8 + 32

func (s snapshot) sealedSize() int {
	return seal.Overhead + snapshotFixed + len(s.header) + len(s.state)
}

func (s snapshot) encode() []byte {
	out := make([]byte, 0, s.sealedSize())
	out = binary.BigEndian.AppendUint32(out, uint32(len(s.header)))
	out = append(out, s.header...)
	out = binary.BigEndian.AppendUint64(out, s.position)
	out = append(out, s.chain[:]...)
	out = binary.BigEndian.AppendUint64(out, s.first)
	out = append(out, s.anchor[:]...)
	return append(out, s.state...)
}

func parseSnapshot(b []byte) (snapshot, error) {
	if len(b) < snapshotFixed || uint64(binary.BigEndian.Uint32(b)) > uint64(len(b)-snapshotFixed) {
		return snapshot{}, fmt.Errorf("%w: snapshot of %d bytes", seal.ErrMalformed, len(b))
	}
	var s snapshot
	n := 4 + int(binary.BigEndian.Uint32(b))
	s.header, b = b[4:n], b[n:]
	s.position, s.chain = binary.BigEndian.Uint64(b), journal.Hash(b[8:])
	s.first, s.anchor = binary.BigEndian.Uint64(b[40:]), journal.Hash(b[48:])
	s.state = b[80:]
	return s, nil
}
