// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

//go:build pkcs11

package credential

import (
	"crypto"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// rawDecrypt is RSA without padding (CKM_RSA_X_509), which crypto11 does not offer. It takes a second session beside
// the one of crypto11, which has initialized the library and logged in; both hold for the whole process.
func rawDecrypt(config *crypto11.Config, token Token, ciphertext []byte) (_ []byte, err error) {
	module := pkcs11.New(config.Path)
	if module == nil {
		return nil, errors.New("loading the library again failed")
	}
	defer module.Destroy() // drops this reference to the library, and does not end crypto11's use of it
	slot, err := findSlot(module, config)
	if err != nil {
		return nil, err
	}
	session, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		return nil, fmt.Errorf("opening a session: %w", err)
	}
	defer func() { err = errors.Join(err, module.CloseSession(session)) }()
	key, err := findPrivateKey(module, session, token)
	if err != nil {
		return nil, err
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_X_509, nil)}
	if err := module.DecryptInit(session, mechanism, key); err != nil {
		return nil, fmt.Errorf("decrypting: %w", err)
	}
	return module.Decrypt(session, ciphertext)
}

// findSlot finds the token as crypto11 does.
func findSlot(module *pkcs11.Ctx, config *crypto11.Config) (uint, error) {
	slots, err := module.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing slots: %w", err)
	}
	for _, slot := range slots {
		info, err := module.GetTokenInfo(slot)
		if err != nil {
			return 0, fmt.Errorf("reading token information: %w", err)
		}
		switch trimmed := func(s string) string { return strings.TrimRight(s, " \x00") }; {
		case config.SlotNumber != nil && uint(*config.SlotNumber) == slot,
			config.TokenSerial != "" && trimmed(info.SerialNumber) == config.TokenSerial,
			config.TokenLabel != "" && trimmed(info.Label) == config.TokenLabel:
			return slot, nil
		}
	}
	return 0, errors.New("the token is gone")
}

func findPrivateKey(module *pkcs11.Ctx, session pkcs11.SessionHandle, token Token) (_ pkcs11.ObjectHandle, err error) {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}
	if token.KeyID != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(token.KeyID)))
	}
	if token.KeyLabel != "" {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_LABEL, []byte(token.KeyLabel)))
	}
	if err := module.FindObjectsInit(session, template); err != nil {
		return 0, fmt.Errorf("looking for the key: %w", err)
	}
	defer func() { err = errors.Join(err, module.FindObjectsFinal(session)) }()
	found, _, err := module.FindObjects(session, 1)
	if err != nil {
		return 0, fmt.Errorf("looking for the key: %w", err)
	}
	if len(found) == 0 {
		return 0, errors.New("the key is gone")
	}
	return found[0], nil
}

// errPadding says nothing about what is wrong with the padding: that would help to decrypt without the key.
var errPadding = errors.New("decryption error: the data is not encrypted to this key, with RSA-OAEP and SHA-256")

// unpadOAEP removes the padding of RFC 8017 §7.1.2 step 3, in constant time, from the output of plain RSA with a key
// of size bytes: 0x00 ‖ masked seed ‖ masked (hash of the label ‖ zeros ‖ 0x01 ‖ message).
func unpadOAEP(padded []byte, size int, options rsa.OAEPOptions) ([]byte, error) {
	hash := options.Hash
	if len(padded) > size || size < 2*hash.Size()+2 {
		return nil, errPadding
	}
	em := make([]byte, size) // a token may leave out leading zeros
	copy(em[size-len(padded):], padded)
	seed, db := em[1:1+hash.Size()], em[1+hash.Size():]
	mask(seed, db, hash)
	mask(db, seed, hash)
	h := hash.New()
	h.Write(options.Label)
	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(db[:hash.Size()], h.Sum(nil))
	rest := db[hash.Size():]
	searching, start := 1, 0
	for i, b := range rest {
		one := subtle.ConstantTimeByteEq(b, 1)
		start = subtle.ConstantTimeSelect(searching&one, i+1, start)
		searching = subtle.ConstantTimeSelect(one, 0, searching)
		good &= 1 - searching&(1-subtle.ConstantTimeByteEq(b, 0))
	}
	if good&(1-searching) != 1 {
		return nil, errPadding
	}
	return rest[start:], nil
}

// mask is out ⊕ MGF1(seed) (RFC 8017 §B.2.1).
func mask(out, seed []byte, hash crypto.Hash) {
	for counter := uint32(0); len(out) > 0; counter++ {
		h := hash.New()
		h.Write(seed)
		h.Write(binary.BigEndian.AppendUint32(nil, counter))
		n := subtle.XORBytes(out, out, h.Sum(nil))
		out = out[n:]
	}
}
