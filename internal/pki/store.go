// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// stored is the JSON form of a CA, for sealed storage only. Certificates are DER, keys PKCS #8 DER.
type stored struct {
	Root            []byte `json:"root"`
	Intermediate    []byte `json:"intermediate"`
	MarbleRoot      []byte `json:"marbleRoot"`
	RootKey         []byte `json:"rootKey"`
	IntermediateKey []byte `json:"intermediateKey"`
}

// Marshal returns the CA with its private keys as JSON. Store it sealed.
func (ca *CA) Marshal() ([]byte, error) {
	if ca.derived == nil {
		return nil, errIncomplete()
	}
	rootKey, err := x509.MarshalPKCS8PrivateKey(ca.RootKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the root key: %w", err)
	}
	intermediateKey, err := x509.MarshalPKCS8PrivateKey(ca.IntermediateKey)
	if err != nil {
		return nil, fmt.Errorf("encoding the intermediate key: %w", err)
	}
	return json.Marshal(stored{
		Root: ca.Root.Raw, Intermediate: ca.Intermediate.Raw, MarbleRoot: ca.MarbleRoot.Raw,
		RootKey: rootKey, IntermediateKey: intermediateKey,
	})
}

// Unmarshal reads what Marshal wrote. It checks that the keys belong to the certificates, but not the signatures:
// the seal did that.
func Unmarshal(data []byte) (*CA, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decoding the CA: %w", err)
	}
	ca := &CA{}
	for _, c := range []struct {
		name string
		der  []byte
		into **x509.Certificate
	}{
		{"root", s.Root, &ca.Root}, {"intermediate", s.Intermediate, &ca.Intermediate},
		{"Marble Root", s.MarbleRoot, &ca.MarbleRoot},
	} {
		cert, err := x509.ParseCertificate(c.der)
		if err != nil {
			return nil, fmt.Errorf("decoding the %s certificate: %w", c.name, err)
		}
		*c.into = cert
	}
	var err error
	if ca.RootKey, err = keyFor(s.RootKey, ca.Root); err != nil {
		return nil, fmt.Errorf("decoding the root key: %w", err)
	}
	if ca.IntermediateKey, err = keyFor(s.IntermediateKey, ca.Intermediate, ca.MarbleRoot); err != nil {
		return nil, fmt.Errorf("decoding the intermediate key: %w", err)
	}
	return ca, ca.derive()
}

func keyFor(pkcs8 []byte, certs ...*x509.Certificate) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, errors.New("it is not a P-384 key")
	}
	for _, cert := range certs {
		if !key.PublicKey.Equal(cert.PublicKey) {
			return nil, errors.New("it does not belong to its certificate")
		}
	}
	return key, nil
}

// derive computes once what issuing needs again and again.
func (ca *CA) derive() error {
	leaf, err := newLeafParts(ca.MarbleRoot)
	if err != nil {
		return err
	}
	ca.derived = &derived{
		rootPEM:         certPEM(ca.Root.Raw),
		intermediatePEM: certPEM(ca.Intermediate.Raw),
		marbleRootPEM:   certPEM(ca.MarbleRoot.Raw),
		leaf:            leaf,
		names:           newReservedNames(ca.Root),
	}
	return nil
}

func errIncomplete() error {
	return errors.New("the CA is incomplete: make it with New, Rotate or Unmarshal")
}

// PEMChain returns the intermediate and then the root certificate as PEM.
func (ca *CA) PEMChain() []byte { return append(ca.IntermediatePEM(), ca.derived.rootPEM...) }

// RootPEM returns the Coordinator root certificate as PEM.
func (ca *CA) RootPEM() []byte { return slices.Clone(ca.derived.rootPEM) }

// IntermediatePEM returns the intermediate certificate as PEM.
func (ca *CA) IntermediatePEM() []byte { return slices.Clone(ca.derived.intermediatePEM) }

// MarbleRootPEM returns the Marble Root certificate as PEM.
func (ca *CA) MarbleRootPEM() []byte { return slices.Clone(ca.derived.marbleRootPEM) }

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
