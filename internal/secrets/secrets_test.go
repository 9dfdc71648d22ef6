// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
)

const testUUID = "0f0e0d0c-0b0a-4908-8706-050403020100"

func testNow() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }

// testRoot is the root secret of the vectors: 00 01 … 1f.
func testRoot() []byte {
	root := make([]byte, 32)
	for i := range root {
		root[i] = byte(i)
	}
	return root
}

func newTestCA(t testing.TB) *pki.CA {
	t.Helper()
	ca, err := pki.New(pki.Options{DNSNames: []string{"localhost"}, Now: testNow(), Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func parse(t testing.TB, text string) *manifest.Manifest {
	t.Helper()
	m, err := manifest.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func parseCert(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestDerive: the vectors of contract marble-api §8.
func TestDerive(t *testing.T) {
	const l32 = "0f571759a4ecbf9ea69fe2dd69bb19c73986c7b42f6878c1730fa2979ad4080d"
	for _, c := range []struct {
		info string
		bits uint
		want string
	}{
		{"backend", 256, l32},
		{"backend", 128, "0f571759a4ecbf9ea69fe2dd69bb19c7"},
		{"", 256, "d6b924ad729fe117f8ed064d736f25631d31f9e0cdc2e313b6526a82e636d4ce"},
		{"backend", 384, l32 + "99ddf130cfb3075ae128144f64b4b30f"},
	} {
		got, err := Derive(testRoot(), testUUID, "encKey", c.info, c.bits)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("info %q, %d bits: got %x %v, want %s", c.info, c.bits, got, err, c.want)
		}
	}
	if key, err := Derive(testRoot(), testUUID, "encKey", "", 65280); err != nil || len(key) != 8160 {
		t.Errorf("the largest key: %d bytes, %v", len(key), err)
	}
}

func TestDeriveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		root []byte
		id   string
		bits uint
	}{
		"no root secret": {nil, testUUID, 256}, "UUID not canonical": {testRoot(), "{" + testUUID + "}", 256},
		"no size": {testRoot(), testUUID, 0}, "not whole bytes": {testRoot(), testUUID, 9},
		"above the HKDF limit": {testRoot(), testUUID, 65288},
	} {
		if key, err := Derive(c.root, c.id, "k", "", c.bits); err == nil {
			t.Errorf("%s: %x", name, key)
		}
	}
}

// TestValueJSON: the stored form keeps everything.
func TestValueJSON(t *testing.T) {
	v := Value{Type: "cert-rsa", Size: 2048, Shared: true, UserDefined: true, ValidFor: 3, Cert: []byte{1},
		Private: []byte{2}, Public: []byte{3}}
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var got Value
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(v, got); diff != "" {
		t.Error(diff)
	}
}

func TestTemplateSecrets(t *testing.T) {
	ca := newTestCA(t)
	views, err := TemplateSecrets(map[string]Value{
		"crt":   {Type: "cert-ecdsa", Cert: ca.Root.Raw, Public: []byte("pub"), Private: []byte("priv")},
		"unset": {Type: "plain"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if crt := views["crt"]; !bytes.Equal(crt.Cert.Raw, ca.Root.Raw) || crt.Cert.Subject.CommonName != pki.RootCommonName ||
		string(crt.Public) != "pub" || string(crt.Private) != "priv" {
		t.Errorf("%+v", crt)
	}
	_, err = TemplateSecrets(map[string]Value{"b": {Cert: []byte("x")}, "a": {Cert: []byte("x")}})
	if err == nil || !strings.HasPrefix(err.Error(), `secret "a"`) || !strings.Contains(err.Error(), `secret "b"`) {
		t.Errorf("want both problems, in order: %v", err)
	}
}
