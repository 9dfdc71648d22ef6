// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package credential loads what a person proves an identity with: the TLS client certificate of a user and the RSA key
// of a recovery-key holder, from files or from a PKCS #11 token.
//
// Invariant: private keys are used where they are and never copied, printed or put into an error.
package credential

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/marblerun/marblerun/api"
)

// Token selects a key, and for clients a certificate, of a PKCS #11 token. IDs and labels are literal bytes, not hex.
type Token struct {
	// Config is the path of a JSON file; empty: no token.
	Config            string
	KeyID, KeyLabel   string
	CertID, CertLabel string
}

// Close ends a session with a token. For files it does nothing.
type Close func() error

func nothing() error { return nil }

// RecoveryKey signs and decrypts for the holder of a recovery key. Its public key is RSA.
type RecoveryKey interface {
	crypto.Signer
	crypto.Decrypter
}

// LoadClient returns the user's certificate and key, from PEM files or from the token.
func LoadClient(certFile, keyFile string, token Token) (*tls.Certificate, Close, error) {
	if token.Config != "" {
		return openClient(token)
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		err = fmt.Errorf("loading client certificate: %w", err)
		if encryptedFile(keyFile) {
			err = api.WithHint(err, passphrase)
		}
		return nil, nothing, err
	}
	return &certificate, nothing, nil
}

// LoadRecoveryKey returns the holder's key, from a PEM file (PKCS #8 or PKCS #1) or from the token.
func LoadRecoveryKey(file string, token Token) (RecoveryKey, Close, error) {
	if token.Config != "" {
		return openKey(token)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nothing, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, nothing, api.WithHint(fmt.Errorf("%q did not contain a valid PEM block", file),
			"The recovery key is an RSA private key in PEM, PKCS #8 or PKCS #1.")
	}
	key, err := parseKey(block.Bytes)
	if err != nil && encrypted(block) {
		err = api.WithHint(err, passphrase)
	}
	return key, nothing, err
}

// passphrase is what to do about an encrypted key.
const passphrase = "The key is protected by a passphrase, which is not supported: 'openssl pkey -in FILE -out PLAIN' writes a " +
	"key without one. A PKCS #11 token protects it better."

// encryptedFile tells whether the first key in a file is encrypted.
func encryptedFile(path string) bool {
	data, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	block, rest := pem.Decode(data)
	for block != nil && !strings.Contains(block.Type, "PRIVATE KEY") {
		block, rest = pem.Decode(rest)
	}
	return block != nil && encrypted(block)
}

// encrypted tells whether a block is a key under a passphrase, in PKCS #8 (RFC 5958) or the older form of RFC 1421.
func encrypted(block *pem.Block) bool {
	return block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != ""
}

func parseKey(der []byte) (RecoveryKey, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if rsaKey, ok := key.(*rsa.PrivateKey); ok {
			return rsaKey, nil
		}
		return nil, api.WithHint(errors.New("loaded private key does not fulfill required interface"),
			fmt.Sprintf("Recovery keys are RSA keys; this one is %T.", key))
	} else if key, err1 := x509.ParsePKCS1PrivateKey(der); err1 != nil {
		return nil, fmt.Errorf("parsing private key: tried PKCS #1 format: %w, tried PKCS #8 format: %w", err1, err)
	} else {
		return key, nil
	}
}
