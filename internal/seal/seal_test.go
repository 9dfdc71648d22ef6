// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vector of docs/design/journal.md: key 00 01 … 1f, salt a0 … af, nonce c0 … cb.
const (
	vectorSubkey = "7fa81ba0a65d9c975c44640f3044d80bdcf7996e925fc0e2d781649967d9e73f"
	vectorSealed = "a0a1a2a3a4a5a6a7a8a9aaabacadaeafc0c1c2c3c4c5c6c7c8c9cacb" +
		"4d0719524b89a0f495b4cb5eabbf63ba6445b5d5fc86466bbb"
)

func TestVector(t *testing.T) {
	var key Key
	for i := range key {
		key[i] = byte(i)
	}
	salt := unhex(t, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")
	nonce := unhex(t, "c0c1c2c3c4c5c6c7c8c9cacb")
	// AAD of record 7 in epoch 2 of journal 000102…0f after the chain hash ff…ff.
	aad := unhex(t, "00000001"+"000102030405060708090a0b0c0d0e0f"+"0000000000000002"+"0000000000000007"+
		strings.Repeat("ff", 32))
	plaintext := []byte("marblerun")

	subkey := hkdfReference(t, key[:], salt, "marblerun/journal/record/v1")
	if got := hex.EncodeToString(subkey); got != vectorSubkey {
		t.Errorf("subkey %s", got)
	}
	block, err := aes.NewCipher(subkey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	sealed := append(append(bytes.Clone(salt), nonce...), gcm.Seal(nil, nonce, plaintext, aad)...)
	if got := hex.EncodeToString(sealed); got != vectorSealed {
		t.Errorf("sealed %s", got)
	}
	got, err := NewCipher(key, Records, rand.Reader).Open(nil, unhex(t, vectorSealed), aad)
	if err != nil || string(got) != "marblerun" {
		t.Errorf("Open: %q, %v", got, err)
	}
}

func TestCipher(t *testing.T) {
	key, err := NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCipher(key, Records, rand.Reader)
	sealed, err := c.Seal([]byte("dst"), []byte("text"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	sealed = sealed[len("dst"):]
	if len(sealed) != len("text")+Overhead {
		t.Errorf("%d bytes", len(sealed))
	}
	if got, err := c.Open([]byte("dst"), sealed, []byte("aad")); err != nil || string(got) != "dsttext" {
		t.Errorf("Open: %q, %v", got, err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := c.Open(nil, changed, []byte("aad")); !errors.Is(err, ErrWrongKey) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, err := c.Open(nil, sealed, []byte("other")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other aad: %v", err)
	}
	if _, err := NewCipher(key, Snapshots, rand.Reader).Open(nil, sealed, []byte("aad")); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other purpose: %v", err)
	}
	if _, err := c.Open(nil, sealed[:Overhead-1], nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("short: %v", err)
	}
}

// Two ciphers of one key, as two processes have them, share no subkey; one draws a new one in time.
func TestSalts(t *testing.T) {
	var key Key
	a, b := NewCipher(key, Records, rand.Reader), NewCipher(key, Records, rand.Reader)
	salt := func(c *Cipher) string {
		sealed, err := c.Seal(nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(sealed[:saltSize])
	}
	first := salt(a)
	if first != salt(a) {
		t.Error("a salt for every message")
	}
	if first == salt(b) {
		t.Error("two ciphers use one salt")
	}
	a.sealed = perSalt
	if first == salt(a) {
		t.Error("the salt is never renewed")
	}
	for range maxOpeners + 1 {
		sealed, err := NewCipher(key, Records, rand.Reader).Seal(nil, []byte("x"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Open(nil, sealed, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.openers) > maxOpeners {
		t.Errorf("%d cached subkeys", len(a.openers))
	}
}

func TestSlots(t *testing.T) {
	key, id := Key{1, 2, 3}, ID{9}
	sealers := Simulation()
	slot, err := Wrap(t.Context(), sealers.Product, Product, key, id, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Unwrap(t.Context(), sealers.Product, slot, id, 3); err != nil || got != key {
		t.Errorf("Unwrap: %v", err)
	}
	otherKind := slot
	otherKind.Kind = Unique
	for name, unwrap := range map[string]func() (Key, error){
		"other sealer":  func() (Key, error) { return Unwrap(t.Context(), sealers.Unique, slot, id, 3) },
		"other epoch":   func() (Key, error) { return Unwrap(t.Context(), sealers.Product, slot, id, 4) },
		"other journal": func() (Key, error) { return Unwrap(t.Context(), sealers.Product, slot, ID{8}, 3) },
		"other kind":    func() (Key, error) { return Unwrap(t.Context(), sealers.Product, otherKind, id, 3) },
	} {
		if _, err := unwrap(); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecoverySlot(t *testing.T) {
	key, id, secret := Key{1, 2, 3}, ID{9}, bytes.Repeat([]byte{7}, KeySize)
	slot, err := WrapRecovery(rand.Reader, secret, key, id, 3)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := UnwrapRecovery(secret, slot, id, 3); err != nil || got != key {
		t.Errorf("UnwrapRecovery: %v", err)
	}
	for name, wrong := range map[string][]byte{
		"other": bytes.Repeat([]byte{8}, KeySize), "none": nil,
		"short": secret[:31], "long": append(bytes.Clone(secret), 0),
	} {
		if _, err := UnwrapRecovery(wrong, slot, id, 3); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s secret: %v", name, err)
		}
	}
	if _, err := UnwrapRecovery(secret, slot, id, 4); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other epoch: %v", err)
	}
	if _, err := WrapRecovery(rand.Reader, secret[:16], key, id, 3); !errors.Is(err, ErrMalformed) {
		t.Errorf("short secret: %v", err)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	key := Key(bytes.Repeat([]byte{0xAB}, KeySize))
	for _, format := range []string{"%v", "%+v", "%s", "%#v"} {
		if got := fmt.Sprintf(format, key); got != "seal.Key" {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

func sampleKeyFile() *KeyFile {
	product := []Slot{{Kind: Product, Sealer: "s", Data: []byte("d")}}
	return &KeyFile{Epochs: []EpochKeys{
		{Journal: ID{1}, Epoch: 1, TEE: "simulation", Slots: product, Watermark: []byte("w")},
		{Journal: ID{1}, Epoch: 2, TEE: "simulation", Slots: []Slot{{Kind: "kms", Data: []byte("e")}}},
	}}
}

func TestKeyFile(t *testing.T) {
	want := sampleKeyFile()
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseKeyFile(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 4
		if _, err := ParseKeyFile(changed); !errors.Is(err, ErrMalformed) {
			t.Errorf("byte %d changed: %v", i, err)
		}
		if _, err := ParseKeyFile(data[:i]); !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if e, ok := got.Find(ID{1}, 2); !ok || e.Epoch != 2 {
		t.Error("epoch 2 not found")
	}
	if _, ok := got.Find(ID{2}, 2); ok {
		t.Error("found an epoch of another journal")
	}
}

func TestID(t *testing.T) {
	var id ID
	zeros := strings.Repeat("0", 33)
	for _, bad := range []string{"", "00", zeros[:31], zeros, strings.Repeat("A", 32), "../" + zeros[:29]} {
		if err := id.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
	var back ID
	if err := back.UnmarshalText([]byte(ID{1, 0xfe}.String())); err != nil || back != (ID{1, 0xfe}) {
		t.Errorf("%v, %v", back, err)
	}
}

func TestWatermark(t *testing.T) {
	c := NewCipher(Key{1}, Watermarks, rand.Reader)
	want := Watermark{Position: 77, Chain: [32]byte{5}}
	sealed, err := SealWatermark(c, want, ID{1}, 2)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenWatermark(c, sealed, ID{1}, 2); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := OpenWatermark(c, sealed, ID{1}, 3); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other epoch: %v", err)
	}
}

func FuzzParseKeyFile(f *testing.F) {
	data, err := sampleKeyFile().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	empty, err := new(KeyFile).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := ParseKeyFile(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := file.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseKeyFile(again)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(file)
		b, _ := json.Marshal(back)
		if !bytes.Equal(a, b) {
			t.Errorf("%s became %s", a, b)
		}
	})
}

func BenchmarkCipher(b *testing.B) {
	c := NewCipher(Key{1}, Records, rand.Reader)
	plaintext, aad := make([]byte, 700), make([]byte, 68)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Seal(nil, plaintext, aad); err != nil {
				b.Fatal(err)
			}
		}
	})
}
