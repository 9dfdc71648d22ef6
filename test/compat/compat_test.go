// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package compat is the conformance suite: black-box HTTP and gRPC against the built Coordinator. Tests are named after the
// section of the contract that they check.
package compat

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

const uuid1 = "0f0e0d0c-0b0a-4908-8706-050403020100"

// object is a JSON object under construction.
type object = map[string]any

// manifestJSON returns a minimal manifest with the given sections replaced.
func manifestJSON(t *testing.T, sections object) []byte {
	t.Helper()
	m := object{
		"Packages": object{"p": object{"UniqueID": strings.Repeat("ab", 32)}},
		"Marbles":  object{"m": object{"Package": "p"}},
	}
	for k, v := range sections {
		m[k] = v
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// marble returns a Marble of the minimal manifest's package.
func marble(more object) object {
	m := object{"Package": "p"}
	for k, v := range more {
		m[k] = v
	}
	return m
}

func activate(t *testing.T, c *harness.Coordinator, marbleType, uuid string) (*marblepb.Parameters, error) {
	t.Helper()
	return c.Activate(context.Background(), harness.NewIdentity(t, "a", "b"), marbleType, uuid)
}

func mustActivate(t *testing.T, c *harness.Coordinator, marbleType, uuid string) *marblepb.Parameters {
	t.Helper()
	p, err := activate(t, c, marbleType, uuid)
	if err != nil {
		t.Fatalf("activating %s: %v\n%s", marbleType, err, c.Log())
	}
	return p
}

func status(t *testing.T, c *harness.Coordinator) int {
	t.Helper()
	code, err := c.Status()
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// root returns the root certificate that /quote names.
func root(t *testing.T, c *harness.Coordinator) *x509.Certificate {
	t.Helper()
	var q wire.QuoteV2
	if err := json.Unmarshal(c.Get("/api/v2/quote").Data, &q); err != nil {
		t.Fatal(err)
	}
	certs := parsePEM(t, q.Cert)
	if len(certs) != 2 {
		t.Fatalf("quote has %d certificates, want intermediate and root", len(certs))
	}
	return certs[1]
}

func parsePEM(t *testing.T, text string) (certs []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	return certs
}

func decode[T any](t *testing.T, r harness.Reply) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(r.Data, &v); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
	return v
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// client-api.md §6, §7, §13 without a manifest, and the envelope of §2.
func TestStateTwo(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	for _, tt := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/api/v2/status", "", 200,
			`{"status":"success","data":{"code":2,"message":"Coordinator is ready to accept a manifest."`},
		{"GET", "/status", "", 200,
			`{"status":"success","data":{"StatusCode":2,"StatusMessage":"Coordinator is ready to accept a manifest."}}` + "\n"},
		{"GET", "/manifest", "", 200,
			`{"status":"success","data":{"ManifestSignatureRootECDSA":null,"ManifestSignature":"","Manifest":null}}` + "\n"},
		{"GET", "/api/v2/manifest", "", 500, `{"status":"error","data":null,"message":"requested value not set"}` + "\n"},
		{"GET", "/api/v2/update", "", 500, `{"status":"error","data":null,"message":"server is not in expected state"`},
		{"GET", "/api/v2/update-manifest", "", 404, `{"status":"error","data":null,"message":"no update in progress"}` + "\n"},
		{"GET", "/nope", "", 405, `{"status":"error","data":null}` + "\n"},
		{"GET", "/manifest/", "", 405, `{"status":"error","data":null}` + "\n"},
		{"PUT", "/manifest", "", 405, `{"status":"error","data":null}` + "\n"},
		{"POST", "/recover", "", 410, `{"status":"error","data":null,"message":"Recovering the Coordinator using the /recover API` +
			` endpoint has been disabled. Use the /api/v2/recover endpoint instead."}` + "\n"},
		{"GET", "/secrets?s=x", "", 401, `{"status":"error","data":null,"message":"unauthorized user: client certificate did not` +
			` match any MarbleRun users"}` + "\n"},
		{"GET", "/api/v2/secrets?s=x", "", 401, `{"status":"fail","data":null,"message":"unauthorized user: client certificate` +
			` did not match any MarbleRun users"}` + "\n"},
		{"POST", "/api/v2/sign-quote", "{}", 403,
			`{"status":"error","data":null,"message":"SignQuoteEndpoint feature is not enabled in the manifest"}` + "\n"},
		{"POST", "/api/v2/monotonic-counter", "{}", 403,
			`{"status":"error","data":null,"message":"MonotonicCounter feature is not enabled in the manifest"}` + "\n"},
		{"GET", "/api/v2/recover/public-key", "", 500, `{"status":"error"`},
		{"GET", "/api/v2/quote?nonce=ab", "", 400, `{"status":"fail","data":null,"message":"invalid query: bad nonce format: `},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			r, err := c.Do(c.Client(), tt.method, tt.path, []byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != tt.code || !strings.HasPrefix(r.Body, tt.want) {
				t.Errorf("%d %q\nwant %d %q", r.Code, r.Body, tt.code, tt.want)
			}
		})
	}
}

// client-api.md §7 and manifest.md §14: exact bytes, fingerprint, signature.
func TestManifestRoundTrip(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	m := append([]byte("\n "), append(manifestJSON(t, nil), '\n')...)
	r := c.Post("/manifest", m)
	equal(t, "v1 reply", r.Body, `{"status":"success","data":null}`+"\n")
	got := decode[wire.ManifestV2](t, c.Get("/api/v2/manifest"))
	if !bytes.Equal(got.Manifest, m) {
		t.Errorf("manifest changed: %q", got.Manifest)
	}
	v1 := decode[wire.ManifestV1](t, c.Get("/manifest"))
	equal(t, "v1", v1, wire.ManifestV1{
		Manifest: m, ManifestSignature: got.ManifestFingerprint, ManifestSignatureRootECDSA: got.ManifestSignatureRootECDSA,
	})
	if err := root(t, c).CheckSignature(x509.ECDSAWithSHA256, m, got.ManifestSignatureRootECDSA); err != nil {
		t.Errorf("signature: %v", err)
	}
	again := c.Post("/manifest", m)
	if again.Code != http.StatusBadRequest || !strings.HasPrefix(again.Message, "server is not in expected state") {
		t.Errorf("second set: %d %s", again.Code, again.Body)
	}
	againV2 := c.SetManifest(m)
	if againV2.Code != http.StatusInternalServerError || !strings.HasPrefix(againV2.Message, "server is not in expected state") {
		t.Errorf("second set, v2: %d %s", againV2.Code, againV2.Body)
	}
	log := decode[wire.UpdateLog](t, c.Get("/api/v2/update"))
	if len(log.UpdateLog) != 1 || !strings.HasSuffix(log.UpdateLog[0], `,"update":"Initial manifest set"}`) {
		t.Errorf("update log %q", log.UpdateLog)
	}
}

// real-manifests/emojivoto.json, unchanged.
func TestEmojivoto(t *testing.T) {
	m, err := os.ReadFile(harness.Shared(t, "real-manifests", "emojivoto.json"))
	if err != nil {
		t.Fatal(err)
	}
	c := harness.Start(t, harness.Options{})
	equal(t, "recovery secrets", len(c.MustSetManifest(m)), 0)
	p := mustActivate(t, c, "web", uuid1)
	equal(t, "WEB_PORT", string(p.Env["WEB_PORT"]), "4433")
	if _, ok := p.Env["MARBLE_TTLS_CONFIG"]; !ok {
		t.Error("no MARBLE_TTLS_CONFIG")
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
