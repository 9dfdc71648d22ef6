// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/marblerun/marblerun/manifest"
)

// Derive returns a Marble's own symmetric key (contract marble-api §8):
//
//	HKDF-SHA-256(IKM = root secret, salt = canonical UUID ‖ secret name, info, L = bits/8)
//
// The info is the Marble type, or empty with DisableSecretBinding. A UUID of fixed length keeps salts apart.
func Derive(root []byte, id, name, info string, bits uint) ([]byte, error) {
	switch {
	case len(root) == 0:
		return nil, errors.New("deriving a key: there is no root secret")
	case len(id) != 36:
		return nil, errors.New("deriving a key: the UUID is not in canonical form")
	case bits == 0 || bits%8 != 0:
		return nil, fmt.Errorf("deriving a key: a Size of %d bits is not a positive multiple of 8", bits)
	case bits > manifest.MaxDerivedKeyBits:
		return nil, fmt.Errorf("deriving a key: a Size of %d bits is above %d", bits, manifest.MaxDerivedKeyBits)
	}
	key, err := hkdf.Key(sha256.New, root, []byte(id+name), info, int(bits/8))
	if err != nil {
		return nil, fmt.Errorf("deriving a key: %w", err)
	}
	return key, nil
}
