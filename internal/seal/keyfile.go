// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// KeyFile is the content of sealed_key: what this machine's TEE needs to open
// the journal. During a change of epoch it holds the old one and the new one.
//
//	"MRBLSKEY" ‖ format version, u32 = 1 ‖ length, u32 ‖ JSON of KeyFile ‖ CRC-32C of all before
//
// Integers are big-endian. Nothing in it is authenticated but what the slots
// and the watermark seal; the checksum only finds accidents.
type KeyFile struct {
	Epochs []EpochKeys `json:"epochs"`
}

// EpochKeys is what sealed_key has about one epoch of one journal.
type EpochKeys struct {
	Journal   ID     `json:"journal"`
	Epoch     uint64 `json:"epoch"`
	TEE       string `json:"tee"` // kind of TEE that wrote it
	Slots     []Slot `json:"slots"`
	Watermark []byte `json:"watermark,omitempty"` // SealWatermark; none before the epoch's journal is in place
}

const (
	keyFileMagic   = "MRBLSKEY"
	keyFileVersion = 1
	keyFileHead    = len(keyFileMagic) + 8

	// MaxKeyFile bounds the file, in bytes.
	MaxKeyFile = 1 << 20
)

// Find returns the entry of an epoch.
func (f *KeyFile) Find(id ID, epoch uint64) (EpochKeys, bool) {
	for _, e := range f.Epochs {
		if e.Journal == id && e.Epoch == epoch {
			return e, true
		}
	}
	return EpochKeys{}, false
}

// Encode returns the file's bytes.
func (f *KeyFile) Encode() ([]byte, error) {
	body, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding sealed_key: %w", err)
	}
	out := append([]byte(keyFileMagic), 0, 0, 0, keyFileVersion)
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)))
	out = append(out, body...)
	return binary.BigEndian.AppendUint32(out, crc32.Checksum(out, crc32.MakeTable(crc32.Castagnoli))), nil
}

// ParseKeyFile reads the file's bytes. Every error wraps ErrMalformed.
func ParseKeyFile(data []byte) (*KeyFile, error) {
	if len(data) < keyFileHead+4 || string(data[:len(keyFileMagic)]) != keyFileMagic {
		return nil, fmt.Errorf("%w: this is not a sealed_key of this program", ErrMalformed)
	}
	if v := binary.BigEndian.Uint32(data[len(keyFileMagic):]); v != keyFileVersion {
		return nil, fmt.Errorf("%w: format version %d is unknown to this program, which knows version %d",
			ErrMalformed, v, keyFileVersion)
	}
	body, sum := data[keyFileHead:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
	if uint64(binary.BigEndian.Uint32(data[len(keyFileMagic)+4:])) != uint64(len(body)) {
		return nil, fmt.Errorf("%w: wrong length", ErrMalformed)
	}
	if crc32.Checksum(data[:len(data)-4], crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, fmt.Errorf("%w: checksum mismatch", ErrMalformed)
	}
	var f KeyFile
	if err := DecodeJSON(body, &f); err != nil {
		return nil, err
	}
	return &f, nil
}

// DecodeJSON reads exactly one JSON value. Members that a newer program added are passed over.
func DecodeJSON(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data after the end", ErrMalformed)
	}
	return nil
}

// Watermark is how far a journal had come, durably, when sealed_key was written.
type Watermark struct {
	Position uint64
	Chain    [32]byte // chain hash after that record
}

const labelWatermark = "marblerun/seal/watermark/v1"

// SealWatermark seals position (8 bytes big-endian) ‖ chain hash (32) with the Watermarks cipher of the epoch.
func SealWatermark(c *Cipher, w Watermark, id ID, epoch uint64) ([]byte, error) {
	plaintext := append(binary.BigEndian.AppendUint64(nil, w.Position), w.Chain[:]...)
	return c.Seal(nil, plaintext, place(labelWatermark, id, epoch))
}

// OpenWatermark is the inverse.
func OpenWatermark(c *Cipher, sealed []byte, id ID, epoch uint64) (Watermark, error) {
	b, err := c.Open(nil, sealed, place(labelWatermark, id, epoch))
	if err != nil {
		return Watermark{}, fmt.Errorf("opening the watermark: %w", err)
	}
	if len(b) != 40 {
		return Watermark{}, fmt.Errorf("%w: watermark of %d bytes", ErrMalformed, len(b))
	}
	return Watermark{Position: binary.BigEndian.Uint64(b), Chain: [32]byte(b[8:])}, nil
}
