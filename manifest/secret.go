// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import "strings"

// The secret types.
const (
	TypeSymmetricKey = "symmetric-key"
	TypeCertRSA      = "cert-rsa"
	TypeCertECDSA    = "cert-ecdsa"
	TypeCertEd25519  = "cert-ed25519"
	TypePlain        = "plain"
)

// Secret is a secret that the Coordinator generates, derives or, if UserDefined, is given later.
type Secret struct {
	Type        string
	Size        uint         // bits
	Shared      bool         // one value for the mesh instead of one per Marble
	UserDefined bool         // uploaded instead of generated
	Cert        CertTemplate // of generated certificates
	ValidFor    uint         // days, 0 = 365; not together with Cert.NotAfter
}

// DefaultValidFor is the validity of generated certificates in days.
const DefaultValidFor = 365

// IsCertificate reports whether the secret is a certificate with its key.
func (s Secret) IsCertificate() bool { return strings.HasPrefix(s.Type, "cert-") }

// SameDefinition reports whether a full update keeps the secret's value: Cert does not count, and a certificate without
// ValidFor is one with 365 days.
func (s Secret) SameDefinition(o Secret) bool {
	return s.Type == o.Type && s.Size == o.Size && s.Shared == o.Shared && s.UserDefined == o.UserDefined &&
		s.effectiveValidFor() == o.effectiveValidFor()
}

func (s Secret) effectiveValidFor() uint {
	if s.ValidFor == 0 && s.IsCertificate() {
		return DefaultValidFor
	}
	return s.ValidFor
}

// KeyWork estimates what generating the secret costs, for [MaxKeyWork]: (bits/1024)⁴ for an RSA key, whose search
// time grows so; 1 for other certificates; 0 for what is not generated or is symmetric. One unit is some
// milliseconds.
func (s Secret) KeyWork() uint64 {
	switch {
	case s.UserDefined || !s.IsCertificate():
		return 0
	case s.Type == TypeCertRSA:
		k := (min(uint64(s.Size), 1<<16) + 1023) / 1024
		return k * k * k * k
	}
	return 1
}
