// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/marblerun/marblerun/internal/shares"
	"github.com/marblerun/marblerun/manifest"
)

// recoverySecretSize is the length of the recovery secret R, in bytes (client-api.md §10).
const recoverySecretSize = 32

// recoveryKeys is a new recovery secret, dealt to the holders of the manifest's recovery keys.
type recoveryKeys struct {
	secret    []byte            // R; nil without recovery keys
	encrypted map[string][]byte // by key name
	meta      recoveryMeta
}

// recoveryMeta stands in the clear beside the sealed state, so that wrong shares are refused at once.
type recoveryMeta struct {
	N         int `json:"n"`
	Threshold int `json:"threshold"`
	// Shares maps key name to SHA-256 of the share. Shares have at least 256 random bits.
	Shares map[string][]byte `json:"shares"`
}

// newRecoveryKeys makes a recovery secret for m's recovery keys.
func newRecoveryKeys(m *manifest.Manifest, rand io.Reader) (recoveryKeys, error) {
	threshold, n := m.RecoveryScheme()
	k := recoveryKeys{encrypted: map[string][]byte{}, meta: recoveryMeta{N: n, Threshold: threshold, Shares: map[string][]byte{}}}
	if n == 0 {
		return k, nil
	}
	k.secret = make([]byte, recoverySecretSize)
	if _, err := io.ReadFull(rand, k.secret); err != nil {
		return k, err
	}
	dealt, err := shares.Split(k.secret, shares.Scheme{N: n, Threshold: threshold}, rand)
	if err != nil {
		return k, err
	}
	for i, name := range slices.Sorted(maps.Keys(m.RecoveryKeys)) {
		pub, err := manifest.ParseRecoveryKey(m.RecoveryKeys[name])
		if err != nil {
			return k, fmt.Errorf("recovery key %q: %w", name, err)
		}
		if k.encrypted[name], err = shares.Encrypt(dealt[i], pub, rand); err != nil {
			return k, fmt.Errorf("recovery key %q: %w", name, err)
		}
		hash := sha256.Sum256(dealt[i])
		k.meta.Shares[name] = hash[:]
	}
	return k, nil
}
