// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package tee

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/seal"
)

// The vector: key 00 01 … 0f, salt a0 a1 … bf, nonce c0 … cb, additional data "aad", plaintext "marblerun".
const vector = "0101" + "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf" +
	"c0c1c2c3c4c5c6c7c8c9cacb" + "a398f8046a860adeec1ddb143e310470ee50b485061a80967e"

func count(from byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = from + byte(i)
	}
	return out
}

// TestVector makes the sealed bytes with HMAC, AES and GCM alone.
func TestVector(t *testing.T) {
	sum := func(key []byte, parts ...[]byte) []byte {
		mac := hmac.New(sha256.New, key)
		mac.Write(slices.Concat(parts...))
		return mac.Sum(nil)
	}
	key, salt, nonce := count(0, 16), count(0xa0, 32), count(0xc0, 12)
	subkey := sum(sum(salt, key), []byte("marblerun/seal/tee/gramine-product/v1"), []byte{1}) // RFC 5869
	block, err := aes.NewCipher(subkey)
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	made := slices.Concat([]byte{1, 1}, salt, nonce, gcm.Seal(nil, nonce, []byte("marblerun"), []byte("\x01\x01aad")))
	if got := hex.EncodeToString(made); got != vector {
		t.Errorf("made %s", got)
	}
	b, err := parseBlob(made, driverGramine)
	must(t, err)
	if got, err := b.open(key, labelGramineProduct, []byte("aad")); err != nil || string(got) != "marblerun" {
		t.Errorf("opened %q, %v", got, err)
	}
}

// Every sealer, with one that would have the same key but another purpose.
func everySealer(t testing.TB) map[string][2]seal.Sealer {
	g := firstGuest(milan())
	inside := enclave{cpu: "cpu"}.start(t)
	guest := g.start(t, false)
	twin := func(s seal.Sealer, use label) seal.Sealer {
		switch s := s.(type) {
		case *gramine:
			other := *s
			other.use = use
			return &other
		case *snp:
			other := *s
			other.use = use
			return &other
		}
		return nil
	}
	return map[string][2]seal.Sealer{
		"gramine-product": {inside.Product, twin(inside.Product, labelGramineUnique)},
		"gramine-unique":  {inside.Unique, twin(inside.Unique, labelGramineProduct)},
		"snp-product":     {guest.Product, guest.Unique},
		"snp-unique":      {guest.Unique, guest.Product},
	}
}

func TestEverySealer(t *testing.T) {
	sealers := everySealer(t)
	for name, pair := range sealers {
		t.Run(name, func(t *testing.T) {
			s := pair[0]
			if s.Name() != name {
				t.Errorf("name %s", s.Name())
			}
			data := sealed(t, s)
			wantOpen(t, s, data, "")
			if bytes.Equal(data[:60], sealed(t, s)[:60]) {
				t.Error("the same salt twice")
			}
			wantOpen(t, pair[1], data, seal.ErrWrongKey.Error())
			if _, err := s.Unseal(t.Context(), data, []byte("another place")); !errors.Is(err, seal.ErrWrongKey) {
				t.Errorf("other additional data: %v", err)
			}
			tamper(t, s, data)
			for other, pair := range sealers {
				if other[:3] != name[:3] {
					if _, err := pair[0].Unseal(t.Context(), data, aad); !errors.Is(err, seal.ErrMalformed) {
						t.Errorf("%s: %v", other, err)
					}
				}
			}
			sizes(t, s)
		})
	}
}

// tamper flips every bit, and cuts and extends.
func tamper(t *testing.T, s seal.Sealer, data []byte) {
	refused := func(what string, at int, changed []byte) {
		got, err := s.Unseal(t.Context(), changed, aad)
		if got != nil || !errors.Is(err, seal.ErrWrongKey) && !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s at %d: %x, %v", what, at, got, err)
		}
	}
	for i := range 8 * len(data) {
		changed := bytes.Clone(data)
		changed[i/8] ^= 1 << (i % 8)
		refused("bit flipped", i, changed)
	}
	for i := range data {
		refused("cut", i, data[:i])
		refused("byte less", i, slices.Delete(bytes.Clone(data), i, i+1))
	}
	refused("extended", len(data), append(bytes.Clone(data), 0))
	refused("extended", len(data), append(bytes.Clone(data), make([]byte, 1000)...))
}

func sizes(t *testing.T, s seal.Sealer) {
	for _, n := range []int{0, 1, 64} {
		data, err := s.Seal(t.Context(), make([]byte, n), nil)
		must(t, err)
		if got, err := s.Unseal(t.Context(), data, nil); err != nil || len(got) != n {
			t.Errorf("%d bytes: %d, %v", n, len(got), err)
		}
	}
	if _, err := s.Seal(t.Context(), make([]byte, 65), nil); err == nil {
		t.Error("65 bytes sealed")
	}
}

func TestFormatErrors(t *testing.T) {
	for want, data := range map[string][]byte{
		"0 sealed bytes": {}, "1 sealed bytes": {1}, "version 9": {9, 1}, "another kind": {1, 3}, "2 sealed": {1, 1},
	} {
		_, err := parseBlob(data, driverGramine)
		if !errors.Is(err, seal.ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%x: %v", data, err)
		}
	}
}

func TestParameters(t *testing.T) {
	p := snpParameters{1, 2, 3, 4, 5}
	encoded := p.encode()
	if got := hex.EncodeToString(encoded); got !=
		"00000001"+"0000000000000002"+"00000003"+"00000004"+"0000000000000005" {
		t.Errorf("encoded %s", got)
	}
	if got := decodeSNPParameters(encoded); got != p {
		t.Errorf("decoded %+v", got)
	}
}

// Whatever the host wrote: no panic, no plaintext but what was sealed.
func FuzzUnseal(f *testing.F) {
	var list []seal.Sealer
	for _, pair := range everySealer(f) {
		list = append(list, pair[0])
		data := sealed(f, pair[0])
		f.Add(data)
		f.Add(data[:len(data)-1])
		f.Add(data[:headSize])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, s := range list {
			got, err := s.Unseal(t.Context(), data, aad)
			if err == nil && !bytes.Equal(got, secret) {
				t.Errorf("%s opened %x", s.Name(), got)
			}
			if err != nil && !errors.Is(err, seal.ErrWrongKey) && !errors.Is(err, seal.ErrMalformed) {
				t.Errorf("%s: %v", s.Name(), err)
			}
		}
	})
}
