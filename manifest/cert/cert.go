// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package cert is the part of the manifest language that describes certificates to generate (contract manifest §7.1).
package cert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"time"
)

// Template describes a certificate to generate. Its fields are those of x509.Certificate that have an effect; nil and
// empty lists differ for DNSNames, IPAddresses and ExtKeyUsage. No defaults are applied here.
type Template struct {
	Subject  pkix.Name
	NotAfter time.Time

	DNSNames       []string
	IPAddresses    []net.IP
	EmailAddresses []string
	URIs           []*url.URL

	KeyUsage           x509.KeyUsage
	ExtKeyUsage        []x509.ExtKeyUsage
	UnknownExtKeyUsage []asn1.ObjectIdentifier

	IsCA           bool
	MaxPathLen     int
	MaxPathLenZero bool

	SignatureAlgorithm x509.SignatureAlgorithm // of the issuer's P-384 key, 0 = ECDSA-SHA384
	SubjectKeyId       []byte
	AuthorityKeyId     []byte

	OCSPServer            []string
	IssuingCertificateURL []string
	CRLDistributionPoints []string
	PolicyIdentifiers     []asn1.ObjectIdentifier
	Policies              []x509.OID

	PermittedDNSDomainsCritical bool
	PermittedDNSDomains         []string
	ExcludedDNSDomains          []string
	PermittedIPRanges           []*net.IPNet
	ExcludedIPRanges            []*net.IPNet
	PermittedEmailAddresses     []string
	ExcludedEmailAddresses      []string
	PermittedURIDomains         []string
	ExcludedURIDomains          []string

	ExtraExtensions []pkix.Extension

	// RawSubject must be empty: it would be copied into the certificate unchecked.
	RawSubject []byte
}

// X509 returns the template as x509.CreateCertificate takes it, without the language's defaults and without the
// fields that the Coordinator sets (SerialNumber, NotBefore, BasicConstraintsValid).
func (c Template) X509() *x509.Certificate {
	return &x509.Certificate{
		Subject: c.Subject, NotAfter: c.NotAfter, DNSNames: c.DNSNames, IPAddresses: c.IPAddresses,
		EmailAddresses: c.EmailAddresses, URIs: c.URIs, KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage,
		UnknownExtKeyUsage: c.UnknownExtKeyUsage, IsCA: c.IsCA, MaxPathLen: c.MaxPathLen, MaxPathLenZero: c.MaxPathLenZero,
		SignatureAlgorithm: c.SignatureAlgorithm, SubjectKeyId: c.SubjectKeyId, AuthorityKeyId: c.AuthorityKeyId,
		OCSPServer: c.OCSPServer, IssuingCertificateURL: c.IssuingCertificateURL,
		CRLDistributionPoints: c.CRLDistributionPoints, PolicyIdentifiers: c.PolicyIdentifiers, Policies: c.Policies,
		PermittedDNSDomainsCritical: c.PermittedDNSDomainsCritical, PermittedDNSDomains: c.PermittedDNSDomains,
		ExcludedDNSDomains: c.ExcludedDNSDomains, PermittedIPRanges: c.PermittedIPRanges,
		ExcludedIPRanges:        c.ExcludedIPRanges,
		PermittedEmailAddresses: c.PermittedEmailAddresses, ExcludedEmailAddresses: c.ExcludedEmailAddresses,
		PermittedURIDomains: c.PermittedURIDomains, ExcludedURIDomains: c.ExcludedURIDomains,
		ExtraExtensions: c.ExtraExtensions,
	}
}
