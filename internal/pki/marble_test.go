// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func issue(t testing.TB, ca *CA, csr *CSR, allowed ...string) (*Leaf, *x509.Certificate) {
	t.Helper()
	leaf, err := ca.IssueMarble(csr, testUUID, "m", allowed, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(leaf.DER)
	if err != nil {
		t.Fatal(err)
	}
	return leaf, cert
}

// TestMarbleLeaf is the table of contract marble-api §6, the column of the leaf, and check 8 of §13.
func TestMarbleLeaf(t *testing.T) {
	ca := newTestCA(t)
	leaf, cert := issue(t, ca, &CSR{DNSNames: []string{"a", "b"}, IPs: []net.IP{net.ParseIP("10.1.2.3").To4()}})
	if got := cert.Subject.String(); got != "CN="+testUUID {
		t.Errorf("subject %q", got)
	}
	if !bytes.Equal(cert.RawIssuer, ca.Intermediate.RawSubject) || cert.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		t.Errorf("issuer %v, signature %v", cert.Issuer, cert.SignatureAlgorithm)
	}
	if cert.IsCA || !cert.BasicConstraintsValid ||
		cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement {
		t.Errorf("CA %v, key usage %b", cert.IsCA, cert.KeyUsage)
	}
	if !cert.NotBefore.Equal(testNow()) || !cert.NotAfter.Equal(testNow().Add(Lifetime).Truncate(time.Second)) {
		t.Errorf("valid %v to %v", cert.NotBefore, cert.NotAfter)
	}
	if cert.SubjectKeyId != nil || !bytes.Equal(cert.AuthorityKeyId, ca.MarbleRoot.SubjectKeyId) {
		t.Errorf("SKI %x, AKI %x", cert.SubjectKeyId, cert.AuthorityKeyId)
	}
	if diff := cmp.Diff([]string{"a", "b"}, cert.DNSNames); diff != "" || cert.IPAddresses[0].String() != "10.1.2.3" {
		t.Errorf("names %v %v", cert.DNSNames, cert.IPAddresses)
	}
	last := cert.Extensions[len(cert.Extensions)-1]
	if last.Id.String() != "1.3.9903.2.1" || last.Critical || string(last.Value) != "\x6d" {
		t.Errorf("Marble-type extension %+v", last)
	}
	if !leaf.Key.PublicKey.Equal(cert.PublicKey) || leaf.Key.Curve != elliptic.P384() {
		t.Error("the key is not the certificate's")
	}
}

