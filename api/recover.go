// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/marblerun/marblerun/api/wire"
)

// Recover signs the plain recovery secret with the holder's RSA key (which may live in an HSM) and uploads both. It
// returns how many secrets of other holders remain; 0: the Coordinator has recovered, and now shows its old root
// certificate.
func (c *Client) Recover(ctx context.Context, secret []byte, signer crypto.Signer) (remaining int, err error) {
	signature, err := SignRecoverySecret(secret, signer)
	if err != nil {
		return 0, err
	}
	return c.RecoverWithSignature(ctx, secret, signature)
}

// RecoverWithSignature uploads a recovery secret, plain or encrypted with the RecoveryPublicKey, and the signature over
// the plain one.
func (c *Client) RecoverWithSignature(ctx context.Context, secret, signature []byte) (remaining int, err error) {
	body := wire.RecoverRequest{RecoverySecret: secret, RecoverySecretSignature: signature}
	r, err := post[wire.RecoverReply](ctx, c, v2+"/recover", body)
	return r.Remaining, err
}

// RecoveryPublicKey returns the ephemeral key to which a recovery secret may be encrypted for its way. It belongs to
// one Coordinator process, which must be in recovery mode.
func (c *Client) RecoveryPublicKey(ctx context.Context) (crypto.PublicKey, error) {
	r, err := get[wire.RecoveryPublicKey](ctx, c, v2+"/recover/public-key", nil)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(r.EphemeralPublicKey)
	if err != nil {
		return nil, fmt.Errorf("parsing the Coordinator's recovery public key: %w", err)
	}
	return key, nil
}

// SignRecoverySecret returns the RSA PKCS #1 v1.5 signature over the SHA-256 of the plain secret.
func SignRecoverySecret(secret []byte, signer crypto.Signer) ([]byte, error) {
	if _, ok := signer.Public().(*rsa.PublicKey); !ok {
		return nil, fmt.Errorf("signing the recovery secret: expected RSA key, got %T", signer.Public())
	}
	digest := sha256.Sum256(secret)
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("signing the recovery secret: %w", err)
	}
	return signature, nil
}

// EncryptRecoverySecretWithEphemeralKey encrypts a plain secret to the RecoveryPublicKey: RSA-OAEP, SHA-256, no label.
func EncryptRecoverySecretWithEphemeralKey(secret []byte, key crypto.PublicKey) ([]byte, error) {
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("expected RSA public key, got %T", key)
	}
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, public, secret, nil)
}

// DecryptRecoveryData decrypts what ManifestSet or an update returned for the holder of key: RSA-OAEP, SHA-256, no
// label.
func DecryptRecoveryData(data []byte, key crypto.Decrypter) ([]byte, error) {
	secret, err := key.Decrypt(rand.Reader, data, &rsa.OAEPOptions{Hash: crypto.SHA256})
	if err != nil {
		return nil, fmt.Errorf("decrypting the recovery data: %w", err)
	}
	return secret, nil
}
