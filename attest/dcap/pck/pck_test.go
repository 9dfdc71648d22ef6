// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pck

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest/dcap/tcb"
)

// element encodes tag ‖ length ‖ content, content below 64 KiB.
func element(tag byte, content ...byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// entry is SEQUENCE{OID sgxExtension.id, value}.
func entry(id string, value []byte) []byte {
	return element(0x30, join(element(6, []byte(sgxExtension+id)...), value)...)
}

func octets(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return element(4, b...)
}

// entries of a platform certificate: SVN n of component n, PCESVN 0x102.
func entries() [][]byte {
	var items []byte
	for i := byte(1); i <= 16; i++ {
		items = append(items, entry("\x02"+string(rune(i)), element(2, i))...)
	}
	items = append(items, entry("\x02\x11", element(2, 1, 2))...)
	items = append(items, entry("\x02\x12", octets(strings.Repeat("0c", 16)))...)
	return [][]byte{
		entry("\x01", octets(strings.Repeat("aa", 16))), entry("\x02", element(0x30, items...)),
		entry("\x03", octets("0001")), entry("\x04", octets("00606a000000")), entry("\x05", element(0x0a, 2)),
		entry("\x06", octets(strings.Repeat("bb", 16))), entry("\x07", element(0x30)),
	}
}

func TestParseExtension(t *testing.T) {
	got, err := ParseExtension(element(0x30, join(entries()...)...))
	if err != nil {
		t.Fatal(err)
	}
	want := &Platform{SVN: tcb.SVNs{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, PCESVN: 0x102,
		PCEID: [2]byte{0, 1}, FMSPC: [6]byte{0, 0x60, 0x6a}, SGXType: 2, PlatformInstanceID: make([]byte, 16)}
	for i := range 16 {
		want.PPID[i], want.CPUSVN[i], want.PlatformInstanceID[i] = 0xaa, 0x0c, 0xbb
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestParseExtensionRefuses leaves out, repeats and cuts each entry.
func TestParseExtensionRefuses(t *testing.T) {
	whole := entries()
	refused := func(name string, parts ...[]byte) {
		t.Helper()
		if _, err := ParseExtension(element(0x30, join(parts...)...)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range whole {
		if i < 5 {
			refused("entry left out", append(append([][]byte{}, whole[:i]...), whole[i+1:]...)...)
		}
		refused("entry twice", append(append([][]byte{}, whole...), whole[i])...)
	}
	refused("foreign OID", append([][]byte{element(0x30, join(element(6, 1, 2), element(4))...)}, whole...)...)
	refused("SVN above a byte", append([][]byte{whole[0], entry("\x02", element(0x30, entry("\x02\x01", element(2, 1,
		0))...))},
		whole[2:]...)...)
	refused("short FMSPC", whole[0], whole[1], whole[2], entry("\x04", octets("00606a0000")), whole[4])
	refused("more in an entry", append([][]byte{entry("\x09", join(element(4), element(4)))}, whole...)...)
	extension := element(0x30, join(whole...)...)
	for i := range extension {
		if _, err := ParseExtension(extension[:i]); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}
}

func FuzzParseExtension(f *testing.F) {
	f.Add(element(0x30, join(entries()...)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := ParseExtension(data); err == nil && (len(p.PlatformInstanceID)|16) != 16 {
			t.Error("platform instance id of a wrong size")
		}
	})
}
