// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package sigstruct reads the signature structure (SIGSTRUCT) of SGX enclaves out of the files that carry one:
//
//	EGo, Open Enclave  ELF section .oeinfo (.oesign in files of newer tools)
//	Gramine            the file *.sig
//	SGX SDK, Occlum    ELF section .note.sgxmeta
//
// It is how "marblerun package-info" finds out what a manifest must say about a package, without the vendors' tools.
//
// Invariants: nothing in a file is believed before it is checked against the file's size; at most MaxSection bytes of
// a file are held in memory, whatever it says; what is reported is in the one structure that was found, and Verify
// tells whether its signer has signed it. The measurement itself is not computed anew from the enclave's pages.
package sigstruct

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Size of a SIGSTRUCT, in bytes (Intel SDM volume 3D, "Enclave Signature Structure").
const Size = 1808

// The two constants that a SIGSTRUCT begins with, at offsets 0 and 24.
const (
	header1 = "\x06\x00\x00\x00\xe1\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00"
	header2 = "\x01\x01\x00\x00\x60\x00\x00\x00\x60\x00\x00\x00\x01\x00\x00\x00"
)

// Offsets in a SIGSTRUCT. All integers are little-endian.
const (
	offVendor        = 16
	offDate          = 20 // u32, BCD yyyymmdd
	offHeader2       = 24
	offModulus       = 128 // 384 bytes
	offExponent      = 512 // u32, 3
	offSignature     = 516 // 384 bytes
	offBody          = 900 // what is signed: 0 to 127 and 900 to 1027
	offAttributes    = 928 // u64 flags, u64 XFRM
	offAttributeMask = 944
	offMRENCLAVE     = 960
	offProductID     = 1024 // u16
	offSVN           = 1026 // u16
	endBody          = 1028
	offQ1            = 1040 // 384 bytes
	offQ2            = 1424

	modulusSize = 384
	exponent    = 3
	flagDebug   = 1 << 1
)

// Structure is a SIGSTRUCT.
type Structure struct {
	UniqueID        [32]byte // MRENCLAVE
	SignerID        [32]byte // MRSIGNER, the SHA-256 of the signer's modulus
	ProductID       uint16   // ISVPRODID
	SecurityVersion uint16   // ISVSVN

	raw [Size]byte
}

// Parse reads exactly Size bytes. It does not verify the signature.
func Parse(data []byte) (*Structure, error) {
	if len(data) != Size {
		return nil, fmt.Errorf("a SIGSTRUCT has %d bytes, not %d", Size, len(data))
	}
	if string(data[:len(header1)]) != header1 || string(data[offHeader2:][:len(header2)]) != header2 {
		return nil, errors.New("the constants of a SIGSTRUCT are missing")
	}
	s := &Structure{
		UniqueID:        [32]byte(data[offMRENCLAVE:]),
		SignerID:        sha256.Sum256(data[offModulus:][:modulusSize]),
		ProductID:       binary.LittleEndian.Uint16(data[offProductID:]),
		SecurityVersion: binary.LittleEndian.Uint16(data[offSVN:]),
	}
	copy(s.raw[:], data)
	return s, nil
}

// maxCandidates bounds how many times the first constant is looked at.
const maxCandidates = 1024

// errNone says that the bytes have no SIGSTRUCT.
var errNone = errors.New("no SIGSTRUCT found; is the enclave signed?")

// Find returns the structures in data, in their order, each once; at least one.
func Find(data []byte) ([]*Structure, error) {
	var found []*Structure
	for range maxCandidates {
		at := bytes.Index(data, []byte(header1))
		if at < 0 || len(data)-at < Size {
			break
		}
		s, err := Parse(data[at:][:Size])
		if err != nil {
			data = data[at+1:]
			continue
		}
		if !slices.ContainsFunc(found, func(other *Structure) bool { return other.raw == s.raw }) {
			found = append(found, s)
		}
		data = data[at+Size:]
	}
	if found == nil {
		return nil, errNone
	}
	return found, nil
}

// Debug says whether the enclave may run in debug mode, in which the host reads and writes its memory.
type Debug string

// The answers: the signature fixes the attribute to 0, leaves it open to whoever starts the enclave, or fixes it to 1.
const (
	DebugForbidden Debug = "forbidden"
	DebugAllowed   Debug = "allowed"
	DebugRequired  Debug = "required"
)

// Debug reads the debug attribute and its mask.
func (s *Structure) Debug() Debug {
	set := binary.LittleEndian.Uint64(s.raw[offAttributes:])&flagDebug != 0
	fixed := binary.LittleEndian.Uint64(s.raw[offAttributeMask:])&flagDebug != 0
	switch {
	case !fixed:
		return DebugAllowed
	case set:
		return DebugRequired
	}
	return DebugForbidden
}

// Date is the signer's word for when the enclave was built, UTC; zero if it is no date.
func (s *Structure) Date() time.Time {
	date, err := time.Parse("20060102", fmt.Sprintf("%08x", binary.LittleEndian.Uint32(s.raw[offDate:])))
	if err != nil {
		return time.Time{}
	}
	return date
}

// Vendor is 0x8086 for Intel, 0 for everybody else.
func (s *Structure) Vendor() uint32 { return binary.LittleEndian.Uint32(s.raw[offVendor:]) }

// Verify checks what the processor checks when it starts the enclave: the signature, RSA with 3072 bits and exponent
// 3, PKCS #1 v1.5 with SHA-256, by the key in the structure; and the two precomputed quotients.
func (s *Structure) Verify() error {
	if e := binary.LittleEndian.Uint32(s.raw[offExponent:]); e != exponent {
		return fmt.Errorf("the signer's key has exponent %d, not %d", e, exponent)
	}
	n, sig := s.integer(offModulus), s.integer(offSignature)
	if n.BitLen() != 8*modulusSize || n.Bit(0) == 0 {
		return fmt.Errorf("the signer's key has no odd modulus of %d bits", 8*modulusSize)
	}
	hash := sha256.New()
	hash.Write(s.raw[:offModulus])
	hash.Write(s.raw[offBody:endBody])
	key := &rsa.PublicKey{N: n, E: exponent}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, hash.Sum(nil), sig.FillBytes(make([]byte, modulusSize))); err != nil {
		return fmt.Errorf("the signature does not fit: %w", err)
	}
	q1, q2 := quotients(sig, n)
	if q1.Cmp(s.integer(offQ1)) != 0 || q2.Cmp(s.integer(offQ2)) != 0 {
		return errors.New("the quotients Q1 and Q2 are wrong: no processor starts this enclave")
	}
	return nil
}

// integer reads 384 bytes.
func (s *Structure) integer(offset int) *big.Int {
	b := slices.Clone(s.raw[offset:][:modulusSize])
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

// quotients returns Q1 = ⌊s²/n⌋ and Q2 = ⌊(s³ − Q1·s·n)/n⌋.
func quotients(s, n *big.Int) (q1, q2 *big.Int) {
	q1, r := new(big.Int).QuoRem(new(big.Int).Mul(s, s), n, new(big.Int))
	return q1, new(big.Int).Quo(r.Mul(r, s), n)
}
