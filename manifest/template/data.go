// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Data is what a template is executed on (contract manifest §6).
type Data struct {
	MarbleRun Reserved
	Secrets   map[string]Secret
	Previous  Previous
}

// Reserved are the credentials that the Coordinator issues.
type Reserved struct {
	RootCA                  Secret // Cert: the Marble Root
	MarbleCert              Secret // Cert, Public (PKIX DER), Private (PKCS#8 DER) of the Marble
	CoordinatorRoot         Secret // Cert
	CoordinatorIntermediate Secret // Cert
}

// Previous are the values before the last full update that regenerated them.
type Previous struct {
	Secrets map[string]Secret
}

// Secret is a secret as a template sees it.
type Secret struct {
	Type        string
	Size        uint // bits
	Shared      bool
	UserDefined bool
	ValidFor    uint // days
	Cert        Certificate
	Public      PublicKey  // certificates: PKIX DER; others: the same bytes as Private
	Private     PrivateKey // certificates: PKCS#8 DER, or as uploaded; others: the key or the data
}

// PublicKey and PrivateKey are bytes that the functions know how to encode.
type (
	PublicKey  []byte
	PrivateKey []byte
)

// Certificate is a parsed certificate without methods. Raw is its DER; a Certificate with only Raw set works with all
// functions, the other fields serve templates that print them.
type Certificate struct {
	Raw                     []byte
	RawTBSCertificate       []byte
	RawSubjectPublicKeyInfo []byte
	RawSubject              []byte
	RawIssuer               []byte
	Signature               []byte
	SignatureAlgorithm      string // e.g. ECDSA-SHA384
	PublicKeyAlgorithm      string // e.g. ECDSA
	Version                 int
	SerialNumber            string // decimal
	Issuer                  Name
	Subject                 Name
	NotBefore               string // e.g. 2026-01-02 15:04:05 +0000 UTC
	NotAfter                string
	KeyUsage                int
	ExtKeyUsage             []int
	Extensions              []Extension
	BasicConstraintsValid   bool
	IsCA                    bool
	MaxPathLen              int
	MaxPathLenZero          bool
	SubjectKeyId            []byte
	AuthorityKeyId          []byte
	OCSPServer              []string
	IssuingCertificateURL   []string
	DNSNames                []string
	EmailAddresses          []string
	IPAddresses             []string
	URIs                    []string
	PermittedDNSDomains     []string
	ExcludedDNSDomains      []string
	CRLDistributionPoints   []string
}

// Extension is an X.509 extension.
type Extension struct {
	Id       string // dotted
	Critical bool
	Value    []byte
}

// Name is a distinguished name. It prints as in RFC 2253, like Go's pkix.Name.
type Name struct {
	Country            []string
	Organization       []string
	OrganizationalUnit []string
	Locality           []string
	Province           []string
	StreetAddress      []string
	PostalCode         []string
	SerialNumber       string
	CommonName         string
	text               string
}

// Format implements fmt.Formatter. It is not a String method because a template could call that.
func (n Name) Format(f fmt.State, verb rune) { fmt.Fprintf(f, fmt.FormatString(f, verb), n.text) }

// ParseCertificate parses DER.
func ParseCertificate(der []byte) (Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("parsing certificate: %w", err)
	}
	return DescribeCertificate(c), nil
}

// DescribeCertificate copies what templates may see.
func DescribeCertificate(c *x509.Certificate) Certificate {
	out := Certificate{
		Raw: c.Raw, RawTBSCertificate: c.RawTBSCertificate, RawSubjectPublicKeyInfo: c.RawSubjectPublicKeyInfo,
		RawSubject: c.RawSubject, RawIssuer: c.RawIssuer, Signature: c.Signature,
		SignatureAlgorithm: c.SignatureAlgorithm.String(), PublicKeyAlgorithm: c.PublicKeyAlgorithm.String(),
		Version: c.Version, Issuer: describeName(c.Issuer), Subject: describeName(c.Subject),
		NotBefore: c.NotBefore.String(), NotAfter: c.NotAfter.String(), KeyUsage: int(c.KeyUsage),
		BasicConstraintsValid: c.BasicConstraintsValid, IsCA: c.IsCA, MaxPathLen: c.MaxPathLen,
		MaxPathLenZero: c.MaxPathLenZero, SubjectKeyId: c.SubjectKeyId, AuthorityKeyId: c.AuthorityKeyId,
		OCSPServer: c.OCSPServer, IssuingCertificateURL: c.IssuingCertificateURL, DNSNames: c.DNSNames,
		EmailAddresses: c.EmailAddresses, PermittedDNSDomains: c.PermittedDNSDomains,
		ExcludedDNSDomains: c.ExcludedDNSDomains, CRLDistributionPoints: c.CRLDistributionPoints,
		IPAddresses: each(c.IPAddresses, net.IP.String), URIs: each(c.URIs, (*url.URL).String),
		ExtKeyUsage: each(c.ExtKeyUsage, func(u x509.ExtKeyUsage) int { return int(u) }),
		Extensions: each(c.Extensions, func(e pkix.Extension) Extension {
			return Extension{Id: e.Id.String(), Critical: e.Critical, Value: e.Value}
		}),
	}
	if c.SerialNumber != nil {
		out.SerialNumber = c.SerialNumber.String()
	}
	return out
}

func describeName(n pkix.Name) Name {
	return Name{
		Country: n.Country, Organization: n.Organization, OrganizationalUnit: n.OrganizationalUnit, Locality: n.Locality,
		Province: n.Province, StreetAddress: n.StreetAddress, PostalCode: n.PostalCode,
		SerialNumber: n.SerialNumber, CommonName: n.CommonName, text: n.String(),
	}
}

func each[A, B any](in []A, f func(A) B) []B {
	if in == nil {
		return nil
	}
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

// PlaceholderCertificate stands for a certificate that does not exist yet, in a dry run.
func PlaceholderCertificate() Certificate {
	name := Name{CommonName: "placeholder", text: "CN=placeholder"}
	raw := []byte(strings.Repeat("certificate ", 8))
	return Certificate{
		Raw: raw, RawTBSCertificate: raw, RawSubjectPublicKeyInfo: raw, RawSubject: raw, RawIssuer: raw, Signature: raw,
		SignatureAlgorithm: "ECDSA-SHA384", PublicKeyAlgorithm: "ECDSA", Version: 3, SerialNumber: "1",
		Issuer: name, Subject: name, NotBefore: "2026-01-01 00:00:00 +0000 UTC", NotAfter: "2027-01-01 00:00:00 +0000 UTC",
		KeyUsage: 1, ExtKeyUsage: []int{1}, BasicConstraintsValid: true, SubjectKeyId: raw, AuthorityKeyId: raw,
		DNSNames: []string{"localhost"}, IPAddresses: []string{"127.0.0.1"},
	}
}
