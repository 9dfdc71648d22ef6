// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package dcap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/dcap"
)

// forge makes quotes and collateral of a platform that exists only here, with every key at hand, so that tests can sign
// what Intel would not. Change its fields, then call make.
type forge struct {
	now                         time.Time
	root, ca, signing, pck, att *ecdsa.PrivateKey
	otherRoot                   *ecdsa.PrivateKey
	rootName, caName            string
	version                     uint16
	tee                         attest.TEE
	certType                    uint16
	reverseChain                bool
	padding                     []byte
	extension                   []asn1.RawValue // nil: the usual items
	body, qeReport, authRaw     []byte
	revokedPCK, revokedRoot     []*big.Int
	crlTemplate                 func(*x509.RevocationList)
	certTemplate                func(name string, c *x509.Certificate)
	info, identity              map[string]any
	afterSign                   func(col *dcap.Collateral)
	qeData                      func(hash []byte) []byte
}

const (
	serialCA      = 11
	serialSigning = 12
	serialPCK     = 13
)

func newForge(t testing.TB, tee attest.TEE) *forge {
	f := &forge{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), tee: tee, version: 3, certType: 5,
		rootName: "Test SGX Root CA", caName: "Test SGX PCK Platform CA", authRaw: []byte("authentication data")}
	for _, key := range []**ecdsa.PrivateKey{&f.root, &f.ca, &f.signing, &f.pck, &f.att, &f.otherRoot} {
		var err error
		if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	f.qeReport = sgxBody(1<<0|1<<2|1<<4, 1, 8)
	f.info = tcbInfo("SGX")
	f.identity = qeIdentity("QE", 1)
	f.body = sgxBody(1<<0|1<<2, 7, 3)
	if tee == attest.TDX {
		f.version = 4
		f.info = tcbInfo("TDX")
		f.identity = qeIdentity("TD_QE", 2)
		binary.LittleEndian.PutUint16(f.qeReport[256:], 2)
		f.body = make([]byte, 584)
		copy(f.body, []byte{6, 1, 5, 5})
		for i := 136; i < 184; i++ {
			f.body[i] = 0xd0
		}
	}
	return f
}

// sgxBody makes an SGX report body; MRSIGNER is 32 times 0x51.
func sgxBody(flags byte, prodID, svn uint16) []byte {
	b := make([]byte, 384)
	b[48] = flags
	for i := range 32 {
		b[64+i], b[128+i] = 0xe1, 0x51
	}
	binary.LittleEndian.PutUint16(b[256:], prodID)
	binary.LittleEndian.PutUint16(b[258:], svn)
	return b
}

func components(svn int) []any {
	list := make([]any, 16)
	for i := range list {
		list[i] = map[string]any{"svn": svn, "category": "BIOS"}
	}
	return list
}

func enclaveLevel(svn int, status attest.TCBStatus, date string, advisories ...string) any {
	level := map[string]any{"tcb": map[string]any{"isvsvn": svn}, "tcbDate": date + "T00:00:00Z", "tcbStatus": status}
	if len(advisories) > 0 {
		level["advisoryIDs"] = advisories
	}
	return level
}

func platformLevel(tee string, svn, pce int, status attest.TCBStatus, date string, advisories ...string) any {
	parts := map[string]any{"sgxtcbcomponents": components(svn), "pcesvn": pce}
	if tee == "TDX" {
		parts["tdxtcbcomponents"] = components(svn)
	}
	level := map[string]any{"tcb": parts, "tcbDate": date + "T00:00:00Z", "tcbStatus": status}
	if len(advisories) > 0 {
		level["advisoryIDs"] = advisories
	}
	return level
}

