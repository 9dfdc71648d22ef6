// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package credential_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/credential"
)

func keyFile(t *testing.T, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRecoveryKey(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, path := range map[string]string{
		"PKCS #8": keyFile(t, "PRIVATE KEY", pkcs8(key)),
		"PKCS #1": keyFile(t, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)),
	} {
		got, _, err := credential.LoadRecoveryKey(path, credential.Token{})
		if err != nil || !key.PublicKey.Equal(got.Public()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, path := range map[string]string{
		"loaded private key does not fulfill required interface": keyFile(t, "PRIVATE KEY", pkcs8(ec)),
		"parsing private key: tried PKCS #1 format: ":            keyFile(t, "PRIVATE KEY", []byte("no key")),
		"no such file": "missing.pem",
	} {
		if got, _, err := credential.LoadRecoveryKey(path, credential.Token{}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want error %q", got, err, want)
		}
	}
}

// TestEncryptedKey: crypto/tls and crypto/x509 only say that they cannot parse it.
func TestEncryptedKey(t *testing.T) {
	blocks := map[string]*pem.Block{
		"PKCS #8":  {Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("cipher")},
		"RFC 1421": {Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("cipher")},
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("certificate")})
	for name, block := range blocks {
		path := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := credential.LoadRecoveryKey(path, credential.Token{}); !strings.Contains(api.Hint(err), "passphrase") {
			t.Errorf("%s: recovery key: %v, hint %q", name, err, api.Hint(err))
		}
		both := filepath.Join(t.TempDir(), "both.pem")
		if err := os.WriteFile(both, append(certificate, pem.EncodeToMemory(block)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := credential.LoadClient(both, both, credential.Token{}); !strings.Contains(api.Hint(err), "passphrase") {
			t.Errorf("%s: client: %v, hint %q", name, err, api.Hint(err))
		}
	}
}
