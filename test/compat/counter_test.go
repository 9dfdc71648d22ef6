// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/tls"
	"testing"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/test/harness"
)

func marbleCertificate(t *testing.T, p *marblepb.Parameters) tls.Certificate {
	t.Helper()
	cert, err := tls.X509KeyPair(p.Env["MARBLE_PREDEFINED_MARBLE_CERTIFICATE_CHAIN"], p.Env["MARBLE_PREDEFINED_PRIVATE_KEY"])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// client-api.md §12, and marble-api.md §13 row 15.
func TestMonotonicCounter(t *testing.T) {
	p, sections := updaters(t)
	sections["Config"] = object{"FeatureGates": []string{"monotoniccounter"}, "UpdateThreshold": 1}
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	cert := marbleCertificate(t, mustActivate(t, c, "m", uuid1))
	raise := func(body string, certs ...tls.Certificate) harness.Reply {
		return c.Post("/api/v2/monotonic-counter", []byte(body), certs...)
	}
	value := func(v string) string { return `{"status":"success","data":{"value":` + v + `}}` }
	wantReply(t, "first", raise(`{"name":"c","value":5}`, cert), 200, value("0"))
	wantReply(t, "lower", raise(`{"name":"c","value":3}`, cert), 200, value("5"))
	wantReply(t, "empty name", raise(`{"name":"","value":18446744073709551615}`, cert), 200, value("0"))
	other := marbleCertificate(t, mustActivate(t, c, "m", "00000000-0000-4000-8000-000000000001"))
	wantReply(t, "another UUID", raise(`{"name":"c","value":1}`, other), 200, value("0"))
	equal(t, "negative", raise(`{"name":"c","value":-1}`, cert).Code, 400)
	equal(t, "fraction", raise(`{"name":"c","value":1.5}`, cert).Code, 400)
	equal(t, "no certificate", raise(`{"name":"c","value":1}`).Code, 401)
	stranger, _ := harness.UserCertificate(t, "stranger")
	stranger.Certificate = append(stranger.Certificate, cert.Certificate...)
	equal(t, "a Marble's certificate behind one's own", raise(`{"name":"c","value":1}`, stranger).Code, 401)
	equal(t, "a user's certificate", raise(`{"name":"c","value":1}`, p.certs["alice"]).Code, 401)
	c.Kill()
	c.Run()
	c.WaitReady()
	wantReply(t, "after a restart", raise(`{"name":"c","value":9}`, cert), 200, value("5"))

	r := c.Post("/api/v2/update", harness.V2(t, []byte(`{"Packages":{"p":{"SecurityVersion":3}}}`)), p.certs["alice"])
	equal(t, "package update", r.Code, 200)
	equal(t, "row 15: a certificate from before an update", raise(`{"name":"c","value":1}`, cert).Code, 401)
	renewed := marbleCertificate(t, mustActivate(t, c, "m", uuid1))
	wantReply(t, "retained over updates", raise(`{"name":"c","value":1}`, renewed), 200, value("9"))
}
