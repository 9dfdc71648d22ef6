// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"slices"

	"github.com/marblerun/marblerun/manifest/problem"
)

func secretTypes() []string {
	return []string{TypeSymmetricKey, TypeCertRSA, TypeCertECDSA, TypeCertEd25519, TypePlain}
}

func (c *checker) secrets() {
	if n := len(c.m.Secrets); n > MaxSecrets {
		c.Fail("$.Secrets", "there are %d secrets, %d are allowed", n, MaxSecrets)
		return
	}
	var work uint64
	var keyBytes uint
	for _, name := range sortedKeys(c.m.Secrets) {
		s, path := c.m.Secrets[name], problem.Key("$.Secrets", name)
		work += s.KeyWork()
		if s.Type == TypeSymmetricKey && !s.UserDefined {
			keyBytes += min(s.Size, MaxSharedKeyBits) / 8
		}
		c.secret(path, s)
		if s.IsCertificate() && !s.UserDefined && work <= MaxKeyWork {
			s.Cert.Check(&c.Report, path+".Cert")
		}
	}
	if work > MaxKeyWork {
		c.Fail("$.Secrets", "generating all keys costs %d units, %d are allowed", work, MaxKeyWork).Hint =
			"an RSA key of n bits costs (n/1024)⁴: use smaller ones, fewer, or cert-ecdsa"
	}
	if keyBytes > MaxKeyBytes {
		c.Fail("$.Secrets", "all generated symmetric keys have %d bytes, %d are allowed", keyBytes, MaxKeyBytes)
	}
}

func (c *checker) secret(path string, s Secret) {
	if !slices.Contains(secretTypes(), s.Type) {
		c.Fail(path+".Type", "unknown secret type %s", problem.Quote(s.Type)).Hint = c.MeantOrOneOf(s.Type, secretTypes())
		return
	}
	if s.ValidFor != 0 && !s.Cert.NotAfter.IsZero() {
		c.Fail(path+".ValidFor", "ValidFor and Cert.NotAfter are both set").Hint = "use one of them"
	}
	if s.ValidFor > MaxValidForDays {
		c.Fail(path+".ValidFor", "is %d days, %d are allowed", s.ValidFor, MaxValidForDays)
	}
	switch {
	case s.UserDefined:
		if s.Type == TypeSymmetricKey && (s.Size == 0 || s.Size%8 != 0) {
			c.Warn(path+".Size", "no key of %d bits can be uploaded", s.Size).Hint = "use a multiple of 8 above 0"
		}
	case s.Type == TypePlain:
		c.Fail(path, "a plain secret cannot be generated").Hint = "set UserDefined, or use symmetric-key"
	default:
		c.size(path+".Size", s)
	}
}

// size checks the size of a secret that will be generated.
func (c *checker) size(path string, s Secret) {
	switch s.Type {
	case TypeSymmetricKey:
		limit, why := uint(MaxDerivedKeyBits), "a key of its own for each Marble"
		if s.Shared {
			limit, why = MaxSharedKeyBits, "a shared key"
		}
		switch {
		case s.Size == 0 || s.Size%8 != 0:
			c.Fail(path, "is %d bits, must be a multiple of 8 above 0", s.Size)
		case s.Size > limit:
			c.Fail(path, "is %d bits, %s has at most %d", s.Size, why, limit)
		}
	case TypeCertRSA:
		if s.Size < MinRSABits || s.Size > MaxRSABits {
			c.Fail(path, "is %d bits, an RSA key has %d to %d", s.Size, MinRSABits, MaxRSABits)
		}
	case TypeCertECDSA:
		if s.Size != 224 && s.Size != 256 && s.Size != 384 && s.Size != 521 {
			c.Fail(path, "is %d bits, an ECDSA key has 224, 256, 384 or 521", s.Size)
		}
	case TypeCertEd25519:
		if s.Size != 0 {
			c.Fail(path, "must be left out, an Ed25519 key has one size")
		}
	}
}
