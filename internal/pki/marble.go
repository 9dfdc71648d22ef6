// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// MarbleTypeOID returns 1.3.9903.2.1, the extension whose value is the Marble type as raw bytes (no ASN.1 header).
func MarbleTypeOID() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 9903, 2, 1} }

// Leaf is a Marble's certificate and key.
type Leaf struct {
	DER   []byte // the certificate
	Key   *ecdsa.PrivateKey
	PKCS8 []byte // the private key
	SPKI  []byte // the public key, PKIX
	// Dropped are the names that the CSR asked for and policy refused. The host of the Marble chose them.
	Dropped []string
}

// leafParts are the parts of a leaf that only depend on the CA.
type leafParts struct {
	algorithmAndIssuer []byte
	extensions         []byte // usages, basic constraints, authority key identifier
}

func newLeafParts(issuer *x509.Certificate) (leafParts, error) {
	if len(issuer.SubjectKeyId) != 20 {
		return leafParts{}, fmt.Errorf("the Marble Root's key identifier has %d bytes instead of 20",
			len(issuer.SubjectKeyId))
	}
	return leafParts{
		algorithmAndIssuer: slices.Concat([]byte(derECDSAWithSHA384), issuer.RawSubject),
		extensions:         slices.Concat([]byte(derLeafUsages), []byte(derAKIPrefix), issuer.SubjectKeyId),
	}, nil
}

// IssueMarble makes a key and a leaf for the Marble with the canonical UUID id (36 characters, lower case). Of the
// names in csr it drops the Coordinator's own (a wildcard that covers one included) and, if allowed is not nil,
// wildcards and those that neither equal an entry of it nor match one of the form *.suffix; localhost and loopback
// always pass.
func (ca *CA) IssueMarble(
	csr *CSR, id, marbleType string, allowed []string, now time.Time, rand io.Reader,
) (*Leaf, error) {
	if ca.derived == nil {
		return nil, errIncomplete()
	}
	if !isCanonicalUUID(id) {
		return nil, errors.New("issuing a Marble certificate: the UUID is not in canonical form")
	}
	key, err := newKey(rand)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	leaf := &Leaf{Key: key}
	if err := leaf.encodeKey(); err != nil {
		return nil, err
	}
	spec := leafSpec{serial: serial, notBefore: now, id: id, marbleType: marbleType, spki: leaf.SPKI}
	spec.dns, spec.ips, leaf.Dropped = newNameFilter(ca.derived.names, allowed).split(csr)
	tbs, err := ca.derived.leaf.assemble(spec)
	if err != nil {
		return nil, fmt.Errorf("issuing a Marble certificate: %w", err)
	}
	digest := sha512.Sum384(tbs)
	signature, err := ecdsa.SignASN1(rand, ca.IntermediateKey, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing a Marble certificate: %w", err)
	}
	value := appendTLV(nil, tagBitString, []byte{0}, signature)
	leaf.DER = appendTLV(nil, tagSequence, tbs, []byte(derECDSAWithSHA384), value)
	return leaf, nil
}

// encodeKey sets PKCS8 and SPKI. x509 would get there by way of reflection.
func (l *Leaf) encodeKey() error {
	scalar, err := l.Key.Bytes()
	if err != nil {
		return fmt.Errorf("encoding a Marble key: %w", err)
	}
	point, err := l.Key.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("encoding a Marble key: %w", err)
	}
	l.SPKI = slices.Concat([]byte(derSPKIPrefix), point)
	l.PKCS8 = slices.Concat([]byte(derPKCS8Prefix), scalar, []byte(derPKCS8Middle), point)
	return nil
}

// leafSpec is what differs from leaf to leaf.
type leafSpec struct {
	serial         []byte // big endian
	notBefore      time.Time
	id, marbleType string
	spki           []byte
	dns            []string
	ips            []net.IP
}

// assemble returns the DER of the TBSCertificate.
func (p leafParts) assemble(s leafSpec) ([]byte, error) {
	times, err := appendTime(nil, s.notBefore)
	if err != nil {
		return nil, err
	}
	if times, err = appendTime(times, s.notBefore.Add(Lifetime)); err != nil {
		return nil, err
	}
	marbleType := appendTLV(nil, tagOctetString, []byte(s.marbleType))
	marbleType = appendTLV(nil, tagSequence, []byte(derMarbleTypeOID), marbleType)
	extensions := appendTLV(nil, tagSequence, p.extensions, subjectAltName(s.dns, s.ips), marbleType)
	return appendTLV(make([]byte, 0, 768+len(extensions)), tagSequence,
		[]byte(derVersion3), appendUnsigned(nil, s.serial), p.algorithmAndIssuer, appendTLV(nil, tagSequence, times),
		[]byte(derSubjectPrefix+s.id), s.spki, appendTLV(nil, tagExtensions, extensions)), nil
}

// subjectAltName returns the extension with its names, nothing if there are none.
func subjectAltName(dns []string, ips []net.IP) []byte {
	if len(dns)+len(ips) == 0 {
		return nil
	}
	var names []byte
	for _, name := range dns {
		names = appendTLV(names, tagDNSName, []byte(name))
	}
	for _, ip := range ips {
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		names = appendTLV(names, tagIPAddress, ip)
	}
	value := appendTLV(nil, tagOctetString, appendTLV(nil, tagSequence, names))
	return appendTLV(nil, tagSequence, []byte(derSubjectAltNameOID), value)
}

// VerifyMarble tells which Marble a certificate belongs to (contract client-api §4). The certificate must verify
// against the current Marble Root directly, for server authentication, so that certificates from before an update fail.
func (ca *CA) VerifyMarble(cert *x509.Certificate, now time.Time) (marbleType, id string, err error) {
	roots := x509.NewCertPool()
	roots.AddCert(ca.MarbleRoot)
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return "", "", fmt.Errorf("verifying the certificate against the current Marble Root: %w", err)
	}
	if !isCanonicalUUID(cert.Subject.CommonName) {
		return "", "", errors.New("the certificate's common name is not a UUID")
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(MarbleTypeOID()) {
			return string(ext.Value), cert.Subject.CommonName, nil
		}
	}
	return "", "", errors.New("the certificate has no Marble-type extension: it does not belong to a Marble")
}

// isCanonicalUUID tells whether id is RFC 4122 text in lower case: 8-4-4-4-12 hexadecimal digits.
func isCanonicalUUID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}
