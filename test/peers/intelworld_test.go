// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/softtee"
)

// issuer is a CA of the test.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// intelWorld is a software TEE whose certificates, collateral and CRLs are issued again under Intel's exact names, on
// which go-tdx-guest insists.
type intelWorld struct {
	t                         testing.TB
	platform                  *softtee.Platform
	root, ca, processor, sign issuer
	now                       time.Time
	revokedPCK, revokedCA     bool
	crlFrom                   time.Duration // after now
}

const rootCRLAddress = "https://root.example/root.der"

func newIntelWorld(t testing.TB) *intelWorld {
	t.Helper()
	platform, err := softtee.New(softtee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &intelWorld{t: t, platform: platform, now: time.Now()}
	w.root = w.issue("Intel SGX Root CA", true, nil)
	w.ca = w.issue("Intel SGX PCK Platform CA", true, &w.root)
	w.processor = w.issue("Intel SGX PCK Processor CA", true, &w.root)
	w.sign = w.issue("Intel SGX TCB Signing", false, &w.root)
	return w
}

func (w *intelWorld) issue(name string, ca bool, parent *issuer) issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	usage := x509.KeyUsageDigitalSignature
	if ca {
		usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	return issuer{w.certify(&x509.Certificate{IsCA: ca, KeyUsage: usage}, name, parent, key.Public(), key), key}
}

// certify issues a certificate; without a parent it is signed by its own key.
func (w *intelWorld) certify(c *x509.Certificate, name string, parent *issuer, public crypto.PublicKey,
	own crypto.Signer,
) *x509.Certificate {
	point, err := public.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	id := sha256.Sum256(point)
	c.SerialNumber, c.SubjectKeyId = new(big.Int).SetBytes(id[:12]), id[:20]
	c.Subject = pkix.Name{CommonName: name, Organization: []string{"Intel Corporation"}, Country: []string{"US"}}
	c.NotBefore, c.NotAfter = w.now.Add(-24*time.Hour), w.now.AddDate(7, 0, 0)
	c.BasicConstraintsValid, c.CRLDistributionPoints = true, []string{rootCRLAddress}
	if parent == nil {
		c.AuthorityKeyId = id[:20]
		parent = &issuer{c, own}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent.cert, public, parent.key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// reissue replaces the PCK chain of the software TEE.
func (w *intelWorld) reissue(chain []byte, ca issuer) []byte {
	pck := parseChain(chain)[0]
	sgx := asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}
	i := slices.IndexFunc(pck.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(sgx) })
	leaf := w.certify(&x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{pck.Extensions[i]}}, "Intel SGX PCK Certificate", &ca, pck.PublicKey, nil)
	return []byte(chainPEM(leaf, ca.cert, w.root.cert))
}

// quote issues evidence and its collateral.
func (w *intelWorld) quote(kind softtee.Kind, m softtee.Machine) quoteCase {
	w.t.Helper()
	ca := w.ca
	if m.ProcessorCA {
		ca = w.processor
	}
	quote, err := w.platform.Quote(softtee.Request{Kind: kind, Machine: m, ReportData: [64]byte{1, 2, 3},
		Tamper: func(part softtee.Part, b []byte) []byte {
			if part == softtee.PartPCKChain {
				return w.reissue(b, ca)
			}
			return b
		}})
	if err != nil {
		w.t.Fatal(err)
	}
	return quoteCase{name: string(kind) + " " + m.Name, quote: quote, col: w.collateral(kind.TEE(), ca, quote),
		root: w.root.cert, key: dcap.Roots{w.root.cert.PublicKey.(*ecdsa.PublicKey)}, at: w.now, crls: true}
}

func (w *intelWorld) collateral(tee attest.TEE, ca issuer, quote []byte) *dcap.Collateral {
	col, err := w.platform.Collateral(tee, false)
	if err != nil {
		w.t.Fatal(err)
	}
	var revokedPCK, revokedCA []*big.Int
	if w.revokedPCK {
		revokedPCK = append(revokedPCK, quoteChain(quote)[0].SerialNumber)
	}
	if w.revokedCA {
		revokedCA = append(revokedCA, ca.cert.SerialNumber)
	}
	signing := chainPEM(w.sign.cert, w.root.cert)
	return &dcap.Collateral{
		TCBInfo: col.TCBInfo, TCBInfoSignature: w.rawSignature(col.TCBInfo), TCBInfoIssuerChain: signing,
		QEIdentity: col.QEIdentity, QEIdentitySignature: w.rawSignature(col.QEIdentity), QEIdentityIssuerChain: signing,
		PCKCRL: w.crl(ca, revokedPCK), PCKCRLIssuerChain: chainPEM(ca.cert, w.root.cert),
		RootCACRL: w.crl(w.root, revokedCA),
	}
}

// rawSignature is r ‖ s in hex digits.
func (w *intelWorld) rawSignature(document string) string {
	digest := sha256.Sum256([]byte(document))
	r, s, err := ecdsa.Sign(rand.Reader, w.sign.key.(*ecdsa.PrivateKey), digest[:])
	if err != nil {
		w.t.Fatal(err)
	}
	return hex.EncodeToString(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
}

func (w *intelWorld) crl(by issuer, revoked []*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.now.Add(w.crlFrom - time.Hour),
		NextUpdate: w.now.Add(w.crlFrom + 720*time.Hour)}
	for _, serial := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, by.cert, by.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return der
}

func chainPEM(certs ...*x509.Certificate) string {
	var out []byte
	for _, cert := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return string(out)
}
