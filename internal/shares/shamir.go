// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package shares

import (
	"errors"
	"fmt"
	"io"
)

func splitShamir(secret []byte, s Scheme, rand io.Reader) ([][]byte, error) {
	xs, err := distinctPoints(s.N, rand)
	if err != nil {
		return nil, err
	}
	// coefficients of all polynomials, those of one byte side by side, from x^1 upwards
	coefficients := make([]byte, len(secret)*(s.Threshold-1))
	if _, err := io.ReadFull(rand, coefficients); err != nil {
		return nil, fmt.Errorf("reading randomness for recovery shares: %w", err)
	}
	return evaluate(secret, coefficients, xs), nil
}

// evaluate returns a share for each x.
func evaluate(secret, coefficients, xs []byte) [][]byte {
	degree := len(coefficients) / len(secret)
	shares := make([][]byte, len(xs))
	for i, x := range xs {
		shares[i] = make([]byte, len(secret)+1)
		for b, constant := range secret {
			var y byte
			for k := degree - 1; k >= 0; k-- {
				y = mul(y^coefficients[b*degree+k], x)
			}
			shares[i][b] = y ^ constant
		}
		shares[i][len(secret)] = x
	}
	return shares
}

// distinctPoints draws n different numbers from 1 to 255.
func distinctPoints(n int, rand io.Reader) ([]byte, error) {
	var used [256]bool
	used[0] = true
	xs := make([]byte, 0, n)
	for b := make([]byte, 1); len(xs) < n; {
		if _, err := io.ReadFull(rand, b); err != nil {
			return nil, fmt.Errorf("reading randomness for recovery shares: %w", err)
		}
		if !used[b[0]] {
			used[b[0]] = true
			xs = append(xs, b[0])
		}
	}
	return xs, nil
}

// combineShamir interpolates at 0. The shares are at least two, equally long and not empty.
func combineShamir(shares [][]byte) ([]byte, error) {
	size := len(shares[0]) - 1
	if size == 0 {
		return nil, errors.New("combining recovery shares: they are too short")
	}
	var used [256]bool
	used[0] = true
	for _, share := range shares {
		if x := share[size]; used[x] {
			return nil, errors.New("combining recovery shares: two of them are for the same point, or one is for point 0")
		}
		used[share[size]] = true
	}
	secret := make([]byte, size)
	for i, share := range shares {
		weight := byte(1) // Lagrange basis at 0: product of x_j / (x_j - x_i)
		for j, other := range shares {
			if j != i {
				weight = mul(weight, mul(other[size], inverse(other[size]^share[size])))
			}
		}
		for b := range secret {
			secret[b] ^= mul(weight, share[b])
		}
	}
	return secret, nil
}

// mul multiplies in GF(2^8) modulo 0x11B, in constant time.
func mul(a, b byte) byte {
	var product byte
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// inverse returns a^254, in constant time; that of 0 is 0.
func inverse(a byte) byte {
	result := byte(1)
	for range 7 { // 254 = 2+4+8+16+32+64+128
		a = mul(a, a)
		result = mul(result, a)
	}
	return result
}
