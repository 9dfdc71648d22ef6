// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"time"

	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
)

// GenerateShared returns all shared secrets that are not user-defined. Those in keep are taken over instead of
// generated.
func GenerateShared(
	ctx context.Context, m *manifest.Manifest, ca *pki.CA, keep map[string]Value, now time.Time, rand io.Reader,
) (map[string]Value, error) {
	g := generator{ca: ca, now: now, rand: rand, newKey: newKey}
	return g.all(ctx, m, func(name string, def manifest.Secret) (Value, bool) {
		v, kept := keep[name]
		return v, kept
	}, func(def manifest.Secret) bool { return def.Shared && !def.UserDefined })
}

// Placeholders returns a stand-in for every secret that is made per Marble, to execute templates before there is one.
// It finds the sizes and certificate templates that cannot be generated (manifest §12, step 5). Keys are throwaway
// ones: one per kind, and small for RSA, so that a manifest that nobody activates costs little.
func Placeholders(
	ctx context.Context, m *manifest.Manifest, ca *pki.CA, now time.Time, rand io.Reader,
) (map[string]Value, error) {
	made := map[string]crypto.Signer{}
	g := generator{ca: ca, now: now, rand: rand, newKey: func(def manifest.Secret, rand io.Reader) (crypto.Signer, error) {
		if def.Type == manifest.TypeCertRSA {
			def.Size = 1024
		}
		kind := fmt.Sprint(def.Type, def.Size)
		if made[kind] == nil {
			key, err := newKey(def, rand)
			if err != nil {
				return nil, err
			}
			made[kind] = key
		}
		return made[kind], nil
	}}
	return g.all(ctx, m, func(string, manifest.Secret) (Value, bool) { return Value{}, false },
		func(def manifest.Secret) bool { return !def.Shared && !def.UserDefined })
}

// generator makes values.
type generator struct {
	ca     *pki.CA
	now    time.Time
	rand   io.Reader
	newKey func(manifest.Secret, io.Reader) (crypto.Signer, error)
}

// all makes the wanted secrets of m that kept does not have. The error is about the first one, by name, that cannot be
// made.
func (g generator) all(ctx context.Context, m *manifest.Manifest,
	kept func(string, manifest.Secret) (Value, bool), wanted func(manifest.Secret) bool,
) (map[string]Value, error) {
	values := make(map[string]Value)
	for _, name := range slices.Sorted(maps.Keys(m.Secrets)) {
		def := m.Secrets[name]
		if !wanted(def) {
			continue
		}
		v, ok := kept(name, def)
		if !ok {
			var err error
			if v, err = g.one(ctx, name, def); err != nil {
				return nil, err
			}
		}
		values[name] = v
	}
	return values, nil
}

// one makes a random value.
func (g generator) one(ctx context.Context, name string, def manifest.Secret) (Value, error) {
	if err := ctx.Err(); err != nil {
		return Value{}, err
	}
	v := Empty(def)
	err := checkSize(def)
	switch {
	case err != nil:
	case def.Type == manifest.TypeSymmetricKey:
		v.Private = make([]byte, def.Size/8)
		_, err = io.ReadFull(g.rand, v.Private)
		v.Public = v.Private
	default:
		err = g.certificate(&v, def)
	}
	if err != nil {
		return Value{}, fmt.Errorf("secret %q: %w", name, err)
	}
	return v, nil
}

// certificate makes a key and signs a certificate for it.
func (g generator) certificate(v *Value, def manifest.Secret) error {
	key, err := g.newKey(def, g.rand)
	if err != nil {
		return fmt.Errorf("generating a key: %w", err)
	}
	if v.Cert, err = g.ca.IssueSecretCert(certTemplate(def, g.now), key.Public(), g.now, g.rand); err != nil {
		return err
	}
	if v.Private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return fmt.Errorf("encoding a private key: %w", err)
	}
	if v.Public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return fmt.Errorf("encoding a public key: %w", err)
	}
	return nil
}

func newKey(def manifest.Secret, rand io.Reader) (crypto.Signer, error) {
	switch def.Type {
	case manifest.TypeCertRSA:
		return rsa.GenerateKey(rand, int(def.Size))
	case manifest.TypeCertEd25519:
		_, key, err := ed25519.GenerateKey(rand)
		return key, err
	default:
		return ecdsa.GenerateKey(curve(def.Size), rand)
	}
}

func curve(bits uint) elliptic.Curve {
	switch bits {
	case 224:
		return elliptic.P224()
	case 256:
		return elliptic.P256()
	case 384:
		return elliptic.P384()
	case 521:
		return elliptic.P521()
	}
	return nil
}

// checkSize refuses what cannot be generated (manifest §7, "Size rules").
func checkSize(def manifest.Secret) error {
	switch def.Type {
	case manifest.TypeSymmetricKey:
		limit := uint(manifest.MaxDerivedKeyBits)
		if def.Shared {
			limit = manifest.MaxSharedKeyBits
		}
		if def.Size == 0 || def.Size%8 != 0 || def.Size > limit {
			return fmt.Errorf("a Size of %d bits is not a positive multiple of 8 up to %d", def.Size, limit)
		}
	case manifest.TypeCertRSA:
		if def.Size < 1024 || def.Size > manifest.MaxRSABits {
			return fmt.Errorf("a Size of %d bits is not from 1024 to %d", def.Size, manifest.MaxRSABits)
		}
	case manifest.TypeCertECDSA:
		if curve(def.Size) == nil {
			return fmt.Errorf("a Size of %d bits is not 224, 256, 384 or 521", def.Size)
		}
	case manifest.TypeCertEd25519:
		if def.Size != 0 {
			return fmt.Errorf("the Size of Ed25519 keys is fixed: leave out %d", def.Size)
		}
	case manifest.TypePlain:
		return errors.New("a secret of type plain must be UserDefined")
	default:
		return fmt.Errorf("the type %q is unknown", def.Type)
	}
	return nil
}

// certTemplate applies the defaults of manifest §7.1 to a certificate secret's template.
func certTemplate(def manifest.Secret, now time.Time) *x509.Certificate {
	t := def.Cert.X509()
	if t.DNSNames == nil {
		t.DNSNames = []string{"localhost"}
	}
	if t.IPAddresses == nil {
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign // quirk Q15: peers may pin it
	}
	if t.ExtKeyUsage == nil {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	if t.Subject.CommonName == "" {
		t.Subject.CommonName = "MarbleRun Generated Certificate"
		if len(t.DNSNames) == 1 {
			t.Subject.CommonName = t.DNSNames[0]
		}
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = now.AddDate(0, 0, int(min(validFor(def), math.MaxInt32)))
	}
	return t
}
