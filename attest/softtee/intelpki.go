// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package softtee

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// issuer is a certificate with its key.
type issuer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// intelPKI is the Intel-like hierarchy of FORMATS §1.6.
type intelPKI struct {
	root, platform, processor, signing issuer
}

func simulationName(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Organization: []string{"Marblerun Simulation"}, Country: []string{"XX"}}
}

func (p *Platform) newIntelPKI() (*intelPKI, error) {
	var pki intelPKI
	var err error
	ca := func(cn string, pathLen, years int, parent *issuer) issuer {
		if err != nil {
			return issuer{}
		}
		t := &x509.Certificate{Subject: simulationName(cn), IsCA: true, BasicConstraintsValid: true, MaxPathLen: pathLen,
			MaxPathLenZero: pathLen == 0, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
		var i issuer
		i, err = p.issueEC(t, years, parent)
		return i
	}
	pki.root = ca("Intel SGX Root CA (Simulation)", 1, 30, nil)
	pki.platform = ca("Intel SGX PCK Platform CA (Simulation)", 0, 15, &pki.root)
	pki.processor = ca("Intel SGX PCK Processor CA (Simulation)", 0, 15, &pki.root)
	if err != nil {
		return nil, err
	}
	pki.signing, err = p.issueEC(&x509.Certificate{Subject: simulationName("Intel SGX TCB Signing (Simulation)"),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment}, 7, &pki.root)
	return &pki, err
}

// issueEC makes a P-256 certificate whose key and serial number follow from its name; self-signed without a parent.
func (p *Platform) issueEC(t *x509.Certificate, years int, parent *issuer) (issuer, error) {
	cn := t.Subject.CommonName
	key, err := p.seed.ECKey(elliptic.P256(), "key "+cn)
	if err != nil {
		return issuer{}, err
	}
	if t.SerialNumber, err = p.seed.Serial(cn); err != nil {
		return issuer{}, err
	}
	self := issuer{t, key}
	if parent == nil {
		parent = &self
	}
	cert, err := p.sign(t, years, *parent, &key.PublicKey)
	return issuer{cert, key}, err
}

// sign issues a certificate that is valid from a day before the platform's creation.
func (p *Platform) sign(t *x509.Certificate, years int, parent issuer, public crypto.PublicKey) (
	*x509.Certificate, error,
) {
	t.NotBefore = p.created.AddDate(0, 0, -1)
	t.NotAfter = t.NotBefore.AddDate(years, 0, 0)
	salt, err := p.seed.Salt(parent.key, "certificate "+t.SerialNumber.String())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(salt, t, parent.cert, public, parent.key)
	if err != nil {
		return nil, fmt.Errorf("issuing %q: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// pck is a machine's PCK certificate with its key.
func (p *Platform) pck(m *intelMachine, tamper Tamper) (issuer, error) {
	label := fmt.Sprintf("pck %s %x %d %t", m.Name, m.cpuSVN, m.pceSVN, m.ProcessorCA)
	key, err := p.seed.ECKey(elliptic.P256(), "key "+label)
	if err != nil {
		return issuer{}, err
	}
	extension, err := sgxExtension(m)
	if err != nil {
		return issuer{}, err
	}
	serial, err := p.seed.Serial("pck " + m.Name)
	if err != nil {
		return issuer{}, err
	}
	cert, err := p.sign(&x509.Certificate{
		SerialNumber: serial, Subject: simulationName("Intel SGX PCK Certificate (Simulation)"),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ExtraExtensions: []pkix.Extension{{Id: sgxOID(), Value: tamper.apply(PartPCKExtension, extension)}},
	}, 7, p.intel.pckCA(m.ProcessorCA), &key.PublicKey)
	return issuer{cert, key}, err
}

func (pki *intelPKI) pckCA(processor bool) issuer {
	if processor {
		return pki.processor
	}
	return pki.platform
}

// sgxOID is the arc of the SGX extension, FORMATS §1.7.
func sgxOID(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
}

// sgxExtension encodes SEQUENCE of SEQUENCE{OID, value}.
func sgxExtension(m *intelMachine) ([]byte, error) {
	fmspc, err := hex.DecodeString(FMSPC)
	if err != nil {
		return nil, err
	}
	var tcb []field
	for i, svn := range m.cpuSVN {
		tcb = append(tcb, field{sgxOID(2, i+1), int(svn)})
	}
	tcb = append(tcb, field{sgxOID(2, 17), int(m.pceSVN)}, field{sgxOID(2, 18), m.cpuSVN[:]})
	fields := []field{
		{sgxOID(1), m.ppid}, {sgxOID(2), tcb}, {sgxOID(3), []byte{0, 0}}, {sgxOID(4), fmspc},
		{sgxOID(5), asn1.Enumerated(1)},
	}
	if !m.ProcessorCA {
		configuration := []field{{sgxOID(7, 1), true}, {sgxOID(7, 2), false}, {sgxOID(7, 3), true}}
		fields = append(fields, field{sgxOID(6), m.instance}, field{sgxOID(7), configuration})
	}
	return marshalFields(fields)
}

// field is SEQUENCE{OID, value}; the value is an INTEGER, OCTET STRING, ENUMERATED, BOOLEAN or a sequence of fields.
type field struct {
	id    asn1.ObjectIdentifier
	value any
}

func marshalFields(fields []field) ([]byte, error) {
	var content []byte
	for _, f := range fields {
		id, err := asn1.Marshal(f.id)
		if err != nil {
			return nil, err
		}
		value, err := marshalValue(f.value)
		if err != nil {
			return nil, fmt.Errorf("%v: %w", f.id, err)
		}
		one, err := sequence(append(id, value...))
		if err != nil {
			return nil, err
		}
		content = append(content, one...)
	}
	return sequence(content)
}

func marshalValue(v any) ([]byte, error) {
	if nested, ok := v.([]field); ok {
		return marshalFields(nested)
	}
	return asn1.Marshal(v)
}

func sequence(content []byte) ([]byte, error) {
	return asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
}

// PCKCRL is the DER list of the platform or processor CA, nil if it is withheld.
func (p *Platform) PCKCRL(processor bool) ([]byte, error) {
	s := p.Settings()
	if s.NoPCKCRL {
		return nil, nil
	}
	var revoked []*big.Int
	for _, name := range s.RevokedMachines {
		serial, err := p.seed.Serial("pck " + name)
		if err != nil {
			return nil, err
		}
		revoked = append(revoked, serial)
	}
	der, err := p.crl(s, p.intel.pckCA(processor), s.Validity, revoked)
	return s.Tamper.apply(PartPCKCRL, der), err
}

// RootCRL is the DER list of the root, nil if it is withheld.
func (p *Platform) RootCRL() ([]byte, error) {
	s := p.Settings()
	if s.NoRootCRL {
		return nil, nil
	}
	byName := map[string]issuer{CAPlatform: p.intel.platform, CAProcessor: p.intel.processor,
		CATCBSigning: p.intel.signing}
	var revoked []*big.Int
	for _, name := range s.RevokedCAs {
		ca, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("no CA %q to revoke", name)
		}
		revoked = append(revoked, ca.cert.SerialNumber)
	}
	der, err := p.crl(s, p.intel.root, 12*s.Validity, revoked)
	return s.Tamper.apply(PartRootCRL, der), err
}

// crl issues a list; its number is the time of its issue.
func (p *Platform) crl(s Settings, ca issuer, validity time.Duration, revoked []*big.Int) ([]byte, error) {
	from := p.issueDate(s)
	t := &x509.RevocationList{Number: big.NewInt(from.Unix()), ThisUpdate: from, NextUpdate: from.Add(validity)}
	for _, serial := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: from, ReasonCode: 1})
	}
	if _, ok := ca.key.(*rsa.PrivateKey); ok {
		t.SignatureAlgorithm = x509.SHA384WithRSAPSS
	}
	salt, err := p.seed.Salt(ca.key, fmt.Sprint("CRL ", ca.cert.Subject.CommonName, from.Unix()))
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateRevocationList(salt, t, ca.cert, ca.key)
	if err != nil {
		return nil, fmt.Errorf("issuing the CRL of %q: %w", ca.cert.Subject.CommonName, err)
	}
	return der, nil
}

// issueDate is when the current collateral was issued, a whole minute, so that it stays the same for a while.
func (p *Platform) issueDate(s Settings) time.Time {
	return p.now().UTC().Add(-s.Age).Truncate(time.Minute)
}

// pemChain is the PEM of certificates in the given order.
func pemChain(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = slices.Concat(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out
}
