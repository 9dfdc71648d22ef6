// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package peers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
)

// amdWorld is a software TEE whose SNP certificates are issued again under AMD's names, on which go-sev-guest insists.
// One key serves the roots of all products, another all intermediates.
type amdWorld struct {
	t        testing.TB
	platform *softtee.Platform
	ark, ask *rsa.PrivateKey
	now      time.Time
	revoked  bool // the intermediates
	foreign  bool // the CRL is signed by the intermediate's key
	stale    bool // the CRL ended yesterday
}

func newAMDWorld(t testing.TB) *amdWorld {
	t.Helper()
	platform, err := softtee.New(softtee.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &amdWorld{t: t, platform: platform, now: time.Now()}
	for _, key := range []**rsa.PrivateKey{&w.ark, &w.ask} {
		if *key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *amdWorld) certify(name string, public any, parent *x509.Certificate, key *rsa.PrivateKey,
	extensions []pkix.Extension,
) *x509.Certificate {
	ca := len(extensions) == 0
	c := &x509.Certificate{SerialNumber: big.NewInt(int64(len(name))), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		Subject: pkix.Name{CommonName: name, Organization: []string{"Advanced Micro Devices"}, Country: []string{"US"},
			Locality: []string{"Santa Clara"}, Province: []string{"CA"}, OrganizationalUnit: []string{"Engineering"}},
		NotBefore: w.now.Add(-time.Hour), NotAfter: w.now.AddDate(7, 0, 0), ExtraExtensions: extensions}
	if ca {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
		c.CRLDistributionPoints, c.SubjectKeyId = []string{"https://crl.example/crl"}, []byte(name)
	}
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// report issues a report with certificates and CRL.
func (w *amdWorld) report(kind softtee.Kind, m softtee.Machine, tamper softtee.Tamper) reportCase {
	w.t.Helper()
	r := softtee.Request{Kind: kind, Machine: m, ReportData: [64]byte{1, 2, 3}, Tamper: tamper}
	report, table, err := w.platform.Report(r)
	if err != nil {
		w.t.Fatal(err)
	}
	raw := table.VCEK
	if m.VLEK {
		raw = table.VLEK
	}
	vek, err := x509.ParseCertificate(raw)
	if err != nil {
		w.t.Fatal(err)
	}
	product := m.Product
	if product == "" {
		defaults := map[softtee.Kind]snp.Product{softtee.SNPv2: snp.Milan, softtee.SNPv3: snp.Genoa, softtee.SNPv5: snp.Turin}
		product = defaults[kind]
	}
	c := reportCase{name: strings.Join([]string{string(kind), m.Name}, " "), product: product, report: report, at: w.now,
		roots: snp.Roots{product: {&w.ark.PublicKey}}}
	w.certificates(&c, vek, m.VLEK)
	return c
}

func (w *amdWorld) certificates(c *reportCase, vek *x509.Certificate, vlek bool) {
	ask, leaf := "SEV-"+string(c.product), "SEV-VCEK"
	if vlek {
		ask, leaf = "SEV-VLEK-"+string(c.product), "SEV-VLEK"
	}
	ark := w.certify("ARK-"+string(c.product), &w.ark.PublicKey, nil, w.ark, nil)
	middle := w.certify(ask, &w.ask.PublicKey, ark, w.ark, nil)
	amd := slices.DeleteFunc(slices.Clone(vek.Extensions), func(e pkix.Extension) bool {
		return !strings.HasPrefix(e.Id.String(), "1.3.6.1.4.1.3704.")
	})
	c.certs = snp.Certificates{VEK: w.certify(leaf, vek.PublicKey, middle, w.ask, amd).Raw, ASK: middle.Raw, ARK: ark.Raw}
	list := &x509.RevocationList{Number: big.NewInt(1), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ThisUpdate: w.now.Add(-time.Hour), NextUpdate: w.now.AddDate(1, 0, 0)}
	if w.revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{
			{SerialNumber: middle.SerialNumber, RevocationTime: w.now}}
	}
	if w.stale {
		list.ThisUpdate, list.NextUpdate = w.now.AddDate(-1, 0, 0), w.now.AddDate(0, 0, -1)
	}
	key := w.ark
	if w.foreign {
		key, ark = w.ask, w.certify("ARK-"+string(c.product), &w.ask.PublicKey, nil, w.ask, nil)
	}
	var err error
	if c.certs.CRL, err = x509.CreateRevocationList(rand.Reader, list, ark, key); err != nil {
		w.t.Fatal(err)
	}
}
