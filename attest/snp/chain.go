// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"
)

// Bounds on what is read, in bytes. AMD's certificates are below 2 KiB and its CRLs below 1 KiB.
const (
	maxCertSize = 16 << 10
	maxCRLSize  = 1 << 20
)

// chain is a verified VEK certificate.
type chain struct {
	vek vek
	// from and to bound the time in which every certificate and the CRL are valid.
	from, to time.Time
	// ids name what was relied on, for attest.Claims.Collateral.
	ids []string
}

// verifyChain checks VEK ← ASK ← ARK and the CRL at opts.Time. The chain is nil unless its signatures hold; with an
// error besides it is not valid at that time, or not by the CRL.
func verifyChain(certs Certificates, opts Options) (*chain, error) {
	leaf, err := parseCert(certs.VEK, "VEK")
	if err != nil {
		return nil, err
	}
	v, err := readVEK(leaf)
	if err != nil {
		return nil, err
	}
	ask, err := parseCert(certs.ASK, "intermediate")
	if err != nil {
		return nil, err
	}
	if err := checkNames(v, leaf, ask); err != nil {
		return nil, err
	}
	root, err := findRoot(v.Product, certs, ask, opts.Roots)
	if err != nil {
		return nil, err
	}
	c := &chain{vek: *v, to: time.Unix(1<<40, 0)}
	c.add(leaf, string(v.Key))
	c.add(ask, askName(v.Key))
	if root.cert != nil {
		c.add(root.cert, "ARK")
	}
	c.ids = append(c.ids, "ARK-key:"+string(v.Product)+":"+root.id)
	if err := checkPSS(leaf); err != nil {
		return nil, err
	}
	if err := leaf.CheckSignatureFrom(ask); err != nil {
		return nil, refuse(CodeChain, "", "", "the %s certificate is not signed by %q: %v",
			v.Key, ask.Subject.CommonName, err)
	}
	return c, join(checkValidity(opts.Time, leaf, ask, root.cert), c.checkCRL(certs.CRL, ask, root, opts))
}

func askName(k Key) string {
	if k == VLEK {
		return "ASVK"
	}
	return "ASK"
}

// checkNames checks that the intermediate is the product's, and the one for this kind of key.
func checkNames(v *vek, leaf, ask *x509.Certificate) error {
	want := "SEV-" + string(v.Product)
	if v.Key == VLEK {
		want = "SEV-VLEK-" + string(v.Product)
	}
	if got := commonName(ask.Subject.CommonName); got != want {
		return refuse(CodeProduct, want, fmt.Sprintf("%.64q", got), "the intermediate is for another product or kind of key")
	}
	if !bytes.Equal(leaf.RawIssuer, ask.RawSubject) {
		return refuse(CodeChain, ask.Subject.String(), leaf.Issuer.String(),
			"the %s certificate names another issuer", v.Key)
	}
	return nil
}

// root is the ARK that signed the intermediate.
type root struct {
	key  *x509.Certificate // only PublicKey and PublicKeyAlgorithm are set
	cert *x509.Certificate // nil if not given
	id   string
}

// findRoot finds the given root key that signed the intermediate. The ARK certificate, if there is one, must have it.
func findRoot(p Product, certs Certificates, ask *x509.Certificate, roots Roots) (*root, error) {
	var ark *x509.Certificate
	if len(certs.ARK) > 0 {
		var err error
		if ark, err = parseCert(certs.ARK, "ARK"); err != nil {
			return nil, err
		}
		if !bytes.Equal(ask.RawIssuer, ark.RawSubject) {
			return nil, refuse(CodeChain, ark.Subject.String(), ask.Issuer.String(),
				"the intermediate names another issuer")
		}
	}
	if len(roots[p]) == 0 {
		return nil, refuse(CodeRoot, "", "", "no root key is trusted for %s", p)
	}
	if err := checkPSS(ask); err != nil {
		return nil, err
	}
	for _, key := range roots[p] {
		if ark != nil && !key.Equal(ark.PublicKey) {
			continue
		}
		signer := &x509.Certificate{PublicKey: key, PublicKeyAlgorithm: x509.RSA}
		if signer.CheckSignature(ask.SignatureAlgorithm, ask.RawTBSCertificate, ask.Signature) == nil {
			return &root{key: signer, cert: ark, id: keyID(key)}, nil
		}
	}
	return nil, refuse(CodeRoot, "", fmt.Sprintf("%.64q", ask.Issuer.CommonName),
		"the intermediate %q is not signed by a trusted %s root key", ask.Subject.CommonName, p)
}

// checkPSS: everything in AMD's hierarchy is signed with RSASSA-PSS and SHA-384.
func checkPSS(cert *x509.Certificate) error {
	if cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return refuse(CodeChain, x509.SHA384WithRSAPSS.String(), cert.SignatureAlgorithm.String(),
			"the signature algorithm of %q", cert.Subject.CommonName)
	}
	return nil
}

