// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap/internal/crl"
	"github.com/marblerun/marblerun/attest/dcap/pck"
)

// anchor is a root key that is trusted, the first certificate seen of it, and its CRL.
type anchor struct {
	key     *ecdsa.PublicKey
	cert    *x509.Certificate
	crl     *crl.List // nil if there is none, and none is needed
	windows []window  // of the CRL
	relied  []string
	broken  bool // the CRL refused
}

// signer is a verified TCB signing certificate.
type signer struct {
	key     *ecdsa.PublicKey
	root    *ecdsa.PublicKey
	windows []window
	sound   bool // no CRL has anything against it, and none is missing that is needed
}

// verifyPCKChain verifies PCK certificate ← PCK CA ← root, and that neither is revoked. nil if the signatures do not
// hold. What only CRLs have against it makes it unsound: then the rest is looked at all the same, for its own reasons.
func (v *verification) verifyPCKChain(chainPEM []byte) *pckChain {
	const what, code = "PCK chain", attest.CodePCKChain
	certs := v.parseChain(code, what, chainPEM, 3)
	if certs == nil {
		return nil
	}
	leaf, ca, root := certs[0], certs[1], certs[2]
	a := v.anchor(what, root)
	if a == nil {
		return nil
	}
	before := len(v.reasons)
	v.issued(code, "PCK CA certificate", ca, root)
	v.issued(code, "PCK certificate", leaf, ca)
	key := v.endEntity(code, "PCK certificate", leaf)
	platform, err := pck.Parse(leaf)
	if err != nil {
		v.refuse(attest.CodePCKCertificate, "%v", err)
	}
	signed := len(v.reasons) == before
	v.notRevoked("PCK CA certificate", ca, a.crl)
	list, crlWindows, relied := v.crl(attest.CodePCKCRL, "PCK CRL", v.col.PCKCRL, ca)
	v.notRevoked("PCK certificate", leaf, list)
	if !signed {
		return nil
	}
	windows := append(crlWindows, a.windows...)
	windows = append(windows, validity("PCK certificate", leaf), validity("PCK CA certificate", ca),
		validity("root certificate of the PCK chain", root))
	return &pckChain{key: key, platform: platform, root: a.key, windows: windows, relied: append(relied, a.relied...),
		sound: len(v.reasons) == before && !a.broken}
}

// signer verifies TCB signing certificate ← root, and that it is not revoked. nil if the signatures do not hold;
// unsound as a pckChain.
func (v *verification) signer(what, chainPEM string) *signer {
	const code = attest.CodeTCBSigningChain
	name := "signing certificate of " + what
	certs := v.parseChain(code, "issuer chain of "+what, []byte(chainPEM), 2)
	if certs == nil {
		return nil
	}
	leaf, root := certs[0], certs[1]
	a := v.anchor("issuer chain of "+what, root)
	if a == nil {
		return nil
	}
	before := len(v.reasons)
	v.issued(code, name, leaf, root)
	key := v.endEntity(code, name, leaf)
	if !strings.Contains(leaf.Subject.CommonName, "TCB Signing") {
		v.refuse(code, "%s is of %.64q, not of TCB signing", name, leaf.Subject.CommonName)
	}
	signed := len(v.reasons) == before
	v.notRevoked(name, leaf, a.crl)
	if !signed {
		return nil
	}
	windows := append([]window{validity(name, leaf), validity("root certificate of "+what, root)}, a.windows...)
	return &signer{key: key, root: a.key, windows: windows, sound: len(v.reasons) == before && !a.broken}
}

// parseChain reads exactly n certificates in PEM; white space and zeros may follow. It puts them in order, from the
// leaf to the root, whatever order they come in: some providers put the root in the middle.
func (v *verification) parseChain(code, what string, chain []byte, n int) []*x509.Certificate {
	certs, err := readChain(chain, n, v.parseCertificate)
	if err != nil {
		v.refuse(code, "%s: %v", what, err)
		return nil
	}
	return certs
}

