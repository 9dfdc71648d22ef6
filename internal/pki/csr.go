// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net"
)

// Bounds of a certificate signing request. Anyone who reaches the mesh port may send one.
const (
	MaxCSRBytes   = 64 << 10
	MaxCSRNames   = 256  // DNS and IP SANs together
	MaxCSRRSABits = 8192 // bounds the cost of checking the self-signature
)

// CSR is a checked PKCS #10 request. Only the names count: the Coordinator makes the Marble's key itself and drops the
// subject (contract marble-api §4, quirks Q2 and Q3).
type CSR struct {
	DER      []byte
	DNSNames []string
	IPs      []net.IP
}

// ParseCSR parses a PKCS #10 request in DER and verifies its self-signature.
func ParseCSR(der []byte) (*CSR, error) {
	if len(der) > MaxCSRBytes {
		return nil, fmt.Errorf("parsing CSR: it has %d bytes, at most %d are allowed", len(der), MaxCSRBytes)
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("parsing CSR: %w", err)
	}
	if n := len(req.DNSNames) + len(req.IPAddresses); n > MaxCSRNames {
		return nil, fmt.Errorf("parsing CSR: it has %d subject alternative names, at most %d are allowed", n, MaxCSRNames)
	}
	if key, ok := req.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > MaxCSRRSABits {
		return nil, fmt.Errorf("parsing CSR: its RSA key has %d bits, at most %d are allowed",
			key.N.BitLen(), MaxCSRRSABits)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("verifying the self-signature of the CSR: %w", err)
	}
	return &CSR{DER: der, DNSNames: req.DNSNames, IPs: req.IPAddresses}, nil
}