// tcbInfo knows levels with all components 5 (UpToDate), 4 (SWHardeningNeeded), 3 (OutOfDate) and 2 (Revoked).
func tcbInfo(id string) map[string]any {
	info := map[string]any{"id": id, "version": 3, "issueDate": "2026-02-20T00:00:00Z",
		"nextUpdate": "2026-03-20T00:00:00Z", "fmspc": "f0f1f2f3f4f5", "pceId": "0000", "tcbType": 0,
		"tcbEvaluationDataNumber": 20, "tcbLevels": []any{
			platformLevel(id, 5, 13, attest.UpToDate, "2025-05-14"),
			platformLevel(id, 4, 13, attest.SWHardeningNeeded, "2025-05-14", "INTEL-SA-00004"),
			platformLevel(id, 3, 11, attest.OutOfDate, "2023-08-09", "INTEL-SA-00004", "INTEL-SA-00003"),
			platformLevel(id, 2, 5, attest.Revoked, "2018-01-04", "INTEL-SA-00002"),
		}}
	if id == "TDX" {
		module := map[string]any{"mrsigner": zeros(48), "attributes": zeros(8), "attributesMask": "FFFFFFFFFFFFFFFF"}
		info["tdxModule"] = module
		info["tdxModuleIdentities"] = []any{map[string]any{"id": "TDX_01", "mrsigner": zeros(48), "attributes": zeros(8),
			"attributesMask": "FFFFFFFFFFFFFFFF", "tcbLevels": []any{
				enclaveLevel(6, attest.UpToDate, "2024-11-13"),
				enclaveLevel(4, attest.OutOfDate, "2024-03-13", "INTEL-SA-01036"),
				enclaveLevel(2, attest.Revoked, "2023-08-09")}}}
	}
	return info
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }

func qeIdentity(id string, prodID int) map[string]any {
	mrsigner := hex.EncodeToString(slices.Repeat([]byte{0x51}, 32))
	return map[string]any{"id": id, "version": 2, "issueDate": "2026-02-21T00:00:00Z",
		"nextUpdate":              "2026-03-21T00:00:00Z",
		"tcbEvaluationDataNumber": 20, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
		"attributes": "15000000000000000000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF0000000000000000",
		"mrsigner": mrsigner, "isvprodid": prodID, "tcbLevels": []any{
			enclaveLevel(8, attest.UpToDate, "2024-11-13"),
			enclaveLevel(6, attest.OutOfDate, "2023-08-09", "INTEL-SA-00477"),
			enclaveLevel(3, attest.Revoked, "2020-01-01")}}
}

// setSVN gives the PCK the same SVN in all components.
func (f *forge) setSVN(svn, pce int) { f.extension = pckItems(svn, pce) }

var sgxOID = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

func item(id asn1.ObjectIdentifier, value any) asn1.RawValue {
	der, err := asn1.Marshal(struct {
		ID    asn1.ObjectIdentifier
		Value any
	}{id, value})
	if err != nil {
		panic(err)
	}
	return asn1.RawValue{FullBytes: der}
}

func sub(parts ...int) asn1.ObjectIdentifier { return append(slices.Clone(sgxOID), parts...) }

func tcbItems(svn, pce int) []asn1.RawValue {
	var tcb []asn1.RawValue
	for i := 1; i <= 16; i++ {
		tcb = append(tcb, item(sub(2, i), svn))
	}
	return append(tcb, item(sub(2, 17), pce), item(sub(2, 18), make([]byte, 16)))
}

func pckItems(svn, pce int) []asn1.RawValue {
	return []asn1.RawValue{
		item(sub(1), slices.Repeat([]byte{0xbb}, 16)), item(sub(2), tcbItems(svn, pce)), item(sub(3), make([]byte, 2)),
		item(sub(4), []byte{0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5}), item(sub(5), asn1.Enumerated(1)),
		item(sub(6), slices.Repeat([]byte{0xcc}, 16)),
		item(sub(7), []asn1.RawValue{item(sub(7, 1), true), item(sub(7, 2), true), item(sub(7, 3), false)}),
	}
}

