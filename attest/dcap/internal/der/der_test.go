// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package der

import (
	"bytes"
	"encoding/asn1"
	"encoding/hex"
	"testing"
)

func decode(t *testing.T, digits string) *Reader {
	t.Helper()
	data, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return New(data)
}

func TestElements(t *testing.T) {
	r := decode(t, "020105"+"0a0102"+"0101ff"+"0403010203"+"3003020100"+"170d3235303630363132333034315a")
	var octets [3]byte
	n, e, b := r.Uint(Integer, 255), r.Uint(Enumerated, 2), r.Bool()
	r.Octets(octets[:])
	inner := r.Into(Sequence)
	zero := inner.Uint(Integer, 0)
	when := r.Time()
	if err := r.End(); err != nil || inner.End() != nil {
		t.Fatal(err, inner.Err())
	}
	if n != 5 || e != 2 || !b || octets != [3]byte{1, 2,
		3} || zero != 0 || when.Format("2006-01-02 15:04:05") != "2025-06-06 12:30:41" {
		t.Error(n, e, b, octets, zero, when)
	}
}

func TestRefuses(t *testing.T) {
	uint8s := func(r *Reader) { r.Uint(Integer, 255) }
	for digits, read := range map[string]func(*Reader){
		"0201":                                   uint8s, // truncated
		"02":                                     uint8s,
		"0200":                                   uint8s, // empty
		"0201ff":                                 uint8s, // negative
		"02020001":                               uint8s, // not minimal
		"02020100":                               uint8s, // above the limit
		"02810105":                               uint8s, // length not minimal
		"0280050000":                             uint8s, // indefinite
		"028400000001":                           uint8s,
		"040105":                                 uint8s, // other tag
		"1f8105":                                 uint8s, // multi-byte tag
		"02010500":                               uint8s, // more follows
		"010101":                                 func(r *Reader) { r.Bool() },
		"0402aabb":                               func(r *Reader) { r.Octets(make([]byte, 3)) },
		"170d3235303630363132333034312b":         func(r *Reader) { r.Time() },
		"170b323530363036313233305a":             func(r *Reader) { r.Time() },
		"181132303235303630363132333034312e355a": func(r *Reader) { r.Time() },
	} {
		r := decode(t, digits)
		if read(r); r.End() == nil {
			t.Errorf("%s: accepted", digits)
		}
	}
	if r := decode(t, "170d3530303630363132333034315a"); r.Time().Year() != 1950 {
		t.Error("two-digit year 50 is not 1950")
	}
}

// FuzzElement: an element is whole, and encoding/asn1 finds the same content.
func FuzzElement(f *testing.F) {
	f.Add([]byte{0x30, 3, 2, 1, 5})
	f.Add(append([]byte{4, 0x81, 0x80}, make([]byte, 0x80)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := New(data)
		tag, content, whole := r.Element()
		if r.Err() != nil {
			return
		}
		var raw asn1.RawValue
		if _, err := asn1.Unmarshal(data, &raw); err != nil {
			t.Fatalf("%x: encoding/asn1 refuses: %v", data, err)
		}
		if !bytes.Equal(raw.Bytes, content) || !bytes.Equal(raw.FullBytes, whole) || whole[0] != tag {
			t.Errorf("%x: differs from encoding/asn1", data)
		}
	})
}
