// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/journal"
	"github.com/marblerun/marblerun/internal/journal/mem"
	"github.com/marblerun/marblerun/internal/seal"
)

func sampleHeader() Header {
	return Header{
		Journal: seal.ID{1}, Number: 2, TEE: "sgx", SealMode: ProductKey, Recovery: []byte("meta"),
		Slots: []seal.Slot{{Kind: seal.Recovery, Data: []byte("d")}, {Kind: "kms", Sealer: "k", Data: []byte("e")}},
	}
}

func TestHeader(t *testing.T) {
	raw, err := sampleHeader().Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseHeader(raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleHeader(), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if slot, ok := got.RecoverySlot(); !ok || string(slot.Data) != "d" {
		t.Errorf("recovery slot %v, %t", slot, ok)
	}
	for _, change := range [][2]string{
		{`"epoch":2`, `"epoch":0`}, {`"tee":"sgx"`, `"tee":""`}, {`ProductKey`, `productkey`},
		{`"journal":"01`, `"journal":"0`},
		{`{"journal"`, `["journal"`}, {`"epoch":2`, `"epoch":-1`},
	} {
		bad := strings.Replace(string(raw), change[0], change[1], 1)
		if _, err := ParseHeader([]byte(bad)); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("%s: %v", change[1], err)
		}
	}
	if _, err := ParseHeader(append(raw, raw...)); !errors.Is(err, seal.ErrMalformed) {
		t.Errorf("two headers: %v", err)
	}
	newer := strings.Replace(string(raw), `{"journal"`, `{"invented":{"later":1},"journal"`, 1)
	if _, err := ParseHeader([]byte(newer)); err != nil {
		t.Errorf("a member that a newer program added: %v", err)
	}
}

// The additional data of docs/design/journal.md, byte for byte.
func TestAAD(t *testing.T) {
	h := Header{Number: 2}
	for i := range h.Journal {
		h.Journal[i] = byte(i)
	}
	prev := journal.Hash(bytes.Repeat([]byte{0xff}, 32))
	want := "00000001" + "000102030405060708090a0b0c0d0e0f" + "0000000000000002" + "0000000000000007" +
		strings.Repeat("ff", 32)
	if got := hex.EncodeToString(h.recordAAD(7, prev)); got != want {
		t.Errorf("record: %s", got)
	}
	if got := hex.EncodeToString(h.aad()); got != want[:56] {
		t.Errorf("snapshot: %s", got)
	}
	link := journal.Link(prev, 7, []byte("body"))
	if got := hex.EncodeToString(link[:]); got != "4e4d9020bf12ef3e9b5c52c710bbead11d48101ea63bfcaceeb6b3a1769e5181" {
		t.Errorf("chain hash: %s", got)
	}
}

func newSample(t testing.TB) *Epoch {
	t.Helper()
	h := sampleHeader()
	raw, err := h.Encode()
	if err != nil {
		t.Fatal(err)
	}
	e := New(h, raw, seal.Key{1}, rand.Reader)
	e.Driver = new(mem.Driver)
	return e
}

// A record opens at its position, after its predecessor, in its epoch of its journal, and nowhere else.
func TestRecordIsBound(t *testing.T) {
	e := newSample(t)
	prev := journal.Hash{5}
	body, err := e.Seal(7, prev, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	frame := journal.Frame{Position: 7, Prev: prev, Body: body}
	if got, err := e.Open(frame); err != nil || string(got) != "payload" {
		t.Errorf("%q, %v", got, err)
	}
	otherEpoch, otherJournal, otherKey := newSample(t), newSample(t), newSample(t)
	otherEpoch.Number = 3
	otherJournal.Journal = seal.ID{2}
	otherKey = New(otherKey.Header, otherKey.Raw, seal.Key{2}, rand.Reader)
	for name, open := range map[string]func() ([]byte, error){
		"position":    func() ([]byte, error) { return e.Open(journal.Frame{Position: 8, Prev: prev, Body: body}) },
		"predecessor": func() ([]byte, error) { return e.Open(journal.Frame{Position: 7, Body: body}) },
		"epoch":       func() ([]byte, error) { return otherEpoch.Open(frame) },
		"journal":     func() ([]byte, error) { return otherJournal.Open(frame) },
		"key":         func() ([]byte, error) { return otherKey.Open(frame) },
	} {
		var corrupt *journal.CorruptError
		if _, err := open(); !errors.As(err, &corrupt) || corrupt.Position == 0 {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestSnapshotText(t *testing.T) {
	want := snapshot{
		header: []byte("header"), state: []byte("state"),
		position: 9, chain: journal.Hash{1}, first: 4, anchor: journal.Hash{2},
	}
	text := want.encode()
	if len(text)+seal.Overhead != want.sealedSize() {
		t.Errorf("%d bytes, sealedSize %d", len(text), want.sealedSize())
	}
	got, err := parseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(snapshot{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for n := range len(text) - len("state") {
		if _, err := parseSnapshot(text[:n]); !errors.Is(err, seal.ErrMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestDamage(t *testing.T) {
	if _, is := Damage(nil); is {
		t.Error("no error is damage")
	}
	if _, is := Damage(errors.New("input/output error")); is {
		t.Error("a failing disk is damage")
	}
	text, is := Damage(&journal.CorruptError{Position: 4, Offset: -1, Text: "x"})
	if !is || text != "sealed_data is damaged at record 4: x" {
		t.Errorf("%q, %t", text, is)
	}
}

func FuzzParseHeader(f *testing.F) {
	raw, err := sampleHeader().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := ParseHeader(raw)
		if err != nil {
			if !errors.Is(err, seal.ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseHeader(again); err != nil {
			t.Fatalf("%s became %s: %v", raw, again, err)
		}
	})
}

func FuzzParseSnapshot(f *testing.F) {
	f.Add(snapshot{header: []byte("header"), position: 9, first: 4, state: []byte("state")}.encode())
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSnapshot(text)
		if err == nil && !bytes.Equal(s.encode(), text) {
			t.Errorf("%x became %x", text, s.encode())
		}
	})
}
