// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11

package credential

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/marblerun/marblerun/api"
)

// hsm is a session with the token that a configuration file names.
type hsm struct {
	*crypto11.Context
	config *crypto11.Config
}

// open reads the JSON file and logs in. Its keys (cli.md §1.2): Path of the library, Pin, and one of TokenSerial,
// TokenLabel and SlotNumber; optionally MaxSessions, UserType, PoolWaitTimeout (nanoseconds) and LoginNotSupported.
func open(path string) (*hsm, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration of the PKCS #11 token: %w", err)
	}
	config := &crypto11.Config{}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(config); err != nil {
		return nil, configError(fmt.Errorf("decoding %s: %w", path, err))
	}
	context, err := crypto11.Configure(config)
	if err != nil {
		return nil, configError(fmt.Errorf("opening the PKCS #11 token of %s: %w", path, err))
	}
	return &hsm{context, config}, nil
}

func configError(err error) error {
	return api.WithHint(err, "The file is JSON with Path (the library of the token), Pin, and one of TokenSerial, TokenLabel "+
		"and SlotNumber.")
}

// literal is nil for what is not asked for: an empty ID or label matches anything.
func literal(text string) []byte {
	if text == "" {
		return nil
	}
	return []byte(text)
}

func (h *hsm) key(id, label string) (crypto11.Signer, error) {
	if id == "" && label == "" {
		return nil, errors.New("neither ID nor label of the key in the PKCS #11 token is given")
	}
	keys, err := h.FindKeyPairs(literal(id), literal(label))
	if err != nil {
		return nil, fmt.Errorf("looking for a key pair in the PKCS #11 token: %w", err)
	}
	if len(keys) == 0 {
		return nil, api.WithHint(fmt.Errorf("no key pair found for id %q and label %q", id, label),
			"The ID is taken literally, not as hex, and must not be empty in the token, where private and public key have the "+
				"same one. 'pkcs11-tool --login --list-objects' lists them.")
	}
	return keys[0], nil
}

func (h *hsm) certificate(id, label string) (*x509.Certificate, error) {
	if id == "" && label == "" {
		return nil, errors.New("neither ID nor label of the certificate in the PKCS #11 token is given")
	}
	certificate, err := h.FindCertificate(literal(id), literal(label), nil)
	if err != nil {
		return nil, fmt.Errorf("looking for a certificate in the PKCS #11 token: %w", err)
	}
	if certificate == nil {
		return nil, api.WithHint(fmt.Errorf("no certificate found for id %q and label %q", id, label),
			"The ID is taken literally, not as hex. 'pkcs11-tool --list-objects --type cert' lists them.")
	}
	return certificate, nil
}

func openClient(token Token) (*tls.Certificate, Close, error) {
	h, err := open(token.Config)
	if err != nil {
		return nil, nothing, err
	}
	certificate, err := h.client(token)
	if err != nil {
		return nil, nothing, errors.Join(err, h.Close())
	}
	return certificate, h.Close, nil
}

func (h *hsm) client(token Token) (*tls.Certificate, error) {
	key, err := h.key(token.KeyID, token.KeyLabel)
	if err != nil {
		return nil, err
	}
	certificate, err := h.certificate(token.CertID, token.CertLabel)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(certificate.PublicKey) {
		return nil, api.WithHint(errors.New("the key in the PKCS #11 token is not that of the certificate"),
			"Select both by the same ID.")
	}
	return &tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}, nil
}

func openKey(token Token) (RecoveryKey, Close, error) {
	h, err := open(token.Config)
	if err != nil {
		return nil, nothing, err
	}
	key, err := h.recoveryKey(token)
	if err != nil {
		return nil, nothing, errors.Join(err, h.Close())
	}
	return key, h.Close, nil
}

func (h *hsm) recoveryKey(token Token) (RecoveryKey, error) {
	key, err := h.key(token.KeyID, token.KeyLabel)
	if err != nil {
		return nil, err
	}
	decrypter, ok := key.(crypto11.SignerDecrypter)
	if _, isRSA := key.Public().(*rsa.PublicKey); !ok || !isRSA {
		return nil, api.WithHint(errors.New("loaded private key does not support decryption"),
			fmt.Sprintf("Recovery keys are RSA keys; this one is %T.", key.Public()))
	}
	return &tokenKey{SignerDecrypter: decrypter, config: h.config, token: token}, nil
}

// tokenKey decrypts also with tokens that know OAEP with SHA-1 only, as SoftHSM 2.6 does.
type tokenKey struct {
	crypto11.SignerDecrypter
	config *crypto11.Config
	token  Token
}

// Decrypt has the token remove the padding if it can. If it says that it cannot, it does plain RSA, and the padding is
// removed here. Either way the key stays in the token, and the plaintext leaves it.
func (k *tokenKey) Decrypt(rand io.Reader, ciphertext []byte, options crypto.DecrypterOpts) ([]byte, error) {
	plain, err := k.SignerDecrypter.Decrypt(rand, ciphertext, options)
	oaep, ok := options.(*rsa.OAEPOptions)
	if err == nil || !ok || !unsupported(err) {
		return plain, err
	}
	padded, rawErr := rawDecrypt(k.config, k.token, ciphertext)
	if rawErr != nil {
		return nil, fmt.Errorf("%w; and plain RSA: %w", err, rawErr)
	}
	return unpadOAEP(padded, k.Public().(*rsa.PublicKey).Size(), *oaep)
}

// unsupported tells whether a token refused the mechanism or its parameters, and not the ciphertext.
func unsupported(err error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && (code == pkcs11.CKR_ARGUMENTS_BAD || code == pkcs11.CKR_MECHANISM_INVALID ||
		code == pkcs11.CKR_MECHANISM_PARAM_INVALID)
}
