// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// vectorSecret is the secret of the test vector in contract client-api §10: 40 41 … 5f.
func vectorSecret() []byte {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(0x40 + i)
	}
	return secret
}

func vectorShares(t testing.TB) [][]byte {
	t.Helper()
	var shares [][]byte
	for _, s := range []string{
		"d9d8dbdadddcdfded1d0d3d2d5d4d7d6c9c8cbcacdcccfcec1c0c3c2c5c4c7c601",
		"e3e2e1e0e7e6e5e4ebeae9e8efeeedecf3f2f1f0f7f6f5f4fbfaf9f8fffefdfc02",
		"7f7e7d7c7b7a797877767574737271706f6e6d6c6b6a6968676665646362616080",
	} {
		share, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, share)
	}
	return shares
}

// TestVector: contract client-api §10, both directions.
func TestVector(t *testing.T) {
	want := vectorShares(t)
	got := evaluate(vectorSecret(), bytes.Repeat([]byte{0x53, 0xca}, 32), []byte{1, 2, 0x80})
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("share %d: got %x, want %x", i, got[i], want[i])
		}
	}
	slices.Reverse(want)
	secret, err := Combine(Scheme{N: 5, Threshold: 3}, want)
	if err != nil || !bytes.Equal(secret, vectorSecret()) {
		t.Errorf("combined %x %v", secret, err)
	}
}

// TestField compares with schoolbook arithmetic over polynomials, for all pairs.
func TestField(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			product := 0
			for i := range 8 {
				if b>>i&1 == 1 {
					product ^= a << i
				}
			}
			for i := 14; i >= 8; i-- {
				if product>>i&1 == 1 {
					product ^= 0x11b << (i - 8)
				}
			}
			if got := mul(byte(a), byte(b)); int(got) != product {
				t.Fatalf("%d * %d = %d, want %d", a, b, got, product)
			}
		}
		if a != 0 && mul(byte(a), inverse(byte(a))) != 1 {
			t.Fatalf("inverse of %d is %d", a, inverse(byte(a)))
		}
	}
}

// TestSplitCombine: any choice of as many shares as needed, in any order, yields the secret.
func TestSplitCombine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Scheme{N: rapid.IntRange(1, 12).Draw(t, "n")}
		if s.N > 1 {
			s.Threshold = rapid.SampledFrom(append([]int{0}, numbers(2, s.N)...)).Draw(t, "threshold")
		}
		secret := rapid.SliceOfN(rapid.Byte(), 1, 48).Draw(t, "secret")
		all, err := Split(secret, s, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != s.N {
			t.Fatalf("%d shares", len(all))
		}
		chosen := rapid.Permutation(all).Draw(t, "order")[:s.Needed()]
		got, err := Combine(s, chosen)
		if err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("got %x %v, want %x", got, err, secret)
		}
		if s.Needed() > 1 && len(secret) >= 16 {
			checkTooFew(t, s, chosen, secret)
		}
	})
}

// checkTooFew: one share fewer, or one changed, does not yield the secret.
func checkTooFew(t *rapid.T, s Scheme, chosen [][]byte, secret []byte) {
	if _, err := Combine(s, chosen[1:]); err == nil {
		t.Fatal("too few shares were combined")
	}
	changed := slices.Clone(chosen)
	changed[0] = slices.Clone(changed[0])
	changed[0][0] ^= 1
	if got, err := Combine(s, changed); err == nil && bytes.Equal(got, secret) {
		t.Fatal("a changed share still yields the secret")
	}
}

func numbers(from, to int) (all []int) {
	for i := from; i <= to; i++ {
		all = append(all, i)
	}
	return all
}

// TestShareForms: contract client-api §10, "Plain secret of a key holder".
func TestShareForms(t *testing.T) {
	secret := vectorSecret()
	for _, c := range []struct {
		scheme Scheme
		length int
	}{{Scheme{N: 1}, 32}, {Scheme{N: 3}, 32}, {Scheme{N: 3, Threshold: 3}, 32}, {Scheme{N: 3, Threshold: 2}, 33}} {
		all, err := Split(secret, c.scheme, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		points := map[byte]bool{0: true}
		for _, share := range all {
			if len(share) != c.length || !IsPlain(share) {
				t.Errorf("%+v: a share of %d bytes", c.scheme, len(share))
			}
			if c.scheme.N > 1 && bytes.Equal(share[:32], secret) {
				t.Errorf("%+v: a share is the secret", c.scheme)
			}
			if c.length == 33 && points[share[32]] {
				t.Errorf("%+v: point %d is 0 or used twice", c.scheme, share[32])
			}
			points[share[len(share)-1]] = c.length == 33
		}
	}
	single, err := Split(secret, Scheme{N: 1}, rand.Reader)
	if err != nil || !bytes.Equal(single[0], secret) {
		t.Error("one key: the holder's secret must be the secret itself")
	}
}

// TestSchemes: contract manifest §9.
func TestSchemes(t *testing.T) {
	for _, c := range []struct {
		scheme Scheme
		ok     bool
	}{
		{Scheme{N: 1}, true}, {Scheme{N: 2}, true}, {Scheme{N: 2, Threshold: 2}, true}, {Scheme{N: 3, Threshold: 2}, true},
		{Scheme{N: 255, Threshold: 254}, true}, {Scheme{}, false}, {Scheme{N: 2, Threshold: 1}, false},
		{Scheme{N: 3, Threshold: 4}, false}, {Scheme{N: 256}, false}, {Scheme{N: -1}, false},
		{Scheme{N: 3, Threshold: -1}, false},
	} {
		if _, err := Split(vectorSecret(), c.scheme, rand.Reader); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.scheme, err)
		}
	}
	if _, err := Split(nil, Scheme{N: 2}, rand.Reader); err == nil {
		t.Error("an empty secret was split")
	}
	for _, s := range []Scheme{{N: 3}, {N: 3, Threshold: 2}} {
		if _, err := Split(vectorSecret(), s, strings.NewReader("short")); err == nil {
			t.Errorf("%+v: split without randomness", s)
		}
	}
}

func TestCombineRefuses(t *testing.T) {
	v, s := vectorShares(t), Scheme{N: 5, Threshold: 3}
	zero := append(bytes.Clone(v[0][:32]), 0)
	for name, shares := range map[string][][]byte{
		"none": nil, "too few": v[:2], "too many": append(slices.Clone(v), zero), "the same point": {v[0], v[1], v[1]},
		"point 0": {v[0], v[1], zero}, "another length": {v[0], v[1], v[2][1:]}, "only a point": {{1}, {2}, {3}},
		"empty": {{}, {}, {}},
	} {
		if got, err := Combine(s, shares); err == nil {
			t.Errorf("%s: combined to %x", name, got)
		}
	}
}

func FuzzCombine(f *testing.F) {
	f.Add(5, 3, bytes.Join(vectorShares(f), nil), 33)
	f.Add(2, 0, make([]byte, 64), 32)
	f.Fuzz(func(t *testing.T, n, threshold int, data []byte, length int) {
		if length < 0 || len(data) > 1<<14 {
			return
		}
		var shares [][]byte
		for chunk := range slices.Chunk(data, max(1, length)) {
			shares = append(shares, chunk)
		}
		s := Scheme{N: n, Threshold: threshold}
		secret, err := Combine(s, shares)
		if err != nil {
			return
		}
		slices.Reverse(shares)
		if again, err := Combine(s, shares); err != nil || !bytes.Equal(again, secret) {
			t.Errorf("the order matters: %x %x %v", secret, again, err)
		}
	})
}
