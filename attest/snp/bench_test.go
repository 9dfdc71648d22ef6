// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"

	"github.com/marblerun/marblerun/attest/snp"
)

// BenchmarkVerify shows verification without and with the chain cache, beside the signature verifications it needs:
// cold is RSA-4096 twice and P-384 once, warm P-384 once.
func BenchmarkVerify(b *testing.B) {
	v := loadVector(b, vectors(b), "genoa-vcek-ms")
	opts := options(v.time())
	verify := func(b *testing.B, opts snp.Options) {
		for b.Loop() {
			if _, err := snp.Verify(v.report, v.certs, opts); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("cold", func(b *testing.B) { verify(b, opts) })
	warm := opts
	warm.Cache = snp.NewCache(8)
	b.Run("warm", func(b *testing.B) { verify(b, warm) })
	bare := bareVerifications(b, v)
	b.Run("bare/cold", func(b *testing.B) {
		for b.Loop() {
			bare.rsa(b)
			bare.rsa(b)
			bare.ecdsa(b)
		}
	})
	b.Run("bare/warm", func(b *testing.B) {
		for b.Loop() {
			bare.ecdsa(b)
		}
	})
}

type bare struct {
	vek    *ecdsa.PublicKey
	ask    *rsa.PublicKey
	leaf   *x509.Certificate
	report []byte
	r, s   *big.Int
}

func bareVerifications(b *testing.B, v vector) *bare {
	parse := func(raw []byte) *x509.Certificate {
		block, _ := pem.Decode(raw)
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		return cert
	}
	leaf, ask := parse(v.certs.VEK), parse(v.certs.ASK)
	le := func(raw []byte) *big.Int {
		raw = slices.Clone(raw)
		slices.Reverse(raw)
		return new(big.Int).SetBytes(raw)
	}
	return &bare{leaf.PublicKey.(*ecdsa.PublicKey), ask.PublicKey.(*rsa.PublicKey), leaf, v.report,
		le(v.report[0x2A0 : 0x2A0+72]), le(v.report[0x2E8 : 0x2E8+72])}
}

func (x *bare) rsa(b *testing.B) {
	digest := sha512.Sum384(x.leaf.RawTBSCertificate)
	if err := rsa.VerifyPSS(x.ask, crypto.SHA384, digest[:], x.leaf.Signature, nil); err != nil {
		b.Fatal(err)
	}
}

func (x *bare) ecdsa(b *testing.B) {
	digest := sha512.Sum384(x.report[:0x2A0])
	if !ecdsa.Verify(x.vek, digest[:], x.r, x.s) {
		b.Fatal("signature")
	}
}
