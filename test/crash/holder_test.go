// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// holder has a recovery key.
type holder struct {
	key *rsa.PrivateKey
	pem string
}

func newHolder(t *testing.T) holder {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return holder{key, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
}

func (h holder) decrypt(t *testing.T, ciphertext []byte) []byte {
	t.Helper()
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, h.key, ciphertext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// request is a body of POST /api/v2/recover.
func (h holder) request(t *testing.T, secret []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(secret)
	signature, err := rsa.SignPKCS1v15(nil, h.key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(wire.RecoverRequest{RecoverySecret: secret, RecoverySecretSignature: signature})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// copySealedData returns a new state directory with the journal alone, as it comes to another machine.
func copySealedData(t *testing.T, from string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(from, "sealed_data"))
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(to, "sealed_data"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return to
}

// opens checks that the secret opens the deployment's state on another machine, and that an old one does not.
func (d *deployment) opens(h holder, secret []byte, old holder, oldSecret []byte) {
	d.t.Helper()
	other := harness.Start(d.t, harness.Options{Dir: copySealedData(d.t, d.Dir)})
	defer other.Kill()
	if !bytes.Equal(secret, oldSecret) {
		if r := other.Post("/api/v2/recover", old.request(d.t, oldSecret)); r.Code == http.StatusOK {
			d.t.Errorf("the recovery secret of the epoch before was accepted: %s", r.Body)
		}
	}
	r := other.Post("/api/v2/recover", h.request(d.t, secret))
	if r.Code != http.StatusOK || decode[wire.RecoverReply](d.t, r).Remaining != 0 {
		d.t.Fatalf("recovering on another machine: %d %s\n%s", r.Code, r.Body, other.Log())
	}
	got := decode[wire.ManifestV2](d.t, other.Get("/api/v2/manifest")).Manifest
	if !bytes.Equal(got, d.current()) {
		d.t.Errorf("another manifest after recovery:\n%s", got)
	}
}
