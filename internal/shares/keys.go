// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io"
)

// Encrypt encrypts a share to a recovery key: RSA-OAEP, SHA-256 for hash and MGF1, empty label.
func Encrypt(share []byte, pub *rsa.PublicKey, rand io.Reader) ([]byte, error) {
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand, pub, share, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting a recovery secret: %w", err)
	}
	return ciphertext, nil
}

// Decrypt reverts Encrypt; it also opens a secret sent to the ephemeral transport key.
func Decrypt(ciphertext []byte, key *rsa.PrivateKey) ([]byte, error) {
	share, err := rsa.DecryptOAEP(sha256.New(), nil, key, ciphertext, nil)
	if err != nil {
		return nil, fmt.Errorf("decrypting a recovery secret: %w", err)
	}
	return share, nil
}

// IsPlain tells by its length whether an uploaded recovery secret is sent as it is; any other length means that it is
// encrypted to the transport key. 16 bytes were the keys of deployments before v1.9.
func IsPlain(uploaded []byte) bool {
	return len(uploaded) == 16 || len(uploaded) == 32 || len(uploaded) == 33
}

// VerifySignature checks that the holder of a recovery key signed the plain share: RSA PKCS #1 v1.5 over SHA-256.
func VerifySignature(pub *rsa.PublicKey, share, signature []byte) error {
	digest := sha256.Sum256(share)
	return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature)
}
