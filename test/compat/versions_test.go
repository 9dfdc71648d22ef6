// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

func asText(body string) string { return `{"status":"success","data":"` + body + `"}` }

// client-api.md §9: the transcript of §9 by version 1, mixed with version 2 (Q16), and manifest.md §13.
func TestUpdateByV1(t *testing.T) {
	p, sections := updaters(t)
	sections["Config"] = object{"UpdateThreshold": 3}
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	sections["Marbles"] = object{"m": marble(nil), "new": marble(nil)}
	next := manifestJSON(t, sections)
	post := func(path, user string, body []byte) harness.Reply { return c.Post(path, body, p.certs[user]) }

	wantReply(t, "POST update, 2 missing", post("/update", "alice", next), 200, `{"status":"success","data":null}`)
	equal(t, "GET update-manifest is that of v2", c.Get("/update-manifest").Body, c.Get("/api/v2/update-manifest").Body)
	pending := decode[wire.PendingUpdate](t, c.Get("/update-manifest"))
	equal(t, "pending", pending, wire.PendingUpdate{
		Manifest: next, Message: "2 users still need to acknowledge the update manifest", MissingUsers: []string{"bob",
			"carol"},
	})
	wantReply(t, "alice again", post("/update-manifest", "alice", next), 200,
		asText("2 users still need to acknowledge the update manifest"))
	wantReply(t, "bob", post("/update-manifest", "bob", next), 200,
		asText("1 user still needs to acknowledge the update manifest"))
	wantReply(t, "bob again, by v2", post("/api/v2/update-manifest", "bob", harness.V2(t, next)), 200,
		`{"status":"success","data":{"message":"1 user still needs to acknowledge the update manifest.\nThe following users`+
			` have not yet accepted: carol","missingUsers":["carol"],"missingAcknowledgments":1}}`)
	wantReply(t, "carol", post("/update-manifest", "carol", next), 200,
		asText("All users have acknowledged the update manifest. Update successfully applied"))
	mustActivate(t, c, "new", uuid1)

	wantReply(t, "package update", post("/update", "alice", []byte(`{"Packages":{"p":{"SecurityVersion":7}}}`)), 200,
		`{"status":"success","data":null}`)
	wantReply(t, "by v2", post("/api/v2/update", "carol", harness.V2(t, next)), 200,
		`{"status":"success","data":{"missingAcknowledgments":2,"missingUsers":["alice","bob"]}}`)
	wantReply(t, "cancel", post("/update-cancel", "bob", []byte("ignored")), 200, asText("Update successfully cancelled"))
	wantReply(t, "cancel again", post("/update-cancel", "bob", nil), 404,
		`{"status":"error","data":null,"message":"no update in progress"}`)
}

