// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func newCSR(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	if key == nil {
		p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key = p384
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestCSR: contract marble-api §4 "CSR", §13 check 6, quirk Q3: SANs are copied, everything else is dropped.
func TestCSR(t *testing.T) {
	der := newCSR(t, &x509.CertificateRequest{
		Subject: pkix.Name{
			CommonName: "cn", Organization: []string{"o"}, OrganizationalUnit: []string{"ou"},
			Country: []string{"DE"}, Locality: []string{"l"}, SerialNumber: "1",
		},
		DNSNames: []string{"a", "b"}, IPAddresses: []net.IP{net.ParseIP("::1")},
		EmailAddresses: []string{"x@y"}, URIs: []*url.URL{{Scheme: "spiffe", Host: "x"}},
		ExtraExtensions: []pkix.Extension{{Id: MarbleTypeOID(), Value: []byte("admin")}},
	}, nil)
	csr, err := ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	_, cert := issue(t, newTestCA(t), csr)
	if cert.Subject.String() != "CN="+testUUID || cert.EmailAddresses != nil || cert.URIs != nil {
		t.Errorf("subject %v, mail %v, URIs %v", cert.Subject, cert.EmailAddresses, cert.URIs)
	}
	if diff := cmp.Diff([]string{"a", "b"}, cert.DNSNames); diff != "" || len(cert.IPAddresses) != 1 {
		t.Error(diff, cert.IPAddresses)
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(MarbleTypeOID()) && string(ext.Value) != "m" {
			t.Errorf("the CSR set the Marble type %q", ext.Value)
		}
	}
}

func TestCSRKeyKinds(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"ed25519": ed, "rsa": small} {
		if _, err := ParseCSR(newCSR(t, &x509.CertificateRequest{}, key)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseCSRRefuses(t *testing.T) {
	good := newCSR(t, &x509.CertificateRequest{DNSNames: []string{"web"}}, nil)
	names := make([]string, MaxCSRNames+1)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i)
	}
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"empty":               {nil, "parsing CSR"},
		"garbage":             {[]byte("garbage"), "parsing CSR"},
		"trailing byte":       {append(slices.Clone(good), 0), "parsing CSR"},
		"too long":            {append(slices.Clone(good), make([]byte, MaxCSRBytes)...), "at most 65536"},
		"too many names":      {newCSR(t, &x509.CertificateRequest{DNSNames: names}, nil), "at most 256"},
		"name was exchanged":  {bytes.Replace(good, []byte("web"), []byte("db1"), 1), "self-signature"},
		"RSA key without end": {hugeRSA(t), "at most 8192"},
	} {
		if _, err := ParseCSR(c.der); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hugeRSA returns a CSR whose signature need not be valid: its key must be refused before.
func hugeRSA(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	modulus := append([]byte{0xff}, bytes.Repeat([]byte{0xff}, MaxCSRRSABits/8)...)
	spki := appendTLV(nil, tagSequence,
		appendTLV(nil, tagSequence, []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00")),
		appendTLV(nil, tagBitString, []byte{0},
			appendTLV(nil, tagSequence, appendUnsigned(nil, modulus), []byte("\x02\x03\x01\x00\x01"))))
	small := newCSR(t, &x509.CertificateRequest{}, key)
	parsed, err := x509.ParseCertificateRequest(small)
	if err != nil {
		t.Fatal(err)
	}
	info := appendTLV(nil, tagSequence, []byte("\x02\x01\x00\x30\x00"), spki, []byte("\xa0\x00"))
	rest := small[bytes.Index(small, parsed.RawTBSCertificateRequest)+len(parsed.RawTBSCertificateRequest):]
	return appendTLV(nil, tagSequence, info, rest)
}

func FuzzParseCSR(f *testing.F) {
	f.Add([]byte{})
	f.Add(newCSR(f, &x509.CertificateRequest{}, nil))
	names := &x509.CertificateRequest{DNSNames: []string{"a", "*.b"}, IPAddresses: []net.IP{net.IPv6loopback}}
	f.Add(newCSR(f, names, nil))
	ca := newTestCA(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ParseCSR(der)
		if err != nil {
			return
		}
		_, cert := issue(t, ca, csr)
		if n := len(cert.DNSNames) + len(cert.IPAddresses); n > MaxCSRNames {
			t.Errorf("%d names", n)
		}
	})
}
