// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

func decrypt(t *testing.T, key *rsa.PrivateKey, ciphertext []byte) []byte {
	t.Helper()
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, key, ciphertext, nil)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// recoverWith uploads a plain secret, signed with the key.
func recoverWith(t *testing.T, c *harness.Coordinator, key *rsa.PrivateKey, secret []byte) harness.Reply {
	t.Helper()
	return upload(t, c, secret, sign(t, key, secret))
}

func sign(t *testing.T, key *rsa.PrivateKey, secret []byte) []byte {
	t.Helper()
	digest := sha256.Sum256(secret)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func upload(t *testing.T, c *harness.Coordinator, secret, signature []byte) harness.Reply {
	t.Helper()
	body, err := json.Marshal(wire.RecoverRequest{RecoverySecret: secret, RecoverySecretSignature: signature})
	if err != nil {
		t.Fatal(err)
	}
	return c.Post("/api/v2/recover", body)
}

// sealed is a Coordinator in state 1 with n recovery keys.
type sealed struct {
	*harness.Coordinator
	keys     []*rsa.PrivateKey
	secrets  [][]byte // plain
	original *x509.Certificate
}

func startSealed(t *testing.T, n, threshold int) sealed {
	t.Helper()
	s := sealed{Coordinator: harness.Start(t, harness.Options{})}
	keys := object{}
	for i := range n {
		key, pub := recoveryKey(t)
		s.keys = append(s.keys, key)
		keys[fmt.Sprintf("rk%d", i)] = pub
	}
	encrypted := s.MustSetManifest(manifestJSON(t, object{
		"RecoveryKeys": keys, "Config": object{"RecoveryThreshold": threshold},
	}))
	for i, key := range s.keys {
		s.secrets = append(s.secrets, decrypt(t, key, encrypted[fmt.Sprintf("rk%d", i)]))
	}
	mustActivate(t, s.Coordinator, "m", uuid1)
	s.original = root(t, s.Coordinator)
	s.Kill()
	if err := os.Remove(filepath.Join(s.Dir, "sealed_key")); err != nil {
		t.Fatal(err)
	}
	s.restart()
	equal(t, "status", status(t, s.Coordinator), 1)
	return s
}

func (s sealed) restart() {
	s.Kill()
	s.Run()
	s.WaitReady()
}

func (s sealed) give(t *testing.T, i int) harness.Reply {
	t.Helper()
	return recoverWith(t, s.Coordinator, s.keys[i], s.secrets[i])
}

func accepted(remaining int) string {
	if remaining == 0 {
		return `{"status":"success","data":{"remaining":0,"message":"Recovery successful."}}`
	}
	return fmt.Sprintf(`{"status":"success","data":{"remaining":%d,"message":"Secret was processed successfully. Upload the next`+
		` secret. Remaining secrets: %d"}}`, remaining, remaining)
}

// done checks that the original deployment is back and opens by itself after a restart.
func (s sealed) done(t *testing.T) {
	t.Helper()
	for range 2 {
		equal(t, "status", status(t, s.Coordinator), 3)
		if !root(t, s.Coordinator).Equal(s.original) {
			t.Error("another root after recovery")
		}
		page := decode[wire.ActivationsReply](t, s.Get("/api/v2/activations"))
		equal(t, "activations", len(page.Activations), 1)
		s.restart()
	}
}

const refused = `{"status":"error","data":null,"message":"setting recovery key: uploaded an invalid or already used secret"}`

// client-api.md §10, one key, with Q5 fixed: a wrong secret is refused and poisons nothing.
func TestRecoverSingleKey(t *testing.T) {
	s := startSealed(t, 1, 0)
	wrong := make([]byte, 32)
	wantReply(t, "wrong secret", recoverWith(t, s.Coordinator, s.keys[0], wrong), 500, refused)
	stranger, _ := recoveryKey(t)
	r := recoverWith(t, s.Coordinator, stranger, s.secrets[0])
	if r.Code != 500 || !strings.Contains(r.Message, "signature") {
		t.Errorf("a stranger's signature: %d %s", r.Code, r.Body)
	}
	equal(t, "status", status(t, s.Coordinator), 1)
	s.restart()
	equal(t, "status after a restart", status(t, s.Coordinator), 1)
	wantReply(t, "right secret", s.give(t, 0), 200, accepted(0))
	s.done(t)
}

// client-api.md §10, all of n, with a restart in the middle and a bad signature at the end.
func TestRecoverXOR(t *testing.T) {
	s := startSealed(t, 3, 0)
	wantReply(t, "share 1", s.give(t, 0), 200, accepted(2))
	wantReply(t, "share 1 again", s.give(t, 0), 500, refused)
	s.restart()
	wantReply(t, "share 2, after a restart", s.give(t, 1), 200, accepted(1))
	r := upload(t, s.Coordinator, s.secrets[2], sign(t, s.keys[0], s.secrets[2]))
	if r.Code != 500 || !strings.Contains(r.Message, "rk2") {
		t.Errorf("signed by another holder: %d %s; want the holder's name", r.Code, r.Body)
	}
	wantReply(t, "share 3", s.give(t, 2), 200, accepted(0))
	s.done(t)
}

// client-api.md §10, k of n, any order, with Q7 fixed: remaining counts to the threshold.
func TestRecoverShamir(t *testing.T) {
	s := startSealed(t, 4, 2)
	wantReply(t, "share 4", s.give(t, 3), 200, accepted(1))
	wantReply(t, "share 2", s.give(t, 1), 200, accepted(0))
	s.done(t)
}

// client-api.md §10: transport encryption with the ephemeral key.
func TestRecoverEncrypted(t *testing.T) {
	s := startSealed(t, 1, 0)
	reply := decode[wire.RecoveryPublicKey](t, s.Get("/api/v2/recover/public-key"))
	pub, err := x509.ParsePKIXPublicKey(reply.EphemeralPublicKey)
	if err != nil || reply.Algorithm != "RSA" {
		t.Fatal(err, reply.Algorithm)
	}
	equal(t, "size", pub.(*rsa.PublicKey).Size(), 512)
	r := upload(t, s.Coordinator, []byte("not encrypted"), nil)
	if r.Code != 400 || !strings.HasPrefix(r.Message, "failed to decrypt recovery secret: ") {
		t.Errorf("garbage: %d %s", r.Code, r.Body)
	}
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, pub.(*rsa.PublicKey), s.secrets[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	wantReply(t, "encrypted", upload(t, s.Coordinator, ciphertext, sign(t, s.keys[0], s.secrets[0])), 200, accepted(0))
	s.done(t)
}

// client-api.md §13: recovery endpoints outside state 1.
func TestRecoverInOtherStates(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	for range 2 {
		r := upload(t, c, make([]byte, 32), nil)
		if r.Code != 500 || !strings.HasPrefix(r.Message, "server is not in expected state") {
			t.Errorf("recover: %d %s", r.Code, r.Body)
		}
		equal(t, "looks encrypted", upload(t, c, make([]byte, 512), nil).Code, 400)
		equal(t, "public key", c.Get("/api/v2/recover/public-key").Code, 500)
		if status(t, c) == 2 {
			c.MustSetManifest(manifestJSON(t, nil))
		}
	}
}