// client-api.md §9, GET update: the text of version 1 is the lines of version 2, each ended by a newline.
func TestUpdateLogByV1(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	for _, value := range []string{"AA==", "AQ=="} {
		equal(t, "set", c.Post("/secrets", []byte(`{"token":{"Key":"`+value+`"}}`), p.certs["alice"]).Code, 200)
	}
	equal(t, "package", c.Post("/update", []byte(`{"Packages":{"p":{"SecurityVersion":7}}}`), p.certs["alice"]).Code, 200)
	lines := decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog
	equal(t, "lines", len(lines), 4)
	text := decode[string](t, c.Get("/update"))
	equal(t, "text", text, strings.Join(lines, "\n")+"\n")
	for i, want := range []string{
		`"update":"Initial manifest set"}`,
		`"update":"Secret set","user":"alice","secret":"token","type":"plain"}`,
		`"update":"Secret set","user":"alice","secret":"token","type":"plain"}`,
		`"update":"SecurityVersion increased","user":"alice","package":"p","new version":7}`,
	} {
		if !strings.HasSuffix(lines[i], want) || !json.Valid([]byte(lines[i])) {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

// client-api.md §5, "apply failed", and Q18: the pending update is gone at once, and the log says so.
func TestApplyFails(t *testing.T) {
	for _, version := range []string{"", "/api/v2"} {
		t.Run("POST update-manifest"+version, func(t *testing.T) {
			p, sections := updaters(t)
			c := harness.Start(t, harness.Options{})
			c.MustSetManifest(manifestJSON(t, sections))
			sections["Marbles"] = object{"m": marble(object{"Parameters": object{"Env": object{"T": "{{ string .Secrets.token }}"}}})}
			next := manifestJSON(t, sections)
			body := next
			if version != "" {
				body = harness.V2(t, next)
			}
			equal(t, "submitted", c.Post(version+"/update", body, p.certs["alice"]).Code, 200)
			// Fine today, but not under the pending manifest: the value has a NUL byte.
			equal(t, "secret", c.Post("/secrets", []byte(`{"token":{"Key":"AA=="}}`), p.certs["alice"]).Code, 200)
			r := c.Post(version+"/update-manifest", body, p.certs["bob"])
			if r.Code != 500 || r.Status != isError || r.Message == "" {
				t.Errorf("%d %s", r.Code, r.Body)
			}
			equal(t, "none pending", c.Get("/update-manifest").Code, 404)
			log := decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog
			if last := log[len(log)-1]; !strings.Contains(last,
				`"update":"Complete Manifest update cancelled due to error during apply"`) {
				t.Errorf("last line %s", last)
			}
			equal(t, "a new one", c.Post("/api/v2/update", harness.V2(t, manifestJSON(t, nil)), p.certs["alice"]).Code, 200)
		})
	}
}

// client-api.md §9: a user alone, by version 1: no recovery secrets in the reply (Q8), but readable.
func TestRecoveryKeyChangeByV1(t *testing.T) {
	p, sections := updaters(t)
	oldKey, oldPub := recoveryKey(t)
	newKey, newPub := recoveryKey(t)
	sections["RecoveryKeys"], sections["Config"] = object{"rk": oldPub}, object{"UpdateThreshold": 1}
	c := harness.Start(t, harness.Options{})
	r := c.Post("/manifest", manifestJSON(t, sections))
	set := decode[wire.ManifestSetReply](t, r)
	if !strings.HasPrefix(r.Body, `{"status":"success","data":{"RecoverySecrets":{"rk":"`) {
		t.Errorf("POST manifest: %s", r.Body)
	}
	equal(t, "size", len(decrypt(t, oldKey, set.RecoverySecrets["rk"])), 32)
	sections["RecoveryKeys"] = object{"rk": newPub}
	wantReply(t, "update", c.Post("/update", manifestJSON(t, sections), p.certs["alice"]), 200,
		`{"status":"success","data":null}`)
	again := decode[wire.RecoverySecretsReply](t, c.Get("/api/v2/recovery-secrets"))
	equal(t, "size", len(decrypt(t, newKey, again.RecoverySecrets["rk"])), 32)
	if !strings.Contains(c.Log(), "/api/v2/recovery-secrets") {
		t.Error("Q8: the log does not say where the new recovery secrets are")
	}
}

// client-api.md §11 in simulation.
func TestSignQuote(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, object{"Config": object{"FeatureGates": []string{"SignQuoteEndpoint"}}}))
	for name, tt := range map[string]struct{ body, data, message string }{
		"bad JSON":    {`{`, "failed to parse JSON data", "bad request: "},
		"bad base64":  {`{"sgxQuote":"!"}`, "failed to parse JSON data", "bad request: "},
		"empty quote": {`{"sgxQuote":""}`, "quote verification failed: empty report", "quote verification failed"},
		"no quote":    {`{}`, "quote verification failed: empty report", "quote verification failed"},
		"simulation":  {`{"sgxQuote":"AAAA"}`, "quote verification failed: OE_UNSUPPORTED", "quote verification failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.Post("/api/v2/sign-quote", []byte(tt.body))
			if r.Code != 400 || r.Status != isFail || !strings.HasPrefix(r.Message, tt.message) {
				t.Errorf("%d %s", r.Code, r.Body)
			}
			equal(t, "data", decode[map[string]string](t, r), map[string]string{"sgxQuote": tt.data})
		})
	}
}

