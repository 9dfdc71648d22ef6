// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package shares splits the recovery secret among the holders of recovery keys, and puts it together again (contract
// client-api §10, manifest §9).
//
//	holders  threshold  scheme   a holder's secret
//	1        0          single   the secret itself
//	n ≥ 2    0 or n     XOR      as long as the secret; all of them XORed yield it
//	n ≥ 3    2 … n-1    Shamir   one y byte per byte of the secret, then the x byte (1…255, distinct)
//
// Shamir is over GF(2^8) modulo x^8+x^4+x^3+x+1 (0x11B), one polynomial per byte, constant term = secret byte: the
// format of HashiCorp Vault. Multiplication has no tables and no branches on secret data.
//
// Split returns the shares in the order of the holders, which is the sorted order of the recovery key names. A
// Collector takes them back one at a time.
//
// # Invariants
//
//   - A share that is wrong or was used already is refused at once as long as the hashes of the shares are known.
//   - No error and no String contains a share or a part of one.
package shares

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Scheme says among how many holders a secret is split and how many of them are needed.
type Scheme struct {
	N int `json:"n"`
	// Threshold 0 means all.
	Threshold int `json:"threshold,omitempty"`
}

// MaxHolders is the largest number of holders: Shamir has 255 points to evaluate at.
const MaxHolders = 255

// Needed returns how many shares it takes.
func (s Scheme) Needed() int {
	if s.Threshold == 0 {
		return s.N
	}
	return s.Threshold
}

// shamir tells whether the shares are points of polynomials.
func (s Scheme) shamir() bool { return s.Threshold != 0 && s.Threshold < s.N }

// Check refuses a scheme that contract manifest §9 does not have.
func (s Scheme) Check() error {
	switch {
	case s.N < 1 || s.N > MaxHolders:
		return fmt.Errorf("%d holders of recovery secrets: there must be 1 to %d", s.N, MaxHolders)
	case s.Threshold < 0 || s.Threshold > s.N:
		return fmt.Errorf("threshold %d of %d holders of recovery secrets: it must be 0 (all) or 2 to %d",
			s.Threshold, s.N, s.N)
	case s.Threshold == 1 && s.N > 1:
		return errors.New("threshold 1 would let every single holder of a recovery secret recover")
	}
	return nil
}

// Split returns the secret of each holder.
func Split(secret []byte, s Scheme, rand io.Reader) ([][]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if len(secret) == 0 {
		return nil, errors.New("splitting a recovery secret: it is empty")
	}
	if s.shamir() {
		return splitShamir(secret, s, rand)
	}
	return splitXOR(secret, s.N, rand)
}

// splitXOR returns n-1 random shares and the one that completes them. For n = 1 that is the secret itself.
func splitXOR(secret []byte, n int, rand io.Reader) ([][]byte, error) {
	last := slices.Clone(secret)
	shares := make([][]byte, n)
	for i := range n - 1 {
		shares[i] = make([]byte, len(secret))
		if _, err := io.ReadFull(rand, shares[i]); err != nil {
			return nil, fmt.Errorf("reading randomness for a recovery share: %w", err)
		}
		subtle.XORBytes(last, last, shares[i])
	}
	shares[n-1] = last
	return shares, nil
}

// Combine returns the secret. It takes exactly as many shares as are needed, in any order. It cannot tell a wrong share
// from a right one: a wrong one yields a wrong secret.
func Combine(s Scheme, shares [][]byte) ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	if len(shares) != s.Needed() {
		return nil, fmt.Errorf("combining recovery shares: got %d, need %d", len(shares), s.Needed())
	}
	for _, share := range shares {
		if len(share) == 0 || len(share) != len(shares[0]) {
			return nil, errors.New("combining recovery shares: they differ in length or are empty")
		}
	}
	if s.shamir() {
		return combineShamir(shares)
	}
	secret := make([]byte, len(shares[0]))
	for _, share := range shares {
		subtle.XORBytes(secret, secret, share)
	}
	return secret, nil
}