// parseCertificate parses each certificate once: the chains share some.
func (v *verification) parseCertificate(der []byte) (*x509.Certificate, error) {
	for _, cert := range v.certs {
		if bytes.Equal(cert.Raw, der) {
			return cert, nil
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	v.certs = append(v.certs, cert)
	return cert, nil
}

// anchor finds the trusted key in a root certificate and verifies the root CRL with it, once for each key. Trust comes
// from the key, but the certificate's name and validity count too, so it must be signed by that key.
func (v *verification) anchor(what string, cert *x509.Certificate) *anchor {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !v.trusted(key) {
		v.refuse(attest.CodeUntrustedRoot, "%s ends at %.64q, whose key is not a trusted root", what, cert.Subject.CommonName)
		return nil
	}
	if !bytes.Equal(cert.RawIssuer, cert.RawSubject) || !v.selfSigned(cert) {
		v.refuse(attest.CodeUntrustedRoot, "%s ends at a certificate that is not a root of the trusted key", what)
		return nil
	}
	for _, a := range v.anchors {
		if a.key.Equal(key) {
			return a
		}
	}
	a := &anchor{key: key, cert: cert}
	before := len(v.reasons)
	a.crl, a.windows, a.relied = v.crl(attest.CodeRootCRL, "root CRL", v.col.RootCACRL, cert)
	a.broken = len(v.reasons) > before
	v.anchors = append(v.anchors, a)
	return a
}

// Intel's two root certificates, SHA-256 of the DER: valid until 2049-12-31 and until 2033-05-21. Knowing them saves a
// signature verification; any other root certificate of a trusted key must show its signature.
const (
	intelRoot2049 = "\x44\xa0\x19\x6b\x2b\x99\xf8\x89\xb8\xe1\x49\xe9\x5b\x80\x7a\x35" +
		"\x0e\x74\x24\x96\x43\x99\xe8\x85\xa7\xcb\xb8\xcc\xfa\xb6\x74\xd3"
	intelRoot2033 = "\xfc\x64\xf8\x07\x6d\x79\xa4\xfe\xe9\xd1\xd4\x73\xd7\x4c\x89\xeb" +
		"\x8d\x8f\xd5\x5c\x5a\xba\xfe\xab\xeb\xa7\x36\x6d\x20\x42\x94\x04"
)

func (v *verification) selfSigned(cert *x509.Certificate) bool {
	if slices.Contains(v.roots, cert) {
		return true
	}
	hash := sha256.Sum256(cert.Raw)
	known := string(hash[:]) == intelRoot2049 || string(hash[:]) == intelRoot2033
	if !known && cert.CheckSignatureFrom(cert) != nil {
		return false
	}
	v.roots = append(v.roots, cert)
	return true
}

func (v *verification) trusted(key *ecdsa.PublicKey) bool {
	for _, root := range v.opts.Roots {
		if root.Equal(key) {
			return true
		}
	}
	return false
}

// issued checks that parent issued cert: names, permission, signature.
func (v *verification) issued(code, what string, cert, parent *x509.Certificate) {
	switch {
	case !bytes.Equal(cert.RawIssuer, parent.RawSubject):
		v.refuse(code, "%s is issued by %.64q, not by %.64q", what, cert.Issuer.CommonName, parent.Subject.CommonName)
	case cert.SignatureAlgorithm != x509.ECDSAWithSHA256:
		v.refuse(code, "%s is signed by %v, not by ECDSA with SHA-256", what, cert.SignatureAlgorithm)
	case len(cert.UnhandledCriticalExtensions) > 0:
		v.refuse(code, "%s has the critical extension %v, which is not understood", what, cert.UnhandledCriticalExtensions[0])
	default:
		// CheckSignatureFrom wants basic constraints and the key usage to sign certificates in the parent.
		if err := cert.CheckSignatureFrom(parent); err != nil {
			v.refuse(code, "%s is not signed by %.64q: %v", what, parent.Subject.CommonName, err)
		}
	}
}

// endEntity checks that cert is no CA and may sign, and returns its P-256 key.
func (v *verification) endEntity(code, what string, cert *x509.Certificate) *ecdsa.PublicKey {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	switch {
	case cert.IsCA:
		v.refuse(code, "%s is a CA", what)
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		v.refuse(code, "%s may not sign", what)
	case !ok || key.Curve != elliptic.P256():
		v.refuse(code, "%s has no P-256 key", what)
	default:
		return key
	}
	return nil
}

// crl reads a CRL, which issuer must have issued and signed. nil if it refuses or if it is missing and may be.
func (v *verification) crl(code, what string, form CRL, issuer *x509.Certificate) (*crl.List, []window, []string) {
	if len(form) == 0 {
		if !v.opts.AllowMissingCRLs {
			v.refuse(attest.CodeCRLMissing, "%s is missing; without it a revoked certificate would pass", what)
		}
		return nil, nil, nil
	}
	raw, err := form.DER()
	if err != nil {
		v.refuse(code, "%s: %v", what, err)
		return nil, nil, nil
	}
	list, err := crl.Parse(raw)
	if err != nil {
		v.refuse(code, "%s: %v", what, err)
		return nil, nil, nil
	}
	key, ok := issuer.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !bytes.Equal(list.Issuer, issuer.RawSubject):
		v.refuse(code, "%s is not of %.64q", what, issuer.Subject.CommonName)
	case issuer.KeyUsage != 0 && issuer.KeyUsage&x509.KeyUsageCRLSign == 0:
		v.refuse(code, "%s: %.64q may not sign CRLs", what, issuer.Subject.CommonName)
	case !ok || !list.SignedBy(key):
		v.refuse(code, "%s is not signed by %.64q", what, issuer.Subject.CommonName)
	default:
		digest := sha256.Sum256(raw)
		id := fmt.Sprintf("%s:%s:sha256:%x", strings.ToLower(strings.ReplaceAll(what, " ", "")),
			list.ThisUpdate.Format(time.DateOnly), digest[:8])
		return list, []window{{what, list.ThisUpdate, list.NextUpdate}}, []string{id}
	}
	return nil, nil, nil
}

func (v *verification) notRevoked(what string, cert *x509.Certificate, list *crl.List) {
	if list != nil && list.Lists(cert.SerialNumber) {
		v.refuse(attest.CodeRevoked, "%s with serial number %x is revoked", what, cert.SerialNumber)
	}
}

func validity(what string, cert *x509.Certificate) window {
	return window{what, cert.NotBefore, cert.NotAfter}
}
