// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cert

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/manifest/problem"
)

// oidMarbleType is the extension that names the type of a Marble in its certificate (contract marble-api §6).
func oidMarbleType() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 9903, 2, 1} }

// reservedName tells whether a common name is that of a CA of the Coordinator (contract marble-api §6).
func reservedName(cn string) bool {
	return cn == "MarbleRun Coordinator" || cn == "MarbleRun Coordinator - Intermediate CA"
}

// Check reports what is wrong with the template at path of a certificate that will be generated, in the end by making
// one.
func (t Template) Check(c *problem.Report, path string) {
	if reflect.ValueOf(t).IsZero() {
		return
	}
	before := c.Failures()
	if t.MaxPathLen < -1 || !t.IsCA && (t.MaxPathLen > 0 || t.MaxPathLenZero) {
		c.Fail(path+".MaxPathLen", "a path length is for a CA").Hint = "set IsCA, or leave out MaxPathLen and MaxPathLenZero"
	}
	switch t.SignatureAlgorithm {
	case 0, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512:
	default:
		c.Fail(path+".SignatureAlgorithm", "%d does not fit the issuer's ECDSA key", int(t.SignatureAlgorithm)).Hint =
			"leave it out, or use 10, 11 or 12 (ECDSA with SHA-256, SHA-384, SHA-512)"
	}
	if len(t.RawSubject) > 0 {
		c.Fail(path+".RawSubject", "would be copied into the certificate unchecked").Hint = "use Subject"
	}
	if reservedName(t.Subject.CommonName) {
		c.Fail(path+".Subject.CommonName", "the name %s is reserved for the Coordinator", problem.Quote(t.Subject.CommonName))
	}
	for i, e := range t.ExtraExtensions {
		if e.Id.Equal(oidMarbleType()) {
			c.Fail(problem.Item(path+".ExtraExtensions", i), "the extension 1.3.9903.2.1 would forge a Marble's identity")
		}
	}
	if hasNil(t) {
		c.Fail(path, "a list contains null")
	}
	if c.Failures() == before {
		t.trial(c, path)
	}
}

func hasNil(t Template) bool {
	ranges := slices.Concat(t.PermittedIPRanges, t.ExcludedIPRanges)
	return slices.Contains(t.URIs, (*url.URL)(nil)) || slices.Contains(ranges, (*net.IPNet)(nil))
}

// trial makes a certificate of the template with a key known to everybody and throws it away.
func (t Template) trial(c *problem.Report, path string) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	cert := t.X509()
	cert.SerialNumber, cert.BasicConstraintsValid, cert.SignatureAlgorithm = big.NewInt(1), true, 0
	cert.NotBefore = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	if cert.NotAfter.IsZero() {
		cert.NotAfter = cert.NotBefore
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "trial"}}
	der, err := x509.CreateCertificate(nil, cert, issuer, key.Public(), key)
	if err != nil {
		c.Fail(path, "no certificate can be made of it: %s", PlainError(err))
		return
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		c.Fail(path, "the certificate made of it would be malformed: %s", PlainError(err))
		return
	}
	if len(made.Subject.Names) == 1 && reservedName(made.Subject.CommonName) { // by ExtraNames
		c.Fail(path+".Subject", "the certificate made of it would carry the name of the Coordinator")
	}
	if made.IsCA { // by IsCA, or by an extension of its own
		c.Warn(path, "makes a real CA below the Marble Root")
	}
	if slices.ContainsFunc(made.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidMarbleType()) }) {
		c.Fail(path, "the certificate made of it would carry the extension 1.3.9903.2.1")
	}
}

// PlainError is an error of crypto/x509 without prefixes, bounded.
func PlainError(err error) string {
	return problem.Shorten(strings.TrimPrefix(strings.TrimPrefix(err.Error(), "x509: "), "asn1: "), 200)
}
