// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest"
)

func generate(t *testing.T, text string) map[string]Value {
	t.Helper()
	values, err := GenerateShared(t.Context(), parse(t, text), newTestCA(t), nil, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// TestGenerateTypes: contract manifest §6, the columns of a secret, and client-api §8.
func TestGenerateTypes(t *testing.T) {
	values := generate(t, `{"Secrets":{
		"sym": {"Type":"symmetric-key","Size":128,"Shared":true},
		"rsa": {"Type":"cert-rsa","Size":2048,"Shared":true},
		"ec":  {"Type":"cert-ecdsa","Size":521,"Shared":true,"ValidFor":7},
		"ed":  {"Type":"cert-ed25519","Shared":true},
		"own": {"Type":"symmetric-key","Size":128}, "user": {"Type":"plain","UserDefined":true,"Shared":true}}}`)
	if len(values) != 4 {
		t.Errorf("%d values: only shared, generated secrets are stored", len(values))
	}
	if v := values["sym"]; len(v.Private) != 16 || !bytes.Equal(v.Private, v.Public) || v.Cert != nil || v.ValidFor != 0 {
		t.Errorf("symmetric key: %d bytes, valid for %d", len(v.Private), v.ValidFor)
	}
	for name, check := range map[string]func(key any) bool{
		"rsa": func(key any) bool { k, ok := key.(*rsa.PrivateKey); return ok && k.N.BitLen() == 2048 },
		"ec":  func(key any) bool { k, ok := key.(*ecdsa.PrivateKey); return ok && k.Params().BitSize == 521 },
		"ed":  func(key any) bool { _, ok := key.(ed25519.PrivateKey); return ok },
	} {
		v := values[name]
		key, err := x509.ParsePKCS8PrivateKey(v.Private)
		if err != nil || !check(key) {
			t.Errorf("%s: key %T %v", name, key, err)
		}
		if cert := parseCert(t, v.Cert); !bytes.Equal(cert.RawSubjectPublicKeyInfo, v.Public) {
			t.Errorf("%s: Public is not the certificate's key", name)
		}
	}
	if values["ec"].ValidFor != 7 || values["rsa"].ValidFor != 365 {
		t.Errorf("ValidFor %d and %d, want 7 and the default", values["ec"].ValidFor, values["rsa"].ValidFor)
	}
}

// TestSizes: contract manifest §7 "Size rules".
func TestSizes(t *testing.T) {
	for _, c := range []struct {
		def manifest.Secret
		ok  bool
	}{
		{manifest.Secret{Type: "symmetric-key", Size: 8}, true},
		{manifest.Secret{Type: "symmetric-key"}, false},
		{manifest.Secret{Type: "symmetric-key", Size: 12}, false},
		{manifest.Secret{Type: "symmetric-key", Size: 65280}, true},
		{manifest.Secret{Type: "symmetric-key", Size: 65288}, false},
		{manifest.Secret{Type: "symmetric-key", Size: 65288, Shared: true}, true},
		{manifest.Secret{Type: "symmetric-key", Size: 1 << 40, Shared: true}, false},
		{manifest.Secret{Type: "cert-rsa", Size: 512}, false},
		{manifest.Secret{Type: "cert-rsa", Size: 1024}, true},
		{manifest.Secret{Type: "cert-rsa", Size: 8192}, true},
		{manifest.Secret{Type: "cert-rsa", Size: 8193}, false},
		{manifest.Secret{Type: "cert-ecdsa", Size: 224}, true},
		{manifest.Secret{Type: "cert-ecdsa", Size: 256}, true},
		{manifest.Secret{Type: "cert-ecdsa", Size: 384}, true},
		{manifest.Secret{Type: "cert-ecdsa", Size: 521}, true},
		{manifest.Secret{Type: "cert-ecdsa"}, false},
		{manifest.Secret{Type: "cert-ecdsa", Size: 512}, false},
		{manifest.Secret{Type: "cert-ed25519"}, true},
		{manifest.Secret{Type: "cert-ed25519", Size: 256}, false},
		{manifest.Secret{Type: "plain"}, false},
		{manifest.Secret{Type: "Symmetric-Key", Size: 8}, false},
	} {
		if err := checkSize(c.def); (err == nil) != c.ok {
			t.Errorf("%s, %d bits, shared %v: %v", c.def.Type, c.def.Size, c.def.Shared, err)
		}
	}
}

// TestCertificateDefaults: contract manifest §7.1, the table of defaults.
func TestCertificateDefaults(t *testing.T) {
	const generated = "MarbleRun Generated Certificate"
	year := testNow().AddDate(0, 0, 365)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	usage := x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign
	loopback := []string{"127.0.0.1", "::1"}
	for _, c := range []struct {
		name, def string
		cn        string
		dns, ips  []string
		usage     x509.KeyUsage
		ext       []x509.ExtKeyUsage
		notAfter  time.Time
	}{
		{"all absent", ``, "localhost", []string{"localhost"}, loopback, usage, both, year},
		{"one name", `"Cert":{"DNSNames":["db"]}`, "db", []string{"db"}, loopback, usage, both, year},
		{"two names", `"Cert":{"DNSNames":["a","b"]}`, generated, []string{"a", "b"}, loopback, usage, both, year},
		{"empty lists are not absent", `"Cert":{"DNSNames":[],"IPAddresses":[],"ExtKeyUsage":[]}`, generated, nil, nil,
			usage, nil, year},
		{"all given", `"ValidFor":30,"Cert":{"Subject":{"CommonName":"cn"},"IPAddresses":["10.0.0.1"],"KeyUsage":1,
			"ExtKeyUsage":[2]}`, "cn", []string{"localhost"}, []string{"10.0.0.1"}, x509.KeyUsageDigitalSignature,
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, testNow().AddDate(0, 0, 30)},
		{"fixed end", `"Cert":{"NotAfter":"2030-01-02T03:04:05Z"}`, "localhost", []string{"localhost"}, loopback, usage, both,
			time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)},
	} {
		t.Run(c.name, func(t *testing.T) {
			sep := ""
			if c.def != "" {
				sep = ","
			}
			values := generate(t, `{"Secrets":{"s":{"Type":"cert-ecdsa","Size":256,"Shared":true`+sep+c.def+`}}}`)
			cert := parseCert(t, values["s"].Cert)
			var ips []string
			for _, ip := range cert.IPAddresses {
				ips = append(ips, ip.String())
			}
			if cert.Subject.CommonName != c.cn || cert.KeyUsage != c.usage || !cert.NotAfter.Equal(c.notAfter) {
				t.Errorf("CN %q, key usage %b, until %v", cert.Subject.CommonName, cert.KeyUsage, cert.NotAfter)
			}
			if diff := cmp.Diff(c.dns, cert.DNSNames) + cmp.Diff(c.ips, ips) + cmp.Diff(c.ext, cert.ExtKeyUsage); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGenerateSharedKeeps(t *testing.T) {
	m := parse(t, `{"Secrets":{"a":{"Type":"symmetric-key","Size":64,"Shared":true},
		"b":{"Type":"symmetric-key","Size":64,"Shared":true}}}`)
	kept := Value{Type: "symmetric-key", Size: 64, Private: []byte("12345678")}
	keep := map[string]Value{"a": kept, "gone": kept}
	values, err := GenerateShared(t.Context(), m, newTestCA(t), keep, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(kept, values["a"]); diff != "" || len(values) != 2 || len(values["b"].Private) != 8 {
		t.Errorf("%s, %d values", diff, len(values))
	}
}

// TestGenerateRefuses: the error names the secret; a forged Marble identity does not get past generation either.
func TestGenerateRefuses(t *testing.T) {
	ca := newTestCA(t)
	for name, def := range map[string]string{
		"size":        `{"Type":"cert-ecdsa","Size":1,"Shared":true}`,
		"path length": `{"Type":"cert-ecdsa","Size":256,"Shared":true,"Cert":{"MaxPathLen":1}}`,
		"Marble type": `{"Type":"cert-ed25519","Shared":true,
			"Cert":{"ExtraExtensions":[{"Id":[1,3,9903,2,1],"Value":"bQ=="}]}}`,
	} {
		m := parse(t, fmt.Sprintf(`{"Secrets":{"ok":{"Type":"symmetric-key","Size":8,"Shared":true},"the one":%s}}`, def))
		_, err := GenerateShared(t.Context(), m, ca, nil, testNow(), rand.Reader)
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(`secret "the one": `)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGenerateStopsWhenCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := parse(t, `{"Secrets":{"a":{"Type":"cert-rsa","Size":8192,"Shared":true},"b":{"Type":"cert-rsa","Size":8192}}}`)
	if _, err := GenerateShared(ctx, m, newTestCA(t), nil, testNow(), rand.Reader); !errors.Is(err, context.Canceled) {
		t.Errorf("GenerateShared: %v", err)
	}
	if _, err := Placeholders(ctx, m, newTestCA(t), testNow(), rand.Reader); !errors.Is(err, context.Canceled) {
		t.Errorf("Placeholders: %v", err)
	}
}

// TestPlaceholders: contract manifest §12 step 5.
func TestPlaceholders(t *testing.T) {
	m := parse(t, `{"Secrets":{
		"sym":{"Type":"symmetric-key","Size":128}, "rsa":{"Type":"cert-rsa","Size":8192,"Cert":{"DNSNames":["x"]}},
		"rsa2":{"Type":"cert-rsa","Size":4096}, "ec":{"Type":"cert-ecdsa","Size":256},
		"shared":{"Type":"cert-ed25519","Shared":true}, "user":{"Type":"plain","UserDefined":true}}}`)
	values, err := Placeholders(t.Context(), m, newTestCA(t), testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(values) != 4 || len(values["sym"].Private) != 16 || values["rsa"].Size != 8192 {
		t.Errorf("%d values, key of %d bytes", len(values), len(values["sym"].Private))
	}
	if cert := parseCert(t, values["rsa"].Cert); cert.Subject.CommonName != "x" || cert.PublicKeyAlgorithm != x509.RSA {
		t.Errorf("%v %v", cert.Subject, cert.PublicKeyAlgorithm)
	}
	m = parse(t, `{"Secrets":{"k":{"Type":"symmetric-key","Size":7}}}`)
	if _, err := Placeholders(t.Context(), m, newTestCA(t), testNow(), rand.Reader); err == nil {
		t.Error("a bad size was not found")
	}
}

// TestTemplateIsNotChanged: generating twice from one manifest must not accumulate defaults in it.
func TestTemplateIsNotChanged(t *testing.T) {
	m := parse(t, `{"Secrets":{"s":{"Type":"cert-ecdsa","Size":256,"Shared":true}}}`)
	if _, err := GenerateShared(t.Context(), m, newTestCA(t), nil, testNow(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	got := m.Secrets["s"].Cert
	if got.DNSNames != nil || got.IPAddresses != nil || !got.NotAfter.IsZero() {
		t.Errorf("%+v", got)
	}
}
