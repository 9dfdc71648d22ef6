// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package sigstructtest makes signature structures of SGX enclaves, and files that carry them, for tests. The
// structures are real: signed with RSA-3072 and exponent 3, by a key of its own.
//
// Invariant: what Sign returns is made with big integers alone, from the SDM's description, and so is independent of
// how package sigstruct verifies.
package sigstructtest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
	"slices"
)

// Key is an RSA key with exponent 3.
type Key struct{ n, d *big.Int }

// NewKey makes a key of 3072 bits.
func NewKey() (*Key, error) {
	one, three := big.NewInt(1), big.NewInt(3)
	var primes []*big.Int
	for len(primes) < 2 {
		p, err := rand.Prime(rand.Reader, 1536)
		if err != nil {
			return nil, err
		}
		if new(big.Int).Mod(p, three).Int64() == 2 { // else 3 divides p-1
			primes = append(primes, p)
		}
	}
	phi := new(big.Int).Mul(new(big.Int).Sub(primes[0], one), new(big.Int).Sub(primes[1], one))
	return &Key{n: new(big.Int).Mul(primes[0], primes[1]), d: new(big.Int).ModInverse(three, phi)}, nil
}

// SignerID is the MRSIGNER of the key.
func (k *Key) SignerID() [32]byte { return sha256.Sum256(little(k.n)) }

// little are the 384 bytes of a number, little-endian.
func little(n *big.Int) []byte {
	b := n.FillBytes(make([]byte, 384))
	slices.Reverse(b)
	return b
}

// Enclave is what a structure says.
type Enclave struct {
	MRENCLAVE      [32]byte
	ProductID, SVN uint16
	Date           uint32 // BCD, e.g. 0x20260131
	Flags, Mask    uint64 // attributes; bit 1 is debug
}

// Sign returns the structure, 1808 bytes.
func (k *Key) Sign(e Enclave) []byte {
	out := make([]byte, 1808)
	le := binary.LittleEndian
	copy(out, unhex("06000000e10000000000010000000000"))
	le.PutUint32(out[20:], e.Date)
	copy(out[24:], unhex("01010000600000006000000001000000"))
	copy(out[128:], little(k.n))
	le.PutUint32(out[512:], 3)
	le.PutUint64(out[928:], e.Flags|4) // 64-bit mode
	le.PutUint64(out[936:], 3)         // XFRM: x87, SSE
	le.PutUint64(out[944:], e.Mask)
	copy(out[960:], e.MRENCLAVE[:])
	le.PutUint16(out[1024:], e.ProductID)
	le.PutUint16(out[1026:], e.SVN)
	k.Resign(out)
	return out
}

// Resign signs a structure again after it was changed.
func (k *Key) Resign(structure []byte) {
	digest := sha256.Sum256(slices.Concat(structure[:128], structure[900:1028]))
	// EMSA-PKCS1-v1_5 (RFC 8017 §9.2): 00 01 ff … ff 00 ‖ DigestInfo of SHA-256
	info := append(unhex("3031300d060960864801650304020105000420"), digest[:]...)
	padding := bytes.Repeat([]byte{0xff}, 384-3-len(info))
	message := slices.Concat([]byte{0, 1}, padding, []byte{0}, info)
	s := new(big.Int).Exp(new(big.Int).SetBytes(message), k.d, k.n)
	q1 := new(big.Int).Div(new(big.Int).Mul(s, s), k.n)
	cube := new(big.Int).Exp(s, big.NewInt(3), nil)
	q2 := new(big.Int).Div(cube.Sub(cube, new(big.Int).Mul(new(big.Int).Mul(q1, s), k.n)), k.n)
	copy(structure[516:], little(s))
	copy(structure[1040:], little(q1))
	copy(structure[1424:], little(q2))
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return b
}

// OEInfo is a section .oeinfo as Open Enclave's tools write it: 48 bytes of properties, then the structure.
func OEInfo(structure []byte) []byte {
	out := make([]byte, 48)
	binary.LittleEndian.PutUint32(out, uint32(48+len(structure)))
	binary.LittleEndian.PutUint32(out[4:], 2)
	return append(out, structure...)
}

// SGXMeta is a section .note.sgxmeta as the SGX SDK's tools write it: an ELF note named "sgx_metadata" whose content
// has one block of metadata for each structure.
func SGXMeta(structures ...[]byte) []byte {
	var content []byte
	for _, s := range structures {
		content = append(content, unhex("8ea3634c")...) // magic number of metadata
		content = append(content, make([]byte, 100)...)
		content = append(content, s...)
	}
	name := "sgx_metadata\x00\x00\x00\x00"
	out := binary.LittleEndian.AppendUint32(nil, 13)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(content)))
	out = binary.LittleEndian.AppendUint32(out, 1)
	return append(append(out, name...), content...)
}
