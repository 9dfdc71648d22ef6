// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/marblerun/marblerun/internal/seal"
)

// Sealed bytes:
//
//	version (1) = 1 ‖ driver (1) ‖ parameters ‖ salt (32) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// The parameters have a fixed size for each driver: 0 bytes for Gramine, 28 for SNP (snpParameters). With the key of
// the TEE for these parameters, sealing is
//
//	subkey = HKDF-SHA256(key of the TEE, salt, info = label), 32 bytes
//	AES-256-GCM(subkey, nonce, plaintext, aad = version ‖ driver ‖ parameters ‖ the caller's)
//
// Test vector: blob_test.go.
type driver byte

const (
	driverGramine driver = 1
	driverSNP     driver = 2
)

const (
	blobVersion  = 1
	headSize     = 2
	saltSize     = 32
	overhead     = saltSize + 12 + 16 // nonce and tag included
	subkeySize   = 32
	maxPlaintext = 64 // seal.Sealer
)

// A label is the HKDF info of one sealer.
type label string

const (
	labelGramineProduct label = "marblerun/seal/tee/gramine-product/v1"
	labelGramineUnique  label = "marblerun/seal/tee/gramine-unique/v1"
	labelSNPProduct     label = "marblerun/seal/tee/snp-product/v1"
	labelSNPUnique      label = "marblerun/seal/tee/snp-unique/v1"
)

func (d driver) parameterSize() int {
	if d == driverSNP {
		return snpParameterSize
	}
	return 0
}

// blob is a view of sealed bytes.
type blob struct {
	head []byte // version, driver, parameters: authenticated, and needed to derive the key
	salt []byte
	body []byte // nonce, ciphertext, tag
}

// parameters are those of the head.
func (b blob) parameters() []byte { return b.head[headSize:] }

// parseBlob takes sealed bytes apart. Every error wraps seal.ErrMalformed.
func parseBlob(data []byte, want driver) (blob, error) {
	if len(data) < headSize {
		return blob{}, fmt.Errorf("%w: %d sealed bytes", seal.ErrMalformed, len(data))
	}
	if data[0] != blobVersion {
		return blob{}, fmt.Errorf("%w: format version %d is unknown to this program, which knows version %d",
			seal.ErrMalformed, data[0], blobVersion)
	}
	if got := driver(data[1]); got != want {
		return blob{}, fmt.Errorf("%w: sealed in another kind of TEE (%d, this is %d)", seal.ErrMalformed, got, want)
	}
	size := headSize + want.parameterSize()
	if text := len(data) - size - overhead; text < 0 || text > maxPlaintext {
		return blob{}, fmt.Errorf("%w: %d sealed bytes", seal.ErrMalformed, len(data))
	}
	return blob{head: data[:size], salt: data[size:][:saltSize], body: data[size+saltSize:]}, nil
}

// sealBlob seals with a key of the TEE that was derived from the parameters.
func sealBlob(key []byte, use label, d driver, parameters, plaintext, aad []byte, random io.Reader) ([]byte, error) {
	if len(plaintext) > maxPlaintext {
		return nil, fmt.Errorf("sealing %d bytes: at most %d", len(plaintext), maxPlaintext)
	}
	if len(parameters) != d.parameterSize() {
		return nil, fmt.Errorf("sealing with %d bytes of parameters", len(parameters))
	}
	out := append([]byte{blobVersion, byte(d)}, parameters...)
	head := slices.Clip(out)
	out = append(out, make([]byte, saltSize)...)
	salt := out[len(head):]
	if _, err := io.ReadFull(random, salt); err != nil {
		return nil, fmt.Errorf("drawing a salt: %w", err)
	}
	aead, err := subcipher(key, salt, use)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, nil, plaintext, slices.Concat(head, aad)), nil
}

func (b blob) open(key []byte, use label, aad []byte) ([]byte, error) {
	aead, err := subcipher(key, b.salt, use)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, b.body, slices.Concat(b.head, aad))
	if err != nil {
		return nil, seal.ErrWrongKey
	}
	return plaintext, nil
}

// errZeroKey: no TEE derives this one.
var errZeroKey = errors.New("the TEE's key is all zeros")

func subcipher(key, salt []byte, use label) (cipher.AEAD, error) {
	if !slices.ContainsFunc(key, func(b byte) bool { return b != 0 }) {
		return nil, errZeroKey
	}
	subkey, err := hkdf.Key(sha256.New, key, salt, string(use), subkeySize)
	if err != nil {
		return nil, fmt.Errorf("deriving a subkey: %w", err)
	}
	defer clear(subkey)
	block, err := aes.NewCipher(subkey)
	if err != nil {
		return nil, fmt.Errorf("deriving a subkey: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
