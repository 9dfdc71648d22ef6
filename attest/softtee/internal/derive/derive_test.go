// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package derive

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/hex"
	"math/big"
	"slices"
	"testing"
)

// TestStable pins derived values: a saved platform must stay the same platform.
func TestStable(t *testing.T) {
	seed := Seed("0123456789abcdef")
	raw, err := seed.Bytes(16, "label")
	if err != nil || hex.EncodeToString(raw) != wantBytes {
		t.Errorf("bytes %x, %v", raw, err)
	}
	key, err := seed.ECKey(elliptic.P256(), "key")
	if err != nil {
		t.Fatal(err)
	}
	public, err := RawPublic(key)
	if err != nil || hex.EncodeToString(public[:16]) != wantP256 {
		t.Errorf("P-256 key %x, %v", public[:16], err)
	}
	rsa, err := seed.RSAKey("rsa")
	if err != nil {
		t.Fatal(err)
	}
	if rsa.N.BitLen() != rsaBits || hex.EncodeToString(rsa.N.Bytes()[:16]) != wantRSA {
		t.Errorf("RSA key %x", rsa.N.Bytes()[:16])
	}
	serial, err := seed.Serial("s")
	if err != nil || serial.Sign() <= 0 || len(serial.Bytes()) != 20 {
		t.Errorf("serial %x, %v", serial, err)
	}
}

func TestLabelsDiffer(t *testing.T) {
	seed := Seed("0123456789abcdef")
	a, err := seed.Bytes(32, "a")
	if err != nil {
		t.Fatal(err)
	}
	b, err := seed.Bytes(32, "b")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Seed("0123456789abcdeg").Bytes(32, "a")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, b) || bytes.Equal(a, c) {
		t.Error("different labels or seeds give the same bytes")
	}
}

// TestSignatures: both encodings verify, and are the same each time.
func TestSignatures(t *testing.T) {
	seed, message := Seed("0123456789abcdef"), []byte("message")
	p256, err := seed.ECKey(elliptic.P256(), "a")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := SignRaw(p256, message)
	if err != nil || len(sig) != 64 {
		t.Fatal(len(sig), err)
	}
	digest := Hash([]byte("mess"), []byte("age"))
	if !ecdsa.Verify(&p256.PublicKey, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		t.Error("raw signature does not verify")
	}
	again, err := SignRaw(p256, message)
	if err != nil || !bytes.Equal(sig, again) {
		t.Error("signatures are not deterministic")
	}
	p384, err := seed.ECKey(elliptic.P384(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if sig, err = SignSNP(p384, message); err != nil || len(sig) != 144 {
		t.Fatal(len(sig), err)
	}
	slices.Reverse(sig[:72])
	slices.Reverse(sig[72:])
	long := sha512.Sum384(message)
	if !ecdsa.Verify(&p384.PublicKey, long[:], new(big.Int).SetBytes(sig[:72]), new(big.Int).SetBytes(sig[72:])) {
		t.Error("SNP signature does not verify")
	}
}

// What the first version derived.
const (
	wantBytes = "ba4521aa2727ea915c53c852c26ffc4d"
	wantP256  = "451945f70827f73be5904035ac578309"
	wantRSA   = "abc30cbb309672980260fb032c6a73e7"
)
