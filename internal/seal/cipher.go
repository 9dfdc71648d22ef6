// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"io"
	"sync"
)

// A Purpose is the HKDF info of a subkey; one per use. Test vector: cipher_test.go.
type Purpose string

// The purposes.
const (
	Records    Purpose = "marblerun/journal/record/v1"
	Snapshots  Purpose = "marblerun/journal/snapshot/v1"
	Watermarks Purpose = "marblerun/journal/watermark/v1"

	purposeRecovery   Purpose = "marblerun/seal/recovery/v1"
	purposeSimulation Purpose = "marblerun/seal/simulation/v1"
)

const (
	saltSize  = 16
	nonceSize = 12
	tagSize   = 16

	// Overhead is how many bytes longer than the plaintext sealed bytes are.
	Overhead = saltSize + nonceSize + tagSize

	// perSalt bounds what one subkey seals: random 96-bit nonces allow 2^32 messages, this stays far below.
	perSalt = 1 << 20
	// maxOpeners bounds the cache of subkeys for opening.
	maxOpeners = 64
)

// Cipher seals and opens with AES-256-GCM under subkeys of one key:
//
//	subkey = HKDF-SHA256(key, salt, info = purpose), 32 bytes
//	sealed = salt (16) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// The salt is drawn once per Cipher and again after 2^20 messages; the nonce is
// random for every message. So a repeat needs 224 equal random bits, whoever
// else writes with the same key. Safe for concurrent use.
type Cipher struct {
	key     Key
	purpose Purpose
	random  io.Reader // for salts; nonces come from crypto/rand by way of crypto/cipher

	mu      sync.Mutex
	salt    [saltSize]byte
	sealer  cipher.AEAD // nil: draw a salt first
	sealed  int         // messages under salt
	openers map[[saltSize]byte]cipher.AEAD
}

// NewCipher returns the cipher for one use of a key.
func NewCipher(key Key, use Purpose, random io.Reader) *Cipher {
	return &Cipher{key: key, purpose: use, random: random, openers: map[[saltSize]byte]cipher.AEAD{}}
}

func (c *Cipher) aead(salt []byte) (cipher.AEAD, error) {
	subkey, err := hkdf.Key(sha256.New, c.key[:], salt, string(c.purpose), KeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a subkey: %w", err)
	}
	block, err := aes.NewCipher(subkey)
	if err != nil {
		return nil, fmt.Errorf("deriving a subkey: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal appends the sealed plaintext to dst.
func (c *Cipher) Seal(dst, plaintext, aad []byte) ([]byte, error) {
	salt, aead, err := c.forSealing()
	if err != nil {
		return nil, err
	}
	return aead.Seal(append(dst, salt[:]...), nil, plaintext, aad), nil
}

func (c *Cipher) forSealing() ([saltSize]byte, cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealer == nil || c.sealed == perSalt {
		if _, err := io.ReadFull(c.random, c.salt[:]); err != nil {
			return c.salt, nil, fmt.Errorf("drawing a salt: %w", err)
		}
		aead, err := c.aead(c.salt[:])
		if err != nil {
			return c.salt, nil, err
		}
		c.sealer, c.sealed = aead, 0
	}
	c.sealed++
	return c.salt, c.sealer, nil
}

// Open appends the plaintext to dst. ErrMalformed: too short to be sealed bytes. ErrWrongKey: see there.
func (c *Cipher) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < Overhead {
		return nil, fmt.Errorf("%w: %d sealed bytes", ErrMalformed, len(sealed))
	}
	aead, err := c.forOpening([saltSize]byte(sealed))
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(dst, nil, sealed[saltSize:], aad)
	if err != nil {
		return nil, ErrWrongKey
	}
	return plaintext, nil
}

func (c *Cipher) forOpening(salt [saltSize]byte) (cipher.AEAD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if aead := c.openers[salt]; aead != nil {
		return aead, nil
	}
	aead, err := c.aead(salt[:])
	if err != nil {
		return nil, err
	}
	if len(c.openers) == maxOpeners {
		clear(c.openers)
	}
	c.openers[salt] = aead
	return aead, nil
}
