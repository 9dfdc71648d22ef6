// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package coordinatortest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"
)

// User is a user's credentials.
type User struct {
	Name string
	// Certificate is self-signed, with its key (ECDSA P-256).
	Certificate tls.Certificate
	// PEM is the certificate as Users[name].Certificate of a manifest has it.
	PEM string
}

// NewUser makes credentials. The name is the certificate's common name, which nobody looks at.
func NewUser(t testing.TB, name string) User {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return User{
		Name: name, Certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}
}

// RecoveryKey is a recovery key and its holder's private key.
type RecoveryKey struct {
	Private *rsa.PrivateKey
	// PEM is the public key as RecoveryKeys[name] of a manifest has it.
	PEM string
}

// NewRecoveryKey makes an RSA key of 2048 bits.
func NewRecoveryKey(t testing.TB) RecoveryKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return RecoveryKey{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

// presentedBy returns the certificate (DER) that the server at addr presents.
func presentedBy(ctx context.Context, addr string) ([]byte, error) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("asking the test Coordinator for its root certificate: %w", err)
	}
	defer func(c net.Conn) { _ = c.Close() }(conn)
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw, nil
}
