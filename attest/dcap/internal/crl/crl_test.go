// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crl

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// issue makes a CRL, and the key that signed it.
func issue(t testing.TB, serials ...*big.Int) ([]byte, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, KeyUsage: x509.KeyUsageCRLSign,
		SubjectKeyId: []byte{1}}
	list := &x509.RevocationList{Number: big.NewInt(3), ThisUpdate: time.Unix(1750000000, 0),
		NextUpdate: time.Unix(1760000000, 0)}
	for i, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: time.Unix(1740000000, 0), ReasonCode: i % 2})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

func TestParse(t *testing.T) {
	high := new(big.Int).SetBytes(bytes.Repeat([]byte{0xfd}, 20))
	for _, serials := range [][]*big.Int{nil, {big.NewInt(1)}, {big.NewInt(127), big.NewInt(128), high}} {
		der, key := issue(t, serials...)
		list, err := Parse(der)
		if err != nil {
			t.Fatal(err)
		}
		if !list.SignedBy(&key.PublicKey) {
			t.Error("signature does not hold")
		}
		if list.ThisUpdate.Unix() != 1750000000 || list.NextUpdate.Unix() != 1760000000 {
			t.Error(list.ThisUpdate, list.NextUpdate)
		}
		for _, serial := range serials {
			if !list.Lists(serial) {
				t.Errorf("%x is not listed", serial)
			}
		}
		if list.Lists(big.NewInt(2)) || list.Lists(new(big.Int).Rsh(high, 8)) {
			t.Error("lists what is not there")
		}
		_, other := issue(t)
		if list.SignedBy(&other.PublicKey) {
			t.Error("signed by any key")
		}
	}
}

// TestByteFlips: no flipped byte goes unnoticed by parser and signature together.
func TestByteFlips(t *testing.T) {
	der, key := issue(t, big.NewInt(1), big.NewInt(300))
	for i := range der {
		for _, bit := range []byte{1, 0x10, 0x80} {
			der[i] ^= bit
			if list, err := Parse(der); err == nil && list.SignedBy(&key.PublicKey) {
				t.Errorf("byte %d flipped by %#x: accepted", i, bit)
			}
			der[i] ^= bit
		}
		if _, err := Parse(der[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
}

// FuzzParse: what is read, crypto/x509 reads too, with the same serial numbers.
func FuzzParse(f *testing.F) {
	der, _ := issue(f, big.NewInt(1), big.NewInt(128))
	f.Add(der)
	empty, _ := issue(f)
	f.Add(empty)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := Parse(data)
		if err != nil {
			return
		}
		want, err := x509.ParseRevocationList(data)
		if err != nil {
			return // stricter about names, algorithms and extensions, which the signature covers
		}
		if !list.ThisUpdate.Equal(want.ThisUpdate) || !list.NextUpdate.Equal(want.NextUpdate) ||
			!bytes.Equal(list.Issuer, want.RawIssuer) {
			t.Errorf("%x: differs from crypto/x509", data)
		}
		for _, entry := range want.RevokedCertificateEntries {
			if entry.SerialNumber.Sign() >= 0 && !list.Lists(entry.SerialNumber) {
				t.Errorf("%x: does not list %x", data, entry.SerialNumber)
			}
		}
	})
}
