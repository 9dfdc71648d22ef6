// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSignatures: a bad one names its holder and drops only that share.
func TestSignatures(t *testing.T) {
	f := newFixture(t, Scheme{N: 3})
	k := f.collector(t, true)
	f.add(t, k, 0, 2)
	if _, err := k.Add(f.shares[1], []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	f.add(t, k, 2, 0)
	_, err := k.CheckSignatures(f.scheme, f.keys)
	bad, ok := errors.AsType[*SignatureError](err)
	if !ok || len(bad.Holders) != 1 || bad.Holders[0] != 1 || !strings.Contains(err.Error(), "key1") {
		t.Fatalf("%v", err)
	}
	if diff := cmp.Diff([]int{0, 2}, k.Holders()); diff != "" || k.Remaining() != 1 {
		t.Fatalf("%s, remaining %d", diff, k.Remaining())
	}
	f.add(t, k, 1, 0)
	signers, err := k.CheckSignatures(f.scheme, f.keys)
	if diff := cmp.Diff([]string{"key0", "key1", "key2"}, signers); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestOneKeySignsAll: the match is one to one.
func TestOneKeySignsAll(t *testing.T) {
	for _, s := range []Scheme{{N: 2}, {N: 3, Threshold: 2}} {
		f := newFixture(t, s)
		k := f.collector(t, true)
		f.add(t, k, 0, 1)
		if _, err := k.Add(f.shares[1], f.sign(t, 0, 1)); err != nil {
			t.Fatal(err)
		}
		_, err := k.CheckSignatures(s, f.keys)
		if bad, ok := errors.AsType[*SignatureError](err); !ok || bad.Holders[0] != 1 {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

// TestManifestExpectsMore: shares that opened an older state do not satisfy a manifest with more keys.
func TestManifestExpectsMore(t *testing.T) {
	f := newFixture(t, Scheme{N: 1})
	k := f.collector(t, true)
	f.add(t, k, 0, 0)
	for _, s := range []Scheme{{N: 2}, {}} {
		if _, err := k.CheckSignatures(s, append(f.keys, f.keys[0])[:max(1, s.N)]); err == nil {
			t.Errorf("%+v: accepted", s)
		}
	}
}

// TestSignaturesDuringSearch: open may check the signatures of the candidate; garbage beside it does no harm.
func TestSignaturesDuringSearch(t *testing.T) {
	f := newFixture(t, Scheme{N: 2})
	k := &Collector{}
	for _, share := range [][]byte{make([]byte, 32), f.shares[0]} {
		if _, err := k.Add(share, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	f.add(t, k, 1, 1)
	open := func(secret []byte) (bool, error) {
		if !bytes.Equal(secret, f.secret) {
			return false, nil
		}
		_, err := k.CheckSignatures(f.scheme, f.keys)
		return err == nil, err
	}
	_, err := k.Search(t.Context(), open)
	if bad, ok := errors.AsType[*SignatureError](err); !ok || len(bad.Holders) != 1 {
		t.Fatal(err)
	}
	f.add(t, k, 0, 1)
	if _, err := k.Search(t.Context(), open); err != nil {
		t.Fatal(err)
	}
}

// TestEncryption: contract client-api §10 "Crypto".
func TestEncryption(t *testing.T) {
	f := newFixture(t, Scheme{N: 1})
	ciphertext, err := Encrypt(f.secret, f.keys[0].Public, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decrypt(ciphertext, f.priv[0]); err != nil || !bytes.Equal(got, f.secret) {
		t.Errorf("%x %v", got, err)
	}
	if IsPlain(ciphertext) {
		t.Error("a ciphertext passes for a plain secret")
	}
	ciphertext[0] ^= 1
	if _, err := Decrypt(ciphertext, f.priv[0]); err == nil {
		t.Error("a changed ciphertext was decrypted")
	}
}