// client-api.md §2: field names match in any case, unknown fields are ignored, version 2 ignores what follows the
// value, and bodies escape <, > and &.
func TestEnvelope(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	m := manifestJSON(t, sections)
	body := `{"MANIFEST":"` + base64Of(string(m)) + `","unknown":1} trailing`
	equal(t, "POST manifest", c.Post("/api/v2/manifest", []byte(body)).Code, 200)
	equal(t, "POST secrets", c.Post("/api/v2/secrets", []byte(`{"Secrets":{"token":{"key":"AA==","Public":"AA=="}}}{`),
		p.certs["alice"]).Code, 200)
	r, err := c.Do(c.Client(p.certs["alice"]), http.MethodGet, "/secrets?s=%3Ca%26b%3E", nil)
	if err != nil || !strings.Contains(r.Body, `\u003ca\u0026b\u003e`) {
		t.Errorf("escaping: %s %v", r.Body, err)
	}
	equal(t, "message", r.Message, "user alice is not allowed to read secret <a&b>")
	for _, path := range []string{"/secrets?s=token", "/api/v2/secrets?s=token"} {
		r, err := c.Do(c.Client(p.certs["alice"]), http.MethodGet, path, nil)
		if err != nil || !strings.Contains(r.Body, `"Private":"AA=="`) {
			t.Errorf("%s: %s %v", path, r.Body, err)
		}
	}
}

// client-api.md §4, except that only the first certificate counts: TLS proves possession of no other key, and users'
// certificates are public.
func TestUserAuthentication(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	alice, bob := p.certs["alice"], p.certs["bob"]
	stranger, _ := harness.UserCertificate(t, "alice") // the same name, another key
	chain := tls.Certificate{Certificate: append(append([][]byte{}, stranger.Certificate...), alice.Certificate...),
		PrivateKey: stranger.PrivateKey}
	for name, tt := range map[string]struct {
		cert tls.Certificate
		code int
	}{
		"alice": {alice, 200}, "bob lacks the role": {bob, 500}, "a stranger": {stranger, 401},
		"a stranger who sends alice's along": {chain, 401},
	} {
		r, err := c.Do(c.Client(tt.cert), http.MethodGet, "/api/v2/secrets?s=token", nil)
		if err != nil || r.Code != tt.code {
			t.Errorf("%s: %d %s %v, want %d", name, r.Code, r.Body, err, tt.code)
		}
	}
}

// client-api.md §4: who is replaced by an update while the own request is on its way is no user any more.
func TestReplacedUserWhileSending(t *testing.T) {
	p, sections := updaters(t)
	sections["Config"] = object{"UpdateThreshold": 1}
	c := harness.Start(t, harness.Options{})
	before := manifestJSON(t, sections)
	c.MustSetManifest(before)
	body, slow := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "https://"+c.ClientAddr+"/update", body)
	if err != nil {
		t.Fatal(err)
	}
	client := c.Client(p.certs["alice"])
	defer client.CloseIdleConnections()
	code := make(chan int, 1)
	go func() {
		resp, err := client.Do(req)
		if err != nil {
			code <- 0
			return
		}
		resp.Body.Close()
		code <- resp.StatusCode
	}()
	if _, err := slow.Write(before[:1]); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(c.Log(), `"path":"/update"`) { // authenticated: the handler has begun, and waits for the body
		time.Sleep(time.Millisecond)
	}
	_, text := harness.UserCertificate(t, "alice")
	p.users["alice"] = object{"Certificate": text, "Roles": []string{"u"}}
	equal(t, "alice is replaced", c.Post("/update", manifestJSON(t, sections), p.certs["bob"]).Code, http.StatusOK)
	if _, err := slow.Write(before[1:]); err != nil {
		t.Fatal(err)
	}
	slow.Close()
	equal(t, "the former alice puts herself back", <-code, http.StatusUnauthorized)
}

// client-api.md §1: TLS 1.2 at least, one certificate for every server name, which is the root.
func TestTransport(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	want := root(t, c)
	for _, name := range []string{"", "localhost", "somewhere.example"} {
		conn, err := tls.Dial("tcp", c.ClientAddr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			t.Fatal(err)
		}
		certs := conn.ConnectionState().PeerCertificates
		conn.Close()
		if len(certs) != 1 || !certs[0].Equal(want) {
			t.Errorf("SNI %q: %d certificates, want the root alone", name, len(certs))
		}
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		conn, err := tls.Dial("tcp", c.ClientAddr,
			&tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
			t.Errorf("%s is accepted", tls.VersionName(version))
		}
	}
	for _, proto := range []string{"h2", "http/1.1"} {
		conn, err := tls.Dial("tcp", c.ClientAddr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "ALPN", conn.ConnectionState().NegotiatedProtocol, proto)
		conn.Close()
	}
}
