// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package derive makes everything secret and every identity of a software TEE from a seed: HKDF-Expand of it under a
// label that says what the result is. It also signs in the encodings of quotes and reports, without randomness, so that
// the same content always has the same bytes.
package derive

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"slices"
)

// Seed is at least 16 secret bytes.
type Seed []byte

// Bytes returns n bytes, at most 8160.
func (s Seed) Bytes(n int, label string) ([]byte, error) {
	prk, err := hkdf.Extract(sha256.New, s, []byte("marblerun software TEE v1"))
	if err != nil {
		return nil, fmt.Errorf("deriving %s: %w", label, err)
	}
	return hkdf.Expand(sha256.New, prk, label, n)
}

// ECKey derives a key: the scalar is 1 + (x mod n-1) for 16 bytes more of x than the group order has.
func (s Seed) ECKey(curve elliptic.Curve, label string) (*ecdsa.PrivateKey, error) {
	size := (curve.Params().BitSize + 7) / 8
	x, err := s.Bytes(size+16, label)
	if err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	d := new(big.Int).SetBytes(x)
	d.Mod(d, new(big.Int).Sub(curve.Params().N, one)).Add(d, one)
	return ecdsa.ParseRawPrivateKey(curve, d.FillBytes(make([]byte, size)))
}

const (
	rsaBits     = 2048 // AMD has 4096; this is a simulation, and tests wait for it
	rsaExponent = 65537
)

// RSAKey derives a key from two derived primes.
func (s Seed) RSAKey(label string) (*rsa.PrivateKey, error) {
	a, err := s.prime(label + " p")
	if err != nil {
		return nil, err
	}
	b, err := s.prime(label + " q")
	if err != nil {
		return nil, err
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(a, one), new(big.Int).Sub(b, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(a, b), E: rsaExponent},
		D:         new(big.Int).ModInverse(big.NewInt(rsaExponent), phi),
		Primes:    []*big.Int{a, b},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("deriving %s: %w", label, err)
	}
	return key, nil
}

// prime finds the first prime from a derived odd number upwards whose two highest bits are set and that suits the
// exponent.
func (s Seed) prime(label string) (*big.Int, error) {
	raw, err := s.Bytes(rsaBits/16, label)
	if err != nil {
		return nil, err
	}
	raw[0] |= 0xC0
	raw[len(raw)-1] |= 1
	n, two, e := new(big.Int).SetBytes(raw), big.NewInt(2), big.NewInt(rsaExponent)
	for ; ; n.Add(n, two) {
		if n.ProbablyPrime(4) && new(big.Int).Mod(n, e).Cmp(big.NewInt(1)) != 0 {
			return n, nil
		}
	}
}

// Serial derives a certificate's serial number, positive and 20 bytes long.
func (s Seed) Serial(label string) (*big.Int, error) {
	raw, err := s.Bytes(20, "serial "+label)
	if err != nil {
		return nil, err
	}
	raw[0] = raw[0]&0x7F | 0x40
	return new(big.Int).SetBytes(raw), nil
}

// Hash is SHA-256 of the concatenated parts.
func Hash(parts ...[]byte) [32]byte {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return [32]byte(h.Sum(nil))
}

// Salt is the randomness of a key's signature under a label: none for ECDSA (RFC 6979), derived bytes for RSA-PSS. So a
// certificate has the same bytes each time it is issued, as in the real world, where it is issued once.
func (s Seed) Salt(key crypto.Signer, label string) (io.Reader, error) {
	if _, ok := key.(*rsa.PrivateKey); !ok {
		return nil, nil
	}
	raw, err := s.Bytes(1024, "salt "+label)
	return bytes.NewReader(raw), err
}

// SignRaw signs SHA-256 of a message; r ‖ s, 32 bytes each, big endian, as quotes and TCB info have it.
func SignRaw(key crypto.Signer, message []byte) ([]byte, error) {
	digest := Hash(message)
	r, s, err := sign(key, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...), nil
}

// SignSNP signs SHA-384 of a message; R ‖ S, 72 bytes each, little endian, FORMATS §5.1.
func SignSNP(key crypto.Signer, message []byte) ([]byte, error) {
	digest := sha512.Sum384(message)
	r, s, err := sign(key, digest[:], crypto.SHA384)
	if err != nil {
		return nil, err
	}
	return append(littleEndian(r, 72), littleEndian(s, 72)...), nil
}

// sign signs without randomness (RFC 6979), so that the same content has the same bytes.
func sign(key crypto.Signer, digest []byte, hash crypto.Hash) (r, s *big.Int, err error) {
	der, err := key.Sign(nil, digest, hash)
	if err != nil {
		return nil, nil, err
	}
	var sig struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &sig); err != nil {
		return nil, nil, fmt.Errorf("reading an own signature: %w", err)
	}
	return sig.R, sig.S, nil
}

func littleEndian(n *big.Int, size int) []byte {
	b := n.FillBytes(make([]byte, size))
	slices.Reverse(b)
	return b
}

// RawPublic is X ‖ Y, big endian.
func RawPublic(key *ecdsa.PrivateKey) ([]byte, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return point[1:], nil
}
