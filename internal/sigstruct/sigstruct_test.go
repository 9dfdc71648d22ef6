// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sigstruct

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marblerun/marblerun/internal/sigstruct/sigstructtest"
)

// signer is one key for all tests: making it takes a while.
var signer = sync.OnceValues(sigstructtest.NewKey)

var sample = sigstructtest.Enclave{
	MRENCLAVE: [32]byte{1, 2, 3}, ProductID: 0x1234, SVN: 0x5678, Date: 0x20260131, Mask: 2,
}

func key(t testing.TB) *sigstructtest.Key {
	t.Helper()
	k, err := signer()
	must(t, err)
	return k
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestParse(t *testing.T) {
	k := key(t)
	s, err := Parse(k.Sign(sample))
	must(t, err)
	if s.UniqueID != sample.MRENCLAVE || s.SignerID != k.SignerID() || s.ProductID != 0x1234 ||
		s.SecurityVersion != 0x5678 {
		t.Errorf("parsed %x %x %x %x", s.UniqueID, s.SignerID, s.ProductID, s.SecurityVersion)
	}
	if s.Vendor() != 0 || !s.Date().Equal(time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("vendor %x, date %s", s.Vendor(), s.Date())
	}
	must(t, s.Verify())
}

func TestNoDate(t *testing.T) {
	for _, date := range []uint32{0, 0x20261301, 0x2026000a, 0xffffffff} {
		s, err := Parse(key(t).Sign(sigstructtest.Enclave{Date: date}))
		must(t, err)
		if !s.Date().IsZero() {
			t.Errorf("%x is %s", date, s.Date())
		}
	}
}

func TestDebug(t *testing.T) {
	for _, test := range []struct {
		flags, mask uint64
		want        Debug
	}{
		{0, 2, DebugForbidden}, {2, 2, DebugRequired},
		{0, 0, DebugAllowed}, {2, 0, DebugAllowed}, {0, ^uint64(2), DebugAllowed},
	} {
		s, err := Parse(key(t).Sign(sigstructtest.Enclave{Flags: test.flags, Mask: test.mask}))
		must(t, err)
		if got := s.Debug(); got != test.want {
			t.Errorf("flags %x, mask %x: %s", test.flags, test.mask, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := key(t).Sign(sample)
	for _, data := range [][]byte{nil, good[:Size-1], append(bytes.Clone(good), 0), make([]byte, Size)} {
		if _, err := Parse(data); err == nil {
			t.Errorf("%d bytes parsed", len(data))
		}
	}
	for _, at := range []int{0, 4, 15, 24, 36, 39} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		if _, err := Parse(bad); err == nil {
			t.Errorf("parsed with byte %d changed", at)
		}
	}
}

// TestVerifyRefuses flips bits all over the structure. Only reserved bytes that nobody signs go unnoticed.
func TestVerifyRefuses(t *testing.T) {
	good := key(t).Sign(sample)
	ranges := map[string][2]int{
		"does not fit": {16, 24}, "not fit": {40, 128}, "exponent": {512, 516}, "fit": {516, 1028}, "Q1 and Q2": {1040, 1808},
	}
	for want, r := range ranges {
		for at := r[0]; at < r[1]; at += 7 {
			wantInvalid(t, good, at, want)
		}
		wantInvalid(t, good, r[1]-1, want)
	}
	wantInvalid(t, good, 128, "odd modulus")
	wantInvalid(t, good, 200, "fit")
	short := bytes.Clone(good)
	short[511] = 0
	s, err := Parse(short)
	must(t, err)
	if err := s.Verify(); err == nil || !strings.Contains(err.Error(), "3072 bits") {
		t.Errorf("short modulus: %v", err)
	}
	for _, at := range []int{1028, 1039} {
		changed := bytes.Clone(good)
		changed[at] ^= 1
		s, err := Parse(changed)
		must(t, err)
		must(t, s.Verify())
	}
}

func wantInvalid(t *testing.T, good []byte, at int, want string) {
	t.Helper()
	bad := bytes.Clone(good)
	bad[at] ^= 1
	s, err := Parse(bad)
	must(t, err)
	if err := s.Verify(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("byte %d: %v, want %q", at, err, want)
	}
}

func TestFind(t *testing.T) {
	k := key(t)
	a, b := k.Sign(sample), k.Sign(sigstructtest.Enclave{MRENCLAVE: [32]byte{9}})
	decoy := a[:16] // the first constant alone
	for _, test := range []struct {
		name string
		data [][]byte
		want [][]byte
	}{
		{"alone", [][]byte{a}, [][]byte{a}},
		{"inside", [][]byte{make([]byte, 48), a, {1, 2, 3}}, [][]byte{a}},
		{"decoy before", [][]byte{decoy, decoy, a}, [][]byte{a}},
		{"two", [][]byte{a, b}, [][]byte{a, b}},
		{"one twice", [][]byte{a, {0}, a}, [][]byte{a}},
		{"cut", [][]byte{a[:Size-1]}, nil},
		{"second cut", [][]byte{b, a[:100]}, [][]byte{b}},
		{"nothing", nil, nil},
		{"empty, as before signing", [][]byte{make([]byte, 1856)}, nil},
		{"too many decoys", [][]byte{bytes.Repeat(decoy, maxCandidates), a}, nil},
	} {
		found, err := Find(slices.Concat(test.data...))
		if (err != nil) != (test.want == nil) || len(found) != len(test.want) {
			t.Errorf("%s: %d found, %v", test.name, len(found), err)
			continue
		}
		for i := range found {
			if !bytes.Equal(found[i].raw[:], test.want[i]) {
				t.Errorf("%s: another one is number %d", test.name, i)
			}
		}
	}
}
