// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"
	"time"
)

// TestIssueSecretCert: the values that contract manifest §7.1 always sets.
func TestIssueSecretCert(t *testing.T) {
	ca := newTestCA(t)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "db"}, DNSNames: []string{"db"}, NotAfter: testNow().AddDate(0, 0, 30),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := ca.IssueSecretCert(template, &ca.RootKey.PublicKey, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(ca.MarbleRoot); err != nil {
		t.Error(err)
	}
	if !cert.NotBefore.Equal(testNow()) || !cert.NotAfter.Equal(template.NotAfter) || cert.SerialNumber.BitLen() > 128 {
		t.Errorf("%v to %v, serial %v", cert.NotBefore, cert.NotAfter, cert.SerialNumber)
	}
	if !cert.BasicConstraintsValid || cert.IsCA || cert.Issuer.CommonName != IntermediateCommonName {
		t.Errorf("CA %v, issuer %v", cert.IsCA, cert.Issuer)
	}
	if template.SerialNumber != nil || !template.NotBefore.IsZero() {
		t.Error("the caller's template was changed")
	}
}

func TestIssueSecretCertRefuses(t *testing.T) {
	ca := newTestCA(t)
	extra := func(id ...int) *x509.Certificate {
		return &x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: id, Value: []byte("m")}}}
	}
	cn := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: IntermediateCommonName}
	named := func(name pkix.Name) *x509.Certificate { return &x509.Certificate{Subject: name} }
	for name, template := range map[string]*x509.Certificate{
		"Marble type":                      extra(1, 3, 9903, 2, 1),
		"Marble type, arc without octets":  extra(1, 3, 9903, 2, -5, 1),
		"Marble type, other first arcs":    extra(2, -37, 9903, 2, 1),
		"no object identifier":             extra(),
		"subject as raw bytes":             {RawSubject: forgedSubject(t, ca)},
		"named like the root":              named(pkix.Name{CommonName: RootCommonName}),
		"named like the intermediate":      named(pkix.Name{CommonName: IntermediateCommonName}),
		"named like it by ExtraNames":      named(pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{cn}}),
		"URI null":                         {URIs: []*url.URL{nil}},
		"range null":                       {PermittedIPRanges: []*net.IPNet{nil}},
		"MaxPathLen without IsCA":          {MaxPathLen: 1},
		"signature of another key kind":    {SignatureAlgorithm: x509.SHA256WithRSA},
		"address of no length":             {IPAddresses: []net.IP{nil}},
		"year that no certificate can say": {NotAfter: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if template.NotAfter.IsZero() {
			template.NotAfter = testNow().Add(time.Hour)
		}
		der, err := ca.IssueSecretCert(template, &ca.RootKey.PublicKey, testNow(), rand.Reader)
		if err == nil || der != nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestNegativeArcsVanish is why object identifiers are compared by their encoding. If it fails, encoding/asn1 has
// become stricter and the comparison may go.
func TestNegativeArcsVanish(t *testing.T) {
	for _, id := range []asn1.ObjectIdentifier{{1, 3, 9903, 2, -5, 1}, {2, -37, 9903, 2, 1}} {
		der, err := asn1.Marshal(id)
		if err != nil || !bytes.Equal(der, []byte(derMarbleTypeOID)) {
			t.Errorf("%v: %x %v", id, der, err)
		}
	}
}

// forgedSubject is a subject followed by a public key and a Marble-type extension: x509 would copy it as it is.
func forgedSubject(t *testing.T, ca *CA) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(&ca.RootKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	ext := appendTLV(nil, tagSequence, []byte(derMarbleTypeOID), appendTLV(nil, tagOctetString, []byte("m")))
	return bytes.Join([][]byte{[]byte(derSubjectPrefix + testUUID), spki,
		appendTLV(nil, tagExtensions, appendTLV(nil, tagSequence, ext))}, nil)
}
