// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testUUID = "0f0e0d0c-0b0a-4908-8706-050403020100"

// testNow is a whole second: certificates have no finer time.
func testNow() time.Time { return time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC) }

func newTestCA(t testing.TB) *CA {
	t.Helper()
	ca, err := New(Options{
		DNSNames: []string{"localhost", "coordinator-client-api.marblerun"}, IPs: []net.IP{net.ParseIP("10.0.0.1")},
		Now: testNow(), Rand: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// TestHierarchy is the table of contract marble-api §6, the columns of the CAs.
func TestHierarchy(t *testing.T) {
	ca := newTestCA(t)
	for _, c := range []struct {
		name            string
		cert            *x509.Certificate
		subject, issuer string
		key             *ecdsa.PrivateKey
		authority       []byte
		parent          *x509.Certificate
	}{
		{"root", ca.Root, RootCommonName, RootCommonName, ca.RootKey, nil, ca.Root},
		{"intermediate", ca.Intermediate, IntermediateCommonName, RootCommonName, ca.IntermediateKey,
			ca.Root.SubjectKeyId, ca.Root},
		{"Marble Root", ca.MarbleRoot, IntermediateCommonName, IntermediateCommonName, ca.IntermediateKey, nil,
			ca.MarbleRoot},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkCAProfile(t, c.cert)
			if c.cert.Subject.String() != "CN="+c.subject || c.cert.Issuer.String() != "CN="+c.issuer {
				t.Errorf("subject %q, issuer %q", c.cert.Subject, c.cert.Issuer)
			}
			if !c.key.PublicKey.Equal(c.cert.PublicKey) || c.key.Curve != elliptic.P384() {
				t.Error("wrong key")
			}
			if len(c.cert.SubjectKeyId) != 20 || !bytes.Equal(c.cert.AuthorityKeyId, c.authority) {
				t.Errorf("SKI %x, AKI %x", c.cert.SubjectKeyId, c.cert.AuthorityKeyId)
			}
			if err := c.cert.CheckSignatureFrom(c.parent); err != nil {
				t.Error(err)
			}
		})
	}
	if !bytes.Equal(ca.Intermediate.SubjectKeyId, ca.MarbleRoot.SubjectKeyId) {
		t.Error("intermediate and Marble Root differ in their key identifier")
	}
}

func checkCAProfile(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	if cert.SignatureAlgorithm != x509.ECDSAWithSHA384 || cert.SerialNumber.BitLen() > 128 {
		t.Errorf("signature %v, serial %v", cert.SignatureAlgorithm, cert.SerialNumber)
	}
	if !cert.NotBefore.Equal(testNow()) || !cert.NotAfter.Equal(testNow().Add(Lifetime).Truncate(time.Second)) {
		t.Errorf("valid %v to %v", cert.NotBefore, cert.NotAfter)
	}
	if !cert.IsCA || !cert.BasicConstraintsValid || cert.MaxPathLen != -1 {
		t.Error("basic constraints")
	}
	if cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageCertSign {
		t.Errorf("key usage %b", cert.KeyUsage)
	}
	want := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if diff := cmp.Diff(want, cert.ExtKeyUsage); diff != "" {
		t.Error(diff)
	}
	// coordinator-runtime check 13: 127.0.0.1, ::1, then the list's addresses, in this order.
	if got := cert.IPAddresses; len(got) != 3 || got[0].String() != "127.0.0.1" || got[1].String() != "::1" ||
		got[2].String() != "10.0.0.1" {
		t.Errorf("IP SANs %v", got)
	}
	if diff := cmp.Diff([]string{"localhost", "coordinator-client-api.marblerun"}, cert.DNSNames); diff != "" {
		t.Error(diff)
	}
}

// TestRotate: R is kept, K is new, no name is lost (manifest Q13).
func TestRotate(t *testing.T) {
	ca := newTestCA(t)
	next, err := ca.Rotate(testNow().Add(time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if next.Root != ca.Root || next.RootKey != ca.RootKey {
		t.Error("the root changed")
	}
	if next.IntermediateKey.Equal(ca.IntermediateKey) ||
		bytes.Equal(next.MarbleRoot.SubjectKeyId, ca.MarbleRoot.SubjectKeyId) {
		t.Error("K did not change")
	}
	for _, cert := range []*x509.Certificate{next.Intermediate, next.MarbleRoot} {
		if len(cert.IPAddresses) != 3 || len(cert.DNSNames) != 2 {
			t.Errorf("names lost: %v %v", cert.DNSNames, cert.IPAddresses)
		}
	}
	if err := next.Intermediate.CheckSignatureFrom(ca.Root); err != nil {
		t.Error(err)
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	ca := newTestCA(t)
	data, err := ca.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Unmarshal(data)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Root.Equal(ca.Root) || !got.Intermediate.Equal(ca.Intermediate) || !got.MarbleRoot.Equal(ca.MarbleRoot) ||
		!got.RootKey.Equal(ca.RootKey) || !got.IntermediateKey.Equal(ca.IntermediateKey) {
		t.Error("the CA changed on the way")
	}
	if !bytes.Equal(got.PEMChain(), ca.PEMChain()) || !bytes.HasSuffix(ca.PEMChain(), ca.RootPEM()) ||
		!bytes.HasPrefix(ca.PEMChain(), ca.IntermediatePEM()) {
		t.Error("the PEM chain is not intermediate, root")
	}
	if _, err := got.IssueMarble(&CSR{}, testUUID, "m", nil, testNow(), rand.Reader); err != nil {
		t.Error(err)
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	data, err := newTestCA(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newTestCA(t).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	mixed := bytes.Join([][]byte{data[:bytes.Index(data, []byte(`"rootKey"`))],
		other[bytes.Index(other, []byte(`"rootKey"`)):]}, nil)
	for name, bad := range map[string][]byte{
		"nothing": nil, "empty": []byte("{}"), "cut": data[:len(data)/2], "keys of another CA": mixed,
	} {
		if _, err := Unmarshal(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIncompleteCAIssuesNothing(t *testing.T) {
	ca := newTestCA(t)
	literal := &CA{Root: ca.Root, MarbleRoot: ca.MarbleRoot, IntermediateKey: ca.IntermediateKey}
	if _, err := literal.IssueMarble(&CSR{}, testUUID, "m", nil, testNow(), rand.Reader); err == nil {
		t.Error("a literal CA issued a leaf without knowing its reserved names")
	}
	if _, err := literal.Marshal(); err == nil {
		t.Error("a literal CA was marshaled")
	}
}

// TestSignManifest: contract manifest §14.
func TestSignManifest(t *testing.T) {
	ca := newTestCA(t)
	signature, err := SignManifest(ca, []byte("{}\n"))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("{}\n"))
	if !ecdsa.VerifyASN1(&ca.RootKey.PublicKey, digest[:], signature) {
		t.Error("the signature does not verify")
	}
}
