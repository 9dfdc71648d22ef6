// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package issuersock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

func reply(t testing.TB, e Evidence, failed error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteReply(&b, e, failed); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReply(t *testing.T) {
	want := Evidence{Kind: "sgx-v3", Data: bytes.Repeat([]byte{7}, MaxEvidence)}
	got, err := readReply(bytes.NewReader(reply(t, want, nil)))
	if err != nil || got.Kind != want.Kind || !bytes.Equal(got.Data, want.Data) {
		t.Errorf("%v %v", got.Kind, err)
	}
	for name, raw := range map[string][]byte{
		"an error":     reply(t, Evidence{Kind: "x"}, errors.New("no such kind")),
		"too large":    reply(t, Evidence{Data: make([]byte, MaxEvidence+1)}, nil),
		"nothing":      reply(t, Evidence{Kind: "sgx-v3"}, nil),
		"long error":   reply(t, Evidence{}, errors.New(strings.Repeat("x", 1<<20))),
		"bad status":   frame([]byte{2, 0, 1}),
		"bad kind":     frame([]byte{0, 9, 1}),
		"oversized":    binary.LittleEndian.AppendUint32(nil, 1<<31),
		"cut":          reply(t, want, nil)[:100],
		"empty stream": nil,
	} {
		if e, err := readReply(bytes.NewReader(raw)); err == nil {
			t.Errorf("%s: got %d bytes", name, len(e.Data))
		}
	}
}

// TestWire pins the protocol.
func TestWire(t *testing.T) {
	data := [64]byte{1, 63: 2}
	raw := frame(data[:], []byte("tdx-v4"))
	if want := "\x46\x00\x00\x00\x01" + strings.Repeat("\x00", 62) + "\x02tdx-v4"; string(raw) != want {
		t.Errorf("request %q", raw)
	}
	kind, got, err := ReadRequest(bytes.NewReader(raw))
	if err != nil || kind != "tdx-v4" || got != data {
		t.Errorf("%q %v %v", kind, got, err)
	}
	const want = "\x08\x00\x00\x00\x00\x03abcxyz"
	if got := reply(t, Evidence{Kind: "abc", Data: []byte("xyz")}, nil); string(got) != want {
		t.Error("reply has another form")
	}
}

func FuzzReadRequest(f *testing.F) {
	f.Add(frame(make([]byte, 64), []byte("sgx-v3")))
	f.Add([]byte{255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, data, err := ReadRequest(bytes.NewReader(b))
		if err == nil && !bytes.Equal(frame(data[:], []byte(kind)), b[:4+64+len(kind)]) {
			t.Error("a request does not render as it was read")
		}
	})
}

func FuzzReadReply(f *testing.F) {
	f.Add(reply(f, Evidence{Kind: "sgx-v3", Data: []byte("evidence")}, nil))
	f.Add(reply(f, Evidence{}, errors.New("no")))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readReply(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, reply(t, e, nil)) {
			t.Error("a reply does not render as it was read")
		}
	})
}
