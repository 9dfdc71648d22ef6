// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11

package credential

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"
)

// unpadOAEP is the inverse of the standard library's padding, for messages of every length, and refuses everything
// else.
func TestUnpadOAEP(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	options := rsa.OAEPOptions{Hash: crypto.SHA256, Label: []byte("label")}
	for length := range key.Size() - 2*sha256.Size - 1 {
		message := bytes.Repeat([]byte{byte(length % 3)}, length)
		ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, message, options.Label)
		if err != nil {
			t.Fatal(err)
		}
		padded := new(big.Int).Exp(new(big.Int).SetBytes(ciphertext), key.D, key.N).Bytes() // without leading zeros
		got, err := unpadOAEP(padded, key.Size(), options)
		if err != nil || !bytes.Equal(got, message) {
			t.Fatalf("%d bytes: %x %v", length, got, err)
		}
		if got, err := unpadOAEP(padded, key.Size(), rsa.OAEPOptions{Hash: crypto.SHA256}); err == nil {
			t.Fatalf("another label: %x", got)
		}
		for i := range padded {
			damaged := bytes.Clone(padded)
			damaged[i] ^= 0x10
			if got, err := unpadOAEP(damaged, key.Size(), options); err == nil {
				t.Fatalf("byte %d: %x", i, got)
			}
		}
	}
	for _, size := range []int{0, 1, 65, 127, 129} {
		if _, err := unpadOAEP(make([]byte, size), 128, options); err == nil {
			t.Errorf("%d zeros", size)
		}
	}
	if _, err := unpadOAEP(nil, 65, options); err == nil {
		t.Error("a key that is too small")
	}
}
