// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"crypto/ecdsa"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/attest/dcap"
	"github.com/marblerun/marblerun/attest/snp"
	"github.com/marblerun/marblerun/attest/softtee"
	"github.com/marblerun/marblerun/attest/softtee/server"
)

var now = time.Date(2026, 5, 17, 12, 30, 0, 0, time.UTC)

func newPlatform(t testing.TB) *softtee.Platform {
	t.Helper()
	clock := func() time.Time { return now }
	p, err := softtee.New(softtee.Options{Seed: []byte("a seed for the tests of the server"), Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func start(t testing.TB, p *softtee.Platform) (*server.Server, string) {
	t.Helper()
	s := server.New(p)
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func fetch(t testing.TB, address string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, body
}

func ok(t testing.TB, address string) (*http.Response, []byte) {
	t.Helper()
	r, body := fetch(t, address)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", address, r.Status, body)
	}
	return r, body
}

// chain is an issuer chain header, which is URL-encoded PEM.
func chain(t testing.TB, r *http.Response, header string) string {
	t.Helper()
	s, err := url.PathUnescape(r.Header.Get(header))
	if err != nil || !strings.HasPrefix(s, "-----BEGIN CERTIFICATE-----") || strings.Count(s, "BEGIN") != 2 {
		t.Fatalf("header %s: %q, %v", header, s, err)
	}
	return s
}

// TestDCAP fetches collateral as a PCCS client does and verifies a quote with it.
func TestDCAP(t *testing.T) {
	p := newPlatform(t)
	s, base := start(t, p)
	for _, kind := range []softtee.Kind{softtee.SGXv3, softtee.TDXv5} {
		for _, der := range []bool{false, true} {
			s.SetFaults(server.Faults{DERCRLs: der})
			tee := string(kind.TEE())
			info, infoBody := ok(t, base+"/"+tee+"/certification/v4/tcb?fmspc="+softtee.FMSPC)
			identity, identityBody := ok(t, base+"/"+tee+"/certification/v4/qe/identity?update=standard")
			crl, crlBody := ok(t, base+"/sgx/certification/v4/pckcrl?ca=platform&encoding=der")
			_, rootBody := ok(t, base+"/sgx/certification/v4/rootcacrl")
			object, signature, err := dcap.SplitSigned(infoBody, "tcbInfo")
			if err != nil {
				t.Fatal(err)
			}
			qe, qeSignature, err := dcap.SplitSigned(identityBody, "enclaveIdentity")
			if err != nil {
				t.Fatal(err)
			}
			col := &dcap.Collateral{TCBInfo: string(object), TCBInfoSignature: signature,
				TCBInfoIssuerChain: chain(t, info, "TCB-Info-Issuer-Chain"),
				QEIdentity:         string(qe), QEIdentitySignature: qeSignature,
				QEIdentityIssuerChain: chain(t, identity, "SGX-Enclave-Identity-Issuer-Chain"),
				PCKCRL:                crlBody, RootCACRL: rootBody, PCKCRLIssuerChain: chain(t, crl, "SGX-PCK-CRL-Issuer-Chain")}
			quote, err := p.Quote(softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}})
			if err != nil {
				t.Fatal(err)
			}
			key, _ := p.Root().PublicKey.(*ecdsa.PublicKey)
			if _, err := dcap.Verify(quote, col, dcap.Options{Roots: dcap.Roots{key}, Time: now}); err != nil {
				t.Errorf("%s, DER %t: %v", kind, der, err)
			}
		}
	}
}

// TestDataSets: early, standard, by number, withdrawn, unknown FMSPC.
func TestDataSets(t *testing.T) {
	_, base := start(t, newPlatform(t))
	for query, want := range map[string]string{
		"fmspc=53494D544545":                            `"tcbEvaluationDataNumber":18`,
		"fmspc=53494d544545&update=standard":            `"tcbEvaluationDataNumber":18`,
		"fmspc=53494d544545&update=early":               `"tcbEvaluationDataNumber":19`,
		"fmspc=53494d544545&tcbEvaluationDataNumber=19": `"tcbEvaluationDataNumber":19`,
	} {
		if _, body := ok(t, base+"/sgx/certification/v4/tcb?"+query); !strings.Contains(string(body), want) {
			t.Errorf("%s: %.200s", query, body)
		}
	}
	for query, want := range map[string]int{
		"fmspc=00906ea10000": http.StatusNotFound, "": http.StatusNotFound,
		"fmspc=53494d544545&tcbEvaluationDataNumber=12": http.StatusGone,
	} {
		if r, _ := fetch(t, base+"/tdx/certification/v4/tcb?"+query); r.StatusCode != want {
			t.Errorf("%s: %s", query, r.Status)
		}
	}
	r, body := ok(t, base+"/tdx/certification/v4/tcbevaluationdatanumbers")
	chain(t, r, "TCB-Evaluation-Data-Numbers-Issuer-Chain")
	if !strings.HasPrefix(string(body), `{"tcbEvaluationDataNumbers":{"id":"TDX","version":1,`) ||
		!strings.Contains(string(body), `{"tcbEvaluationDataNumber":19,"tcbRecoveryEventDate":"2025-05-13T00:00:00Z"`) {
		t.Errorf("%s", body)
	}
}

// TestKDS fetches what a report needs from AMD's paths and verifies the report with it.
func TestKDS(t *testing.T) {
	p := newPlatform(t)
	_, base := start(t, p)
	roots, err := p.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []softtee.Kind{softtee.SNPv2, softtee.SNPv3, softtee.SNPv5} {
		raw, _, err := p.Report(softtee.Request{Kind: kind, Machine: softtee.Machine{Name: "m"}})
		if err != nil {
			t.Fatal(err)
		}
		report, err := snp.ParseReport(raw)
		if err != nil {
			t.Fatal(err)
		}
		needs, err := report.Needs()
		if err != nil {
			t.Fatal(err)
		}
		product := needs.Products[0]
		_, vek := ok(t, base+needs.VEKPath(product))
		_, chain := ok(t, base+needs.ChainPath(product))
		_, crl := ok(t, base+needs.CRLPath(product))
		ask, ark, err := snp.SplitChain(chain)
		if err != nil {
			t.Fatal(err)
		}
		certs := snp.Certificates{VEK: vek, ASK: ask, ARK: ark, CRL: crl}
		c, err := snp.Verify(raw, certs, snp.Options{Roots: roots, Time: now})
		if err != nil || c.SNP.Product != string(product) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	for _, path := range []string{"/vcek/v1/Rome/cert_chain", "/vcek/v1/Rome/crl", "/vcek/v1/Milan/00?blSPL=1",
		"/vcek/v1/Turin/zz"} {
		if r, _ := fetch(t, base+path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
	r, _ := fetch(t, base+"/vcek/v1/Turin/0011223344556677?blSPL=1&teeSPL=1&snpSPL=1&ucodeSPL=1")
	if r.StatusCode != http.StatusBadRequest {
		t.Errorf("Turin without fmcSPL: %s", r.Status)
	}
}

func TestFaults(t *testing.T) {
	p := newPlatform(t)
	s, base := start(t, p)
	const path = "/sgx/certification/v4/qe/identity"
	s.SetFaults(server.Faults{Outage: true})
	if r, _ := fetch(t, base+path); r.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("outage: %s", r.Status)
	}
	s.SetFaults(server.Faults{Throttle: 2, RetryAfter: 1500 * time.Millisecond})
	for range 2 {
		if r, _ := fetch(t, base+path); r.StatusCode != http.StatusTooManyRequests || r.Header.Get("Retry-After") != "2" {
			t.Errorf("throttle: %s, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
		}
	}
	ok(t, base+path)
	if n := s.Hits()[path]; n != 4 {
		t.Errorf("%d hits, want 4", n)
	}
	p.Configure(func(c *softtee.Settings) { c.NoPCKCRL, c.NoRootCRL, c.NoAMDCRL = true, true, true })
	for _, path := range []string{"/sgx/certification/v4/pckcrl?ca=processor", "/sgx/certification/v4/rootcacrl",
		"/IntelSGXRootCA.der", "/vlek/v1/Genoa/crl"} {
		if r, _ := fetch(t, base+path); r.StatusCode != http.StatusNotFound {
			t.Errorf("withheld %s: %s", path, r.Status)
		}
	}
}