// TestLeafChains: contract marble-api §13, check 7.
func TestLeafChains(t *testing.T) {
	ca := newTestCA(t)
	_, cert := issue(t, ca, &CSR{DNSNames: []string{"web"}})
	for name, c := range map[string]struct{ root, intermediate *x509.Certificate }{
		"Marble Root alone":         {ca.MarbleRoot, nil},
		"root through intermediate": {ca.Root, ca.Intermediate},
	} {
		o := x509.VerifyOptions{
			Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), DNSName: "web", CurrentTime: testNow(),
		}
		o.Roots.AddCert(c.root)
		if c.intermediate != nil {
			o.Intermediates.AddCert(c.intermediate)
		}
		if _, err := cert.Verify(o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLeafBytesEqualX509 shows that the direct assembly signs exactly what x509.CreateCertificate would.
func TestLeafBytesEqualX509(t *testing.T) {
	ca := newTestCA(t)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &Leaf{Key: key}
	if err := leaf.encodeKey(); err != nil {
		t.Fatal(err)
	}
	ip := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 4, 4), rapid.SliceOfN(rapid.Byte(), 16, 16))
	long := rapid.Just(strings.Repeat("x", 1<<16))
	rapid.Check(t, func(t *rapid.T) {
		s := leafSpec{
			serial:     rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "serial"),
			notBefore:  time.Unix(rapid.Int64Range(-600_000_000, 8_000_000_000).Draw(t, "now"), 0),
			id:         rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`).Draw(t, "uuid"),
			marbleType: rapid.OneOf(rapid.String(), long).Draw(t, "type"),
			spki:       leaf.SPKI,
			dns:        rapid.SliceOfN(rapid.StringMatching(`[ -~]{0,300}`), 0, 12).Draw(t, "dns"),
		}
		for _, b := range rapid.SliceOfN(ip, 0, 12).Draw(t, "ips") {
			s.ips = append(s.ips, b)
		}
		got, err := ca.derived.leaf.assemble(s)
		if err != nil {
			t.Fatal(err)
		}
		if want := x509TBS(t, ca, s, key); !bytes.Equal(got, want) {
			t.Fatalf("got  %x\nwant %x", got, want)
		}
	})
}

func x509TBS(t *rapid.T, ca *CA, s leafSpec, key *ecdsa.PrivateKey) []byte {
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(s.serial), Subject: pkix.Name{CommonName: s.id},
		NotBefore: s.notBefore, NotAfter: s.notBefore.Add(Lifetime), BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    s.dns, IPAddresses: s.ips,
		ExtraExtensions: []pkix.Extension{{Id: MarbleTypeOID(), Value: []byte(s.marbleType)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.MarbleRoot, &key.PublicKey, ca.IntermediateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert.RawTBSCertificate
}

// TestKeyBytesEqualX509 does the same for the key encodings.
func TestKeyBytesEqualX509(t *testing.T) {
	ca := newTestCA(t)
	for range 20 {
		leaf, _ := issue(t, ca, &CSR{})
		pkcs8, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(&leaf.Key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pkcs8, leaf.PKCS8) || !bytes.Equal(spki, leaf.SPKI) {
			t.Fatalf("got %x %x, want %x %x", leaf.PKCS8, leaf.SPKI, pkcs8, spki)
		}
	}
}

func TestIssueMarbleRefuses(t *testing.T) {
	ca := newTestCA(t)
	for _, id := range []string{"", "garbage", strings.ToUpper(testUUID), "{" + testUUID + "}", testUUID[:35] + "g"} {
		if _, err := ca.IssueMarble(&CSR{}, id, "m", nil, testNow(), rand.Reader); err == nil {
			t.Errorf("UUID %q accepted", id)
		}
	}
	never := time.Date(9900, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := ca.IssueMarble(&CSR{}, testUUID, "m", nil, never, rand.Reader); err == nil {
		t.Error("a certificate past the year 9999 was issued")
	}
	if _, err := ca.IssueMarble(&CSR{}, testUUID, "m", nil, testNow(), strings.NewReader("short")); err == nil {
		t.Error("a serial number was made from too little randomness")
	}
}

func TestNames(t *testing.T) {
	ca := newTestCA(t)
	for _, c := range []struct {
		name      string
		dns, ips  []string
		allowed   []string
		kept      []string
		wantDrops []string
	}{
		{name: "ordinary names pass, in order and spelling", dns: []string{"b", "A.Example"}, ips: []string{"10.0.0.2"},
			kept: []string{"b", "A.Example", "10.0.0.2"}},
		{name: "the Coordinator's own name, any case, with a dot",
			dns:       []string{"Coordinator-Client-API.marblerun", "coordinator-client-api.marblerun.", "web"},
			kept:      []string{"web"},
			wantDrops: []string{"Coordinator-Client-API.marblerun", "coordinator-client-api.marblerun."}},
		{name: "a wildcard that covers it", dns: []string{"*.marblerun", "*.other"},
			kept: []string{"*.other"}, wantDrops: []string{"*.marblerun"}},
		{name: "a star within a label, which OpenSSL honors",
			dns:       []string{"coordinator-*.marblerun", "*-api.marblerun", "c*i.marblerun", "C*.Marblerun", "d*.marblerun", "c*.other"},
			kept:      []string{"d*.marblerun", "c*.other"},
			wantDrops: []string{"coordinator-*.marblerun", "*-api.marblerun", "c*i.marblerun", "C*.Marblerun"}},
		{name: "the Coordinator's own address, also as text", dns: []string{"10.0.0.1"}, ips: []string{"10.0.0.1"},
			wantDrops: []string{"10.0.0.1", "10.0.0.1"}},
		{name: "localhost and loopback pass", dns: []string{"localhost", "LocalHost."}, ips: []string{"127.0.0.1", "::1"},
			kept: []string{"localhost", "LocalHost.", "127.0.0.1", "::1"}},
		{name: "control characters and empty names", dns: []string{"web\x00.evil", ""},
			wantDrops: []string{"web\x00.evil", ""}},
		{name: "AllowedNames: exact, any case", dns: []string{"WEB", "db"}, allowed: []string{"web"},
			kept: []string{"WEB"}, wantDrops: []string{"db"}},
		{name: "AllowedNames: wildcard is one label", dns: []string{"a.ns", "a.b.ns", "ns", ".ns", "*.ns", "a*.ns"},
			allowed: []string{"*.ns"}, kept: []string{"a.ns"}, wantDrops: []string{"a.b.ns", "ns", ".ns", "*.ns", "a*.ns"}},
		{name: "AllowedNames: an empty list allows none", dns: []string{"web", "localhost"}, allowed: []string{},
			kept: []string{"localhost"}, wantDrops: []string{"web"}},
		{name: "AllowedNames: addresses", ips: []string{"10.9.9.9", "10.9.9.8", "fd00::1"},
			allowed: []string{"10.9.9.9", "FD00:0::1"}, kept: []string{"10.9.9.9", "fd00::1"}, wantDrops: []string{"10.9.9.8"}},
		{name: "AllowedNames: loopback always", dns: []string{"localhost"}, ips: []string{"127.0.0.1"},
			allowed: []string{"web"}, kept: []string{"localhost", "127.0.0.1"}},
		{name: "AllowedNames do not override the Coordinator's names", dns: []string{"coordinator-client-api.marblerun"},
			allowed: []string{"*.marblerun"}, wantDrops: []string{"coordinator-client-api.marblerun"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			csr := &CSR{DNSNames: c.dns}
			for _, ip := range c.ips {
				csr.IPs = append(csr.IPs, net.ParseIP(ip))
			}
			leaf, cert := issue(t, ca, csr, c.allowed...)
			kept := cert.DNSNames
			for _, ip := range cert.IPAddresses {
				kept = append(kept, ip.String())
			}
			if diff := cmp.Diff(c.kept, kept); diff != "" {
				t.Error("kept:", diff)
			}
			if diff := cmp.Diff(c.wantDrops, leaf.Dropped); diff != "" {
				t.Error("dropped:", diff)
			}
		})
	}
}

// TestVerifyMarble: contract client-api §4.
func TestVerifyMarble(t *testing.T) {
	ca := newTestCA(t)
	_, cert := issue(t, ca, &CSR{})
	marbleType, id, err := ca.VerifyMarble(cert, testNow().Add(time.Hour))
	if err != nil || marbleType != "m" || id != testUUID {
		t.Fatalf("got %q %q %v", marbleType, id, err)
	}
	next, err := ca.Rotate(testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := newTestCA(t)
	direct := func(marbleType []byte, usage x509.ExtKeyUsage) *x509.Certificate {
		return signed(t, ca.MarbleRoot, ca.IntermediateKey, marbleType, usage)
	}
	for name, c := range map[string]struct {
		ca   *CA
		cert *x509.Certificate
		now  time.Time
	}{
		"after an update":         {next, cert, testNow()},
		"another deployment":      {other, cert, testNow()},
		"before its time":         {ca, cert, testNow().Add(-time.Hour)},
		"a CA certificate":        {ca, ca.MarbleRoot, testNow()},
		"a secret's certificate":  {ca, direct(nil, x509.ExtKeyUsageServerAuth), testNow()},
		"client auth only":        {ca, direct([]byte("m"), x509.ExtKeyUsageClientAuth), testNow()},
		"signed by a secret's CA": {ca, signedBySecretCA(t, ca), testNow()},
	} {
		if _, _, err := c.ca.VerifyMarble(c.cert, c.now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// signed makes a certificate like a leaf with x509, so that single properties can be left out.
func signed(
	t *testing.T, parent *x509.Certificate, key *ecdsa.PrivateKey, marbleType []byte, usage x509.ExtKeyUsage,
) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: testUUID}, NotBefore: testNow(),
		NotAfter: testNow().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage}, BasicConstraintsValid: true,
	}
	if marbleType != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: MarbleTypeOID(), Value: marbleType}}
	}
	subject, err := newKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := create(template, parent, &subject.PublicKey, key, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func signedBySecretCA(t *testing.T, ca *CA) *x509.Certificate {
	t.Helper()
	key, err := newKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.IssueSecretCert(&x509.Certificate{
		Subject: pkix.Name{CommonName: "sub"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		NotAfter: testNow().Add(time.Hour),
	}, &key.PublicKey, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, sub, key, []byte("m"), x509.ExtKeyUsageServerAuth)
}
