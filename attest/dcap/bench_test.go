// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"testing"

	"github.com/marblerun/marblerun/attest/dcap"
)

// BenchmarkVerify measures a verification cold and with a warm cache beside the bare signature verifications that each
// needs, nine and two, in the same run.
func BenchmarkVerify(b *testing.B) {
	kinds := [][2]string{
		{"sgx-v3", "sgx-v3-00606A000000-c81a90ee-eval19-20250606"},
		{"tdx-v4", "tdx-v4-00806F050000-4b23198a-eval21-20260612"},
		{"tdx-v5", "tdx-v5-90C06F000000-cf77a6e9-eval18-20260316"},
	}
	b.Run("bare-9", func(b *testing.B) { benchmarkBare(b, 9) })
	for _, kind := range kinds {
		v := findVector(b, kind[1])
		b.Run(kind[0]+"/cold", func(b *testing.B) { benchmarkVerify(b, v, nil) })
	}
	b.Run("bare-2", func(b *testing.B) { benchmarkBare(b, 2) })
	for _, kind := range kinds {
		v := findVector(b, kind[1])
		b.Run(kind[0]+"/warm", func(b *testing.B) { benchmarkVerify(b, v, dcap.NewChainCache(10)) })
	}
}

func findVector(t testing.TB, name string) vector {
	for _, v := range loadVectors(t, "dcap") {
		if v.name == name {
			return v
		}
	}
	t.Skipf("SKIPPED: vector %s is not here", name)
	return vector{}
}

func benchmarkVerify(b *testing.B, v vector, cache *dcap.ChainCache) {
	opts := v.options()
	opts.Cache = cache
	b.ReportAllocs()
	for b.Loop() {
		if _, err := dcap.Verify(v.quote, v.collateral, opts); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkBare verifies n signatures by ECDSA P-256 a round.
func benchmarkBare(b *testing.B, n int) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("a message"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range n {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				b.Fatal("signature does not hold")
			}
		}
	}
}
