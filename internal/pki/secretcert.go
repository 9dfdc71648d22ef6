// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"
)

// CheckSecretTemplate refuses a template for a secret certificate that could pass for something else: the Marble-type
// extension in any spelling, the subject of a CA of the hierarchy, or raw bytes that x509 would copy unseen.
func CheckSecretTemplate(template *x509.Certificate) error {
	if len(template.RawSubject) > 0 {
		return errors.New("RawSubject is not allowed: use Subject")
	}
	if cn := template.Subject.CommonName; cn == RootCommonName || cn == IntermediateCommonName {
		return fmt.Errorf("the common name %q is reserved for the Coordinator", cn)
	}
	for _, ext := range template.ExtraExtensions {
		if err := checkExtensionID(ext.Id); err != nil {
			return err
		}
	}
	if slices.Contains(template.URIs, nil) || slices.Contains(template.PermittedIPRanges, nil) ||
		slices.Contains(template.ExcludedIPRanges, nil) {
		return errors.New("null is not allowed in URIs, PermittedIPRanges and ExcludedIPRanges")
	}
	return nil
}

// checkExtensionID compares encodings: encoding/asn1 writes nothing for a negative arc, so that 1.3.9903.2.-5.1 and
// others come out as the Marble-type extension.
func checkExtensionID(id asn1.ObjectIdentifier) error {
	if slices.ContainsFunc(id, func(arc int) bool { return arc < 0 }) {
		return fmt.Errorf("extension %v has a negative number in its object identifier", id)
	}
	der, err := asn1.Marshal(id)
	if err != nil {
		return fmt.Errorf("extension %v: %w", id, err)
	}
	if bytes.Equal(der, []byte(derMarbleTypeOID)) {
		return fmt.Errorf("extension %v is reserved: it would forge a Marble's identity", id)
	}
	return nil
}

// IssueSecretCert signs a certificate for pub from template, to which the caller has applied its defaults. The serial
// number, NotBefore (now), BasicConstraintsValid and the issuer are set here (contract manifest §7.1). The template is
// not changed.
func (ca *CA) IssueSecretCert(
	template *x509.Certificate, pub crypto.PublicKey, now time.Time, rand io.Reader,
) (der []byte, err error) {
	if err := CheckSecretTemplate(template); err != nil {
		return nil, fmt.Errorf("certificate template: %w", err)
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	t := *template
	t.SerialNumber, t.NotBefore, t.BasicConstraintsValid = new(big.Int).SetBytes(serial), now, true
	der, err = x509.CreateCertificate(rand, &t, ca.MarbleRoot, pub, ca.IntermediateKey)
	if err != nil {
		return nil, fmt.Errorf("creating the certificate: %w", err)
	}
	if err := ca.checkSecretCert(der); err != nil {
		return nil, err
	}
	return der, nil
}

// checkSecretCert looks at what was signed the way a verifier will.
func (ca *CA) checkSecretCert(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("the certificate template yields a certificate that does not parse: %w", err)
	}
	if bytes.Equal(cert.RawSubject, ca.MarbleRoot.RawSubject) || bytes.Equal(cert.RawSubject, ca.Root.RawSubject) {
		return errors.New("the certificate template asks for the subject of the Coordinator's CA")
	}
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(MarbleTypeOID()) {
			return errors.New("the certificate template asks for the Marble-type extension")
		}
	}
	return nil
}
