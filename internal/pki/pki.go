// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package pki is the CA chain and the certificate profiles of the Coordinator (contract marble-api §6).
//
//	Coordinator root  (self-signed, key R)
//	 └─ Intermediate  (subject I, key K, signed by R)        ┐ same subject, same key K, same key identifier
//	Marble Root       (subject I, key K, self-signed)        ┘
//	     ├─ Marble leaf         (signed by K)
//	     └─ secret certificates (signed by K)
//
// A leaf therefore verifies against the Marble Root alone and against the Coordinator root with the intermediate.
//
// # Invariants
//
//   - R never changes during the life of a state. Rotate replaces K and both of its certificates and keeps all names.
//   - Only IssueMarble makes a certificate with the Marble-type extension (1.3.9903.2.1). IssueSecretCert refuses a
//     template that asks for it in any spelling and looks again at what it signed, since that extension is what tells a
//     Marble from anything else.
//   - A leaf never carries a name of the Coordinator itself, however the host of a Marble asks for it.
//   - A CA is immutable and safe for concurrent use.
//
// # Cost
//
// One leaf costs one P-384 key generation and one signature, nothing more to speak of: the to-be-signed certificate is
// assembled from precomputed parts and is byte for byte what x509.CreateCertificate would sign; a property test shows
// it.
//
// Readers of randomness are parameters. Since Go 1.26 the standard library makes keys and signatures from the system's
// generator whatever reader it is given; serial numbers come from the reader.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"time"
)

// Subject common names of the hierarchy. Secret certificates must not use them.
const (
	RootCommonName         = "MarbleRun Coordinator"
	IntermediateCommonName = "MarbleRun Coordinator - Intermediate CA"
)

// Lifetime is the validity of every certificate here but those of secrets: 2^63-1 ns, about 292 years.
const Lifetime time.Duration = math.MaxInt64

// CA is the hierarchy with its keys. Make one with New, Rotate or Unmarshal; a literal cannot issue.
type CA struct {
	Root, Intermediate, MarbleRoot *x509.Certificate
	RootKey, IntermediateKey       *ecdsa.PrivateKey

	derived *derived
}

// derived is what is computed once per CA.
type derived struct {
	rootPEM, intermediatePEM, marbleRootPEM []byte
	leaf                                    leafParts
	names                                   reservedNames
}

// Options say what a new hierarchy is made of.
type Options struct {
	// DNSNames and IPs are those of EDG_COORDINATOR_DNS_NAMES; 127.0.0.1 and ::1 are put before the IPs.
	DNSNames []string
	IPs      []net.IP
	Now      time.Time
	Rand     io.Reader
}

// New makes a hierarchy with new keys.
func New(o Options) (*CA, error) {
	rootKey, err := newKey(o.Rand)
	if err != nil {
		return nil, err
	}
	ips := append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, o.IPs...)
	template, err := caTemplate(RootCommonName, o.DNSNames, ips, o.Now, o.Rand)
	if err != nil {
		return nil, err
	}
	root, err := create(template, template, &rootKey.PublicKey, rootKey, o.Rand)
	if err != nil {
		return nil, fmt.Errorf("creating the Coordinator root certificate: %w", err)
	}
	return (&CA{Root: root, RootKey: rootKey}).Rotate(o.Now, o.Rand)
}

// Rotate returns a hierarchy under the same root with a new key K, intermediate and Marble Root. Their names are the
// root's, IP addresses included.
func (ca *CA) Rotate(now time.Time, rand io.Reader) (*CA, error) {
	key, err := newKey(rand)
	if err != nil {
		return nil, err
	}
	next := &CA{Root: ca.Root, RootKey: ca.RootKey, IntermediateKey: key}
	next.Intermediate, err = next.intermediate(ca.Root, ca.RootKey, now, rand)
	if err != nil {
		return nil, fmt.Errorf("creating the intermediate certificate: %w", err)
	}
	next.MarbleRoot, err = next.intermediate(nil, key, now, rand)
	if err != nil {
		return nil, fmt.Errorf("creating the Marble Root certificate: %w", err)
	}
	return next, next.derive()
}

// intermediate makes a certificate for K, self-signed if parent is nil.
func (ca *CA) intermediate(
	parent *x509.Certificate, signer *ecdsa.PrivateKey, now time.Time, rand io.Reader,
) (*x509.Certificate, error) {
	template, err := caTemplate(IntermediateCommonName, ca.Root.DNSNames, ca.Root.IPAddresses, now, rand)
	if err != nil {
		return nil, err
	}
	if parent == nil {
		parent = template
	}
	return create(template, parent, &ca.IntermediateKey.PublicKey, signer, rand)
}

func caTemplate(name string, dns []string, ips []net.IP, now time.Time, rand io.Reader) (*x509.Certificate, error) {
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now,
		NotAfter:              now.Add(Lifetime),
		BasicConstraintsValid: true,
		IsCA:                  true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:              dns,
		IPAddresses:           ips,
	}, nil
}

func create(
	template, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer, rand io.Reader,
) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand, template, parent, pub, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newKey(rand io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand)
	if err != nil {
		return nil, fmt.Errorf("generating a P-384 key: %w", err)
	}
	return key, nil
}

// newSerial returns a serial number below 2^128 as 16 big-endian bytes. It is never zero.
func newSerial(rand io.Reader) ([]byte, error) {
	serial := make([]byte, 16)
	for allZero(serial) {
		if _, err := io.ReadFull(rand, serial); err != nil {
			return nil, fmt.Errorf("reading randomness for a serial number: %w", err)
		}
	}
	return serial, nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// SignManifest returns the signature of contract manifest §14: ASN.1 DER ECDSA by the root key over SHA-256(data).
func SignManifest(ca *CA, data []byte) ([]byte, error) {
	if ca.RootKey == nil {
		return nil, errors.New("signing: the CA has no root key")
	}
	digest := sha256.Sum256(data)
	signature, err := ecdsa.SignASN1(rand.Reader, ca.RootKey, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing with the Coordinator root key: %w", err)
	}
	return signature, nil
}
