// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
)

// maxSoftwareRoots bounds the trials that a refusal costs.
const maxSoftwareRoots = 16

// softwareRoot is one root key of a software TEE, of one kind.
type softwareRoot struct {
	// id is the first 16 hex digits of the SHA-256 of the key (SubjectPublicKeyInfo, DER).
	id   string
	dcap dcap.Roots
	snp  snp.Roots
}

func (r softwareRoot) kind() string {
	for p := range r.snp {
		return "SEV-SNP " + string(p)
	}
	return "SGX and TDX"
}

// mark puts the root into the claims, which may be nil.
func (r softwareRoot) mark(c *attest.Claims) {
	if c != nil {
		c.Collateral = append(c.Collateral, "root:software:"+r.id)
	}
}

// parseSoftwareRoots reads root certificates in PEM: with an ECDSA P-256 key they are Intel-like, with an RSA key AMD-like,
// and named ARK-<product>.
func parseSoftwareRoots(data []byte) (roots []softwareRoot, err error) {
	rest := bytes.TrimSpace(data)
	for len(rest) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("software TEE roots: want certificates in PEM and nothing else")
		}
		rest = bytes.TrimSpace(rest)
		root, err := parseSoftwareRoot(block)
		if err != nil {
			return nil, fmt.Errorf("software TEE roots: %w", err)
		}
		roots = append(roots, root)
	}
	if len(roots) > maxSoftwareRoots {
		return nil, fmt.Errorf("software TEE roots: %d certificates, at most %d are taken", len(roots), maxSoftwareRoots)
	}
	return roots, nil
}

func parseSoftwareRoot(block *pem.Block) (softwareRoot, error) {
	if block.Type != "CERTIFICATE" {
		return softwareRoot{}, fmt.Errorf("PEM block %.40q; want CERTIFICATE", block.Type)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return softwareRoot{}, fmt.Errorf("reading certificate: %w", err)
	}
	root := softwareRoot{id: fmt.Sprintf("%x", sha256.Sum256(cert.RawSubjectPublicKeyInfo))[:16]}
	if hardware(cert.PublicKey) {
		return softwareRoot{}, fmt.Errorf("%q is a vendor's own root, which is trusted anyway", cert.Subject.CommonName)
	}
	switch key := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return softwareRoot{}, fmt.Errorf("the key of %q is not P-256", cert.Subject.CommonName)
		}
		root.dcap = dcap.Roots{key}
	case *rsa.PublicKey:
		root.snp, err = snp.ParseRoots(pem.EncodeToMemory(block))
	default:
		err = fmt.Errorf("the key of %q is neither ECDSA P-256 nor RSA", cert.Subject.CommonName)
	}
	return root, err
}

// hardware tells whether a key is Intel's or AMD's root.
func hardware(key crypto.PublicKey) bool {
	if dcap.IntelRoot().Equal(key) {
		return true
	}
	for _, keys := range snp.AMDRoots() {
		if slices.ContainsFunc(keys, func(k *rsa.PublicKey) bool { return k.Equal(key) }) {
			return true
		}
	}
	return false
}