func keyID(key *rsa.PublicKey) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(x509.MarshalPKCS1PublicKey(key)))
}

func (c *chain) add(cert *x509.Certificate, name string) {
	id := fmt.Sprintf("%s:%s:sha256:%x", name, c.vek.Product, sha256.Sum256(cert.Raw))
	c.ids = append(c.ids, id)
	c.narrow(cert.NotBefore, cert.NotAfter)
}

func (c *chain) narrow(from, to time.Time) {
	if from.After(c.from) {
		c.from = from
	}
	if to.Before(c.to) {
		c.to = to
	}
}

// covers says whether the chain is valid at t without another look.
func (c *chain) covers(t time.Time) bool { return !t.Before(c.from) && !t.After(c.to) }

func checkValidity(at time.Time, certs ...*x509.Certificate) (err error) {
	for _, cert := range certs {
		if cert == nil || !at.Before(cert.NotBefore) && !at.After(cert.NotAfter) {
			continue
		}
		err = join(err, refuse(CodeValidity, window(cert.NotBefore, cert.NotAfter), at.UTC().Format(time.RFC3339),
			"the certificate %q is not valid at this time", cert.Subject.CommonName))
	}
	return err
}

func window(from, to time.Time) string {
	return from.UTC().Format(time.RFC3339) + " to " + to.UTC().Format(time.RFC3339)
}

// checkCRL checks the root's list over the intermediate. Without a list it refuses unless told otherwise.
func (c *chain) checkCRL(raw []byte, ask *x509.Certificate, r *root, opts Options) error {
	if len(raw) == 0 {
		if opts.AllowMissingCRL {
			c.ids = append(c.ids, "CRL:"+string(c.vek.Product)+":missing")
			return nil
		}
		return refuse(CodeCRL, "", "", "there is no CRL of the %s root", c.vek.Product)
	}
	crl, err := openCRL(raw, ask, r, opts.Time)
	if err != nil {
		return err
	}
	for _, e := range crl.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(ask.SerialNumber) == 0 {
			return refuse(CodeRevoked, "", e.SerialNumber.Text(16), "the intermediate %q is revoked since %s",
				ask.Subject.CommonName, e.RevocationTime.UTC().Format(time.RFC3339))
		}
	}
	c.narrow(crl.ThisUpdate, crl.NextUpdate)
	c.ids = append(c.ids, fmt.Sprintf("CRL:%s:%s:sha256:%x", c.vek.Product,
		crl.ThisUpdate.UTC().Format(time.RFC3339), sha256.Sum256(crl.Raw)))
	return nil
}

// openCRL reads the list and checks issuer, signature and window.
func openCRL(raw []byte, ask *x509.Certificate, r *root, at time.Time) (*x509.RevocationList, error) {
	der, err := decode(raw, "X509 CRL", maxCRLSize)
	if err != nil {
		return nil, refuse(CodeCRL, "", "", "the CRL: %v", err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, refuse(CodeCRL, "", "", "the CRL cannot be read: %v", err)
	}
	if !bytes.Equal(crl.RawIssuer, ask.RawIssuer) {
		return nil, refuse(CodeCRL, ask.Issuer.String(), crl.Issuer.String(), "the CRL is by another issuer")
	}
	if err := r.key.CheckSignature(crl.SignatureAlgorithm, crl.RawTBSRevocationList, crl.Signature); err != nil {
		return nil, refuse(CodeCRL, "", "", "the CRL is not signed by the root key: %v", err)
	}
	if at.Before(crl.ThisUpdate) || at.After(crl.NextUpdate) {
		return nil, refuse(CodeCRL, window(crl.ThisUpdate, crl.NextUpdate), at.UTC().Format(time.RFC3339),
			"the CRL is not valid at this time")
	}
	return crl, nil
}

func parseCert(raw []byte, name string) (*x509.Certificate, error) {
	if len(raw) == 0 {
		return nil, refuse(CodeFormat, "", "", "the %s certificate is missing", name)
	}
	der, err := decode(raw, "CERTIFICATE", maxCertSize)
	if err != nil {
		return nil, refuse(CodeFormat, "", "", "the %s certificate: %v", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(CodeFormat, "", "", "the %s certificate cannot be read: %v", name, err)
	}
	return cert, nil
}

// decode returns the DER of a DER or PEM input.
func decode(raw []byte, kind string, max int) ([]byte, error) {
	if len(raw) > max {
		return nil, fmt.Errorf("%d bytes, at most %d are read", len(raw), max)
	}
	block, rest := pem.Decode(raw)
	if block == nil {
		return raw, nil
	}
	if block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("want one PEM block %q", kind)
	}
	return block.Bytes, nil
}