// certificate issues one; role is "root", "ca", "signing" or "pck".
func (f *forge) certificate(t testing.TB, role string, parent *x509.Certificate, signer *ecdsa.PrivateKey,
	c *x509.Certificate, key *ecdsa.PrivateKey,
) *x509.Certificate {
	c.NotBefore, c.NotAfter = f.now.AddDate(-1, 0, 0), f.now.AddDate(5, 0, 0)
	c.BasicConstraintsValid = true
	c.SubjectKeyId = []byte(role)
	if c.KeyUsage = x509.KeyUsageDigitalSignature; c.IsCA {
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if f.certTemplate != nil {
		f.certTemplate(role, c)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func template(serial int64, name string, ca bool) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IsCA: ca}
}

func pemChain(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func (f *forge) crl(t testing.TB, issuer *x509.Certificate, key *ecdsa.PrivateKey, revoked []*big.Int) []byte {
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: f.now.AddDate(0, 0, -10),
		NextUpdate: f.now.AddDate(0, 0, 20)}
	for _, serial := range append([]*big.Int{big.NewInt(99), new(big.Int).Lsh(big.NewInt(0xff), 152)}, revoked...) {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: f.now.AddDate(0, 0, -11), ReasonCode: 1})
	}
	if f.crlTemplate != nil {
		f.crlTemplate(list)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func sign(t testing.TB, key *ecdsa.PrivateKey, message []byte) []byte {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

func marshal(t testing.TB, doc any) string {
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// make issues everything.
func (f *forge) make(t testing.TB) (quote []byte, col *dcap.Collateral, opts dcap.Options) {
	root := f.certificate(t, "root", nil, f.root, template(1, f.rootName, true), f.root)
	ca := f.certificate(t, "ca", root, f.root, template(serialCA, f.caName, true), f.ca)
	signing := f.certificate(t, "signing", root, f.root, template(serialSigning, "Test SGX TCB Signing", false), f.signing)
	items := f.extension
	if items == nil {
		items = pckItems(5, 13)
	}
	extension, err := asn1.Marshal(items)
	if err != nil {
		t.Fatal(err)
	}
	leaf := template(serialPCK, "Test SGX PCK Certificate", false)
	leaf.ExtraExtensions = []pkix.Extension{{Id: sgxOID, Value: extension}}
	pck := f.certificate(t, "pck", ca, f.ca, leaf, f.pck)

	chain := pemChain(pck, ca, root)
	if f.reverseChain {
		chain = pemChain(pck, root, ca)
	}
	issuers := string(pemChain(signing, root))
	info, identity := marshal(t, f.info), marshal(t, f.identity)
	col = &dcap.Collateral{
		TCBInfo: info, TCBInfoIssuerChain: issuers, TCBInfoSignature: hex.EncodeToString(sign(t, f.signing, []byte(info))),
		QEIdentity: identity, QEIdentityIssuerChain: issuers,
		QEIdentitySignature: hex.EncodeToString(sign(t, f.signing, []byte(identity))),
		PCKCRL:              f.crl(t, ca, f.ca, f.revokedPCK), RootCACRL: f.crl(t, root, f.root, f.revokedRoot),
	}
	if f.afterSign != nil {
		f.afterSign(col)
	}
	return f.quote(t, chain), col, dcap.Options{Roots: dcap.Roots{&f.root.PublicKey}, Time: f.now}
}

// quote signs a quote with a PCK chain.
func (f *forge) quote(t testing.TB, chain []byte) []byte {
	header := make([]byte, 48)
	binary.LittleEndian.PutUint16(header, f.version)
	binary.LittleEndian.PutUint16(header[2:], 2)
	if f.tee == attest.TDX {
		header[4] = 0x81
	}
	vendor, _ := hex.DecodeString("939a7233f79c4ca9940a0db3957f0607")
	copy(header[12:], vendor)
	if f.version == 5 {
		kind := map[int]uint16{384: 1, 584: 2, 648: 3}[len(f.body)]
		header = binary.LittleEndian.AppendUint16(header, kind)
		header = binary.LittleEndian.AppendUint32(header, uint32(len(f.body)))
	}
	signed := append(header, f.body...)

	point, err := f.att.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := point[1:]
	bound := sha256.Sum256(slices.Concat(key, f.authRaw))
	qe := slices.Clone(f.qeReport)
	copy(qe[320:], bound[:])
	if f.qeData != nil {
		copy(qe[320:], f.qeData(bound[:]))
	}
	inner := slices.Concat(qe, sign(t, f.pck, qe))
	inner = binary.LittleEndian.AppendUint16(inner, uint16(len(f.authRaw)))
	inner = append(inner, f.authRaw...)
	inner = append(inner, sizedData(f.certType, chain)...)
	if f.version > 3 {
		inner = sizedData(6, inner)
	}
	signature := slices.Concat(sign(t, f.att, signed), key, inner)
	quote := binary.LittleEndian.AppendUint32(signed, uint32(len(signature)))
	return slices.Concat(quote, signature, f.padding)
}

func sizedData(kind uint16, data []byte) []byte {
	out := binary.LittleEndian.AppendUint16(nil, kind)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	return append(out, data...)
}
