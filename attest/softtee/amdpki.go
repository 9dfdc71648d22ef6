// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/snp"
)

// amdPKI is the AMD-like hierarchy of one product, FORMATS §5.2.
type amdPKI struct {
	ark, ask, asvk issuer
}

// csp is the cloud provider that VLEKs are made for.
const csp = "CN=cloud.simulation.example"

func amdName(cn string) pkix.Name {
	return simulationName(cn + " (Simulation)")
}

// amdOf makes the hierarchy of a product when it is first asked for.
func (p *Platform) amdOf(product snp.Product) (*amdPKI, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pki := p.amd[product]; pki != nil {
		return pki, nil
	}
	if !slices.Contains(snp.Products(), product) {
		return nil, fmt.Errorf("unknown product %q", product)
	}
	var pki amdPKI
	var err error
	if pki.ark, err = p.issueRSA("ARK-"+string(product), 1, nil); err != nil {
		return nil, err
	}
	if pki.ask, err = p.issueRSA("SEV-"+string(product), 0, &pki.ark); err != nil {
		return nil, err
	}
	if pki.asvk, err = p.issueRSA("SEV-VLEK-"+string(product), 0, &pki.ark); err != nil {
		return nil, err
	}
	p.amd[product] = &pki
	return &pki, nil
}

func (p *Platform) issueRSA(cn string, pathLen int, parent *issuer) (issuer, error) {
	key, err := p.seed.RSAKey("rsa " + cn)
	if err != nil {
		return issuer{}, err
	}
	serial, err := p.seed.Serial(cn)
	if err != nil {
		return issuer{}, err
	}
	t := &x509.Certificate{SerialNumber: serial, Subject: amdName(cn), IsCA: true, BasicConstraintsValid: true,
		MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SignatureAlgorithm: x509.SHA384WithRSAPSS}
	if parent == nil {
		parent = &issuer{t, key}
	}
	cert, err := p.sign(t, 25, *parent, &key.PublicKey)
	return issuer{cert, key}, err
}

// AMDRoots are the AMD-like root keys of all products.
func (p *Platform) AMDRoots() (snp.Roots, error) {
	roots := snp.Roots{}
	for _, product := range snp.Products() {
		pki, err := p.amdOf(product)
		if err != nil {
			return nil, err
		}
		if key, ok := pki.ark.cert.PublicKey.(*rsa.PublicKey); ok {
			roots[product] = []*rsa.PublicKey{key}
		}
	}
	return roots, nil
}

// vek is a certificate for a VCEK, or for a VLEK if there is no chip id.
func (p *Platform) vek(product snp.Product, chipID []byte, tcb attest.SNPTCB, tamper Tamper) (issuer, error) {
	pki, err := p.amdOf(product)
	if err != nil {
		return issuer{}, err
	}
	raw := snp.Join(product, tcb)
	label := fmt.Sprintf("vek %s %x %x", product, chipID, raw)
	key, err := p.seed.ECKey(elliptic.P384(), "key "+label)
	if err != nil {
		return issuer{}, err
	}
	serial, err := p.seed.Serial(label)
	if err != nil {
		return issuer{}, err
	}
	tcb = snp.TCB(tamper.apply(PartVEKTCB, raw[:])).Split(product)
	extensions, err := vekExtensions(product, chipID, tcb, tamper)
	if err != nil {
		return issuer{}, err
	}
	parent, name, years := pki.ask, "SEV-VCEK", 7
	if len(chipID) == 0 {
		parent, name, years = pki.asvk, "SEV-VLEK", 1
	}
	cert, err := p.sign(&x509.Certificate{SerialNumber: serial, Subject: amdName(name), ExtraExtensions: extensions,
		SignatureAlgorithm: x509.SHA384WithRSAPSS}, years, parent, &key.PublicKey)
	return issuer{cert, key}, err
}

func vekExtensions(product snp.Product, chipID []byte, t attest.SNPTCB, tamper Tamper) ([]pkix.Extension, error) {
	var out []pkix.Extension
	var failed error
	add := func(value any, params string, tail ...int) {
		der, err := asn1.MarshalWithParams(value, params)
		if err != nil {
			failed = err
		}
		out = append(out, pkix.Extension{Id: amdOID(tail...), Value: der})
	}
	name := string(product)
	if product == snp.Milan && len(chipID) > 0 {
		name = "Milan-B0"
	}
	add(0, "", 1)
	add(string(tamper.apply(PartVEKProduct, []byte(name))), "ia5", 2)
	add(int(t.Bootloader), "", 3, 1)
	add(int(t.TEE), "", 3, 2)
	add(int(t.SNP), "", 3, 3)
	for reserved := 4; reserved <= 7; reserved++ {
		if product != snp.Turin || reserved > 4 {
			add(0, "", 3, reserved)
		}
	}
	add(int(t.Microcode), "", 3, 8)
	if product == snp.Turin {
		add(int(t.FMC), "", 3, 9)
	}
	if len(chipID) == 0 {
		add(csp, "ia5", 5)
		return out, failed
	}
	hwid := tamper.apply(PartVEKHWID, slices.Clone(chipID))
	return append(out, pkix.Extension{Id: amdOID(4), Value: hwid}), failed
}

func amdOID(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...)
}

// VCEK is the DER certificate of a chip (64 bytes, Turin 8) at a TCB version.
func (p *Platform) VCEK(product snp.Product, chipID []byte, tcb attest.SNPTCB) ([]byte, error) {
	vek, err := p.vek(product, chipID, tcb, nil)
	if err != nil {
		return nil, err
	}
	return vek.cert.Raw, nil
}

// AMDChain is the PEM of a product's intermediate for a kind of key and of its ARK.
func (p *Platform) AMDChain(product snp.Product, k snp.Key) ([]byte, error) {
	pki, err := p.amdOf(product)
	if err != nil {
		return nil, err
	}
	if k == snp.VLEK {
		return pemChain(pki.asvk.cert, pki.ark.cert), nil
	}
	return pemChain(pki.ask.cert, pki.ark.cert), nil
}

// AMDCRL is the DER list of a product's ARK, nil if it is withheld.
func (p *Platform) AMDCRL(product snp.Product) ([]byte, error) {
	s := p.Settings()
	if s.NoAMDCRL {
		return nil, nil
	}
	pki, err := p.amdOf(product)
	if err != nil {
		return nil, err
	}
	var revoked []*big.Int
	if slices.Contains(s.RevokedASKs, product) {
		revoked = []*big.Int{pki.ask.cert.SerialNumber, pki.asvk.cert.SerialNumber}
	}
	der, err := p.crl(s, pki.ark, 12*s.Validity, revoked)
	return s.Tamper.apply(PartAMDCRL, der), err
}
