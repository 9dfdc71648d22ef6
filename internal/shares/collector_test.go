// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"testing"
)

// fixture is a secret split among holders with recovery keys.
type fixture struct {
	scheme Scheme
	secret []byte
	shares [][]byte
	keys   []Key
	priv   []*rsa.PrivateKey
}

func newFixture(t *testing.T, s Scheme) *fixture {
	t.Helper()
	f := &fixture{scheme: s, secret: vectorSecret()}
	var err error
	if f.shares, err = Split(f.secret, s, rand.Reader); err != nil {
		t.Fatal(err)
	}
	for i := range s.N {
		key, err := rsa.GenerateKey(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		f.priv = append(f.priv, key)
		f.keys = append(f.keys, Key{fmt.Sprintf("key%d", i), &key.PublicKey})
	}
	return f
}

func (f *fixture) sign(t *testing.T, key, share int) []byte {
	t.Helper()
	digest := sha256.Sum256(f.shares[share])
	signature, err := rsa.SignPKCS1v15(nil, f.priv[key], crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func (f *fixture) collector(t *testing.T, known bool) *Collector {
	t.Helper()
	hashes := Hashes(f.shares)
	if !known {
		hashes = nil
	}
	c, err := NewCollector(f.scheme, hashes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// add uploads a holder's share and expects this many to remain.
func (f *fixture) add(t *testing.T, c *Collector, holder, remaining int) {
	t.Helper()
	if got, err := c.Add(f.shares[holder], f.sign(t, holder, holder)); err != nil || got != remaining {
		t.Fatalf("share %d: remaining %d, want %d, error %v", holder, got, remaining, err)
	}
}

func (f *fixture) opens(secret []byte) (bool, error) { return bytes.Equal(secret, f.secret), nil }

// TestCollect: contract client-api §10 "Progress", with Q5 and Q7 fixed: a wrong or used secret is refused at once,
// progress is kept, and Shamir counts to the threshold.
func TestCollect(t *testing.T) {
	for _, c := range []struct {
		name    string
		scheme  Scheme
		holders []int
	}{
		{"one key", Scheme{N: 1}, []int{0}},
		{"XOR", Scheme{N: 3}, []int{2, 0, 1}},
		{"Shamir", Scheme{N: 3, Threshold: 2}, []int{2, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t, c.scheme)
			k := f.collector(t, true)
			for i, holder := range c.holders {
				refused(t, k, make([]byte, len(f.shares[0])), len(c.holders)-i)
				if _, err := k.Combine(); !errors.Is(err, ErrNotYet) {
					t.Fatalf("combined too early: %v", err)
				}
				f.add(t, k, holder, len(c.holders)-i-1)
				refused(t, k, f.shares[holder], len(c.holders)-i-1)
			}
			secret, err := k.Search(t.Context(), f.opens)
			if err != nil || !bytes.Equal(secret, f.secret) {
				t.Fatalf("%x %v", secret, err)
			}
			signers, err := k.CheckSignatures(c.scheme, f.keys)
			if err != nil || len(signers) != len(c.holders) {
				t.Errorf("%v %v", signers, err)
			}
		})
	}
}

func refused(t *testing.T, k *Collector, share []byte, remaining int) {
	t.Helper()
	got, err := k.Add(share, nil)
	if !errors.Is(err, ErrRefused) || err.Error() != "uploaded an invalid or already used secret" || got != remaining {
		t.Fatalf("remaining %d, want %d, error %v", got, remaining, err)
	}
}

// TestSurplusShare: with the threshold reached, a further share is refused instead of breaking the combination.
func TestSurplusShare(t *testing.T) {
	f := newFixture(t, Scheme{N: 3, Threshold: 2})
	k := f.collector(t, true)
	f.add(t, k, 0, 1)
	f.add(t, k, 1, 0)
	refused(t, k, f.shares[2], 0)
}

// TestLostBookkeeping: without hashes all combinations are tried; garbage of strangers does not stop the holders.
func TestLostBookkeeping(t *testing.T) {
	for _, s := range []Scheme{{N: 1}, {N: 3}, {N: 4, Threshold: 3}} {
		for _, forgotten := range []bool{false, true} {
			f := newFixture(t, s)
			k := f.collector(t, false)
			if forgotten {
				k = &Collector{}
			}
			for i := range 20 {
				garbage := bytes.Repeat([]byte{byte(i + 1)}, len(f.shares[0]))
				if got, err := k.Add(garbage, nil); err != nil || got < 1 {
					t.Fatalf("remaining %d, %v", got, err)
				}
			}
			for holder := range s.Needed() {
				if _, err := k.Search(t.Context(), f.opens); !errors.Is(err, ErrNotYet) {
					t.Fatalf("%+v: found too early: %v", s, err)
				}
				if _, err := k.Add(f.shares[holder], f.sign(t, holder, holder)); err != nil {
					t.Fatal(err)
				}
			}
			secret, err := k.Search(t.Context(), f.opens)
			if err != nil || !bytes.Equal(secret, f.secret) {
				t.Fatalf("%+v: %x %v", s, secret, err)
			}
			if signers, err := k.CheckSignatures(s, f.keys); err != nil || len(signers) != s.Needed() {
				t.Errorf("%+v: %v %v", s, signers, err)
			}
		}
	}
}

func TestSearchIsBounded(t *testing.T) {
	k := &Collector{}
	for i := range 40 {
		if _, err := k.Add(bytes.Repeat([]byte{byte(i)}, 32), nil); err != nil {
			t.Fatal(err)
		}
	}
	tries := 0
	count := func([]byte) (bool, error) { tries++; return false, nil }
	if _, err := k.Search(t.Context(), count); !errors.Is(err, ErrNotYet) {
		t.Fatal(err)
	}
	if tries == 0 || tries > 1<<12 {
		t.Errorf("%d tries", tries)
	}
	refused(t, k, nil, 1)
	refused(t, k, make([]byte, 65), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Search(ctx, count); !errors.Is(err, context.Canceled) {
		t.Errorf("a canceled search returned %v", err)
	}
	fails := func([]byte) (bool, error) { return false, io.ErrUnexpectedEOF }
	if _, err := k.Search(t.Context(), fails); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the error of open was lost: %v", err)
	}
	if len(k.accepted) != maxUnknown {
		t.Errorf("%d shares are left after an error", len(k.accepted))
	}
}

func TestMarshalRestore(t *testing.T) {
	f := newFixture(t, Scheme{N: 3})
	k := f.collector(t, true)
	f.add(t, k, 1, 2)
	f.add(t, k, 0, 1)
	saved, err := k.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	next := f.collector(t, true)
	if err := next.Restore(saved); err != nil || next.Remaining() != 1 {
		t.Fatalf("%v, remaining %d", err, next.Remaining())
	}
	f.add(t, next, 2, 0)
	if _, err := next.CheckSignatures(f.scheme, f.keys); err != nil {
		t.Error(err)
	}
	other := newFixture(t, Scheme{N: 3}).collector(t, true)
	if err := other.Restore(saved); err != nil || other.Remaining() != 3 {
		t.Errorf("shares of another secret: %v, remaining %d", err, other.Remaining())
	}
	if err := other.Restore([]byte("{")); err == nil {
		t.Error("garbage was restored")
	}
}

func TestNewCollectorRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		scheme Scheme
		hashes [][]byte
	}{
		"hashes without scheme": {Scheme{}, make([][]byte, 2)},
		"other number":          {Scheme{N: 3}, make([][]byte, 2)},
		"bad scheme":            {Scheme{N: 2, Threshold: 1}, nil},
	} {
		if _, err := NewCollector(c.scheme, c.hashes); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
