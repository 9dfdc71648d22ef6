// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"net/http"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// row is one row of client-api.md §5 for one version. Two rows cannot be reached from outside a simulation and are
// checked in internal/server/rest: "GET status: state unreadable" and "GET quote: quote generation fails".
type row struct {
	name         string
	method, path string
	body         string
	user         string // whose certificate is presented; "" is none
	code         int
	kind         string // status of the envelope
	message      string // prefix
}

const (
	isError = wire.StatusError
	isFail  = wire.StatusFail

	wrongState   = "server is not in expected state"
	noUpdate     = "no update in progress"
	unauthorized = "unauthorized user: client certificate did not match any MarbleRun users"
)

// check sends the row's request and compares status code and envelope (client-api.md §2).
func (r row) check(t *testing.T, c *harness.Coordinator, p people) {
	t.Helper()
	client := c.Client()
	if r.user != "" {
		client = c.Client(p.certs[r.user])
	}
	defer client.CloseIdleConnections()
	got, err := c.Do(client, r.method, r.path, []byte(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if got.Code != r.code || got.Status != r.kind || !strings.HasPrefix(got.Message, r.message) {
		t.Errorf("%d %s\nwant %d %s %q", got.Code, strings.TrimSpace(got.Body), r.code, r.kind, r.message)
	}
	if !strings.HasSuffix(got.Body, "}\n") {
		t.Errorf("§2: the body does not end with a newline: %q", got.Body)
	}
	contentType, nosniff := "application/json", ""
	if r.kind == isError {
		contentType, nosniff = "text/plain; charset=utf-8", "nosniff"
	}
	equal(t, "§2: Content-Type", got.Header.Get("Content-Type"), contentType)
	equal(t, "§2: X-Content-Type-Options", got.Header.Get("X-Content-Type-Options"), nosniff)
}

func checkRows(t *testing.T, c *harness.Coordinator, p people, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) { r.check(t, c, p) })
	}
}

func v2Body(t *testing.T, manifest string) string { return string(harness.V2(t, []byte(manifest))) }

// client-api.md §5 in state 2.
func TestStatusCodesWithoutManifest(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	invalid := `{"Packages":{}}`
	checkRows(t, c, people{}, []row{
		{"POST manifest: envelope bad, v2", "POST", "/api/v2/manifest", `{"manifest":"!"}`, "", 400, isFail, ""},
		{"POST manifest: JSON bad, v2", "POST", "/api/v2/manifest", `{`, "", 400, isFail, ""},
		{"POST manifest: invalid manifest, v1", "POST", "/manifest", invalid, "", 400, isError, ""},
		{"POST manifest: invalid manifest, v2", "POST", "/api/v2/manifest", v2Body(t, invalid), "", 500, isError, ""},
		{"POST manifest: no JSON, v1", "POST", "/manifest", `{`, "", 400, isError, ""},
		{"POST manifest: no JSON inside, v2", "POST", "/api/v2/manifest", v2Body(t, `{`), "", 500, isError, ""},
		{"GET update: state ≠ 3, v1", "GET", "/update", "", "", 500, isError, wrongState},
		{"GET update: state ≠ 3, v2", "GET", "/api/v2/update", "", "", 500, isError, wrongState},
		{"POST update: not authenticated, v1", "POST", "/update", "{}", "", 401, isError, unauthorized},
		{"POST update: not authenticated, v2", "POST", "/api/v2/update", "{", "", 401, isFail, unauthorized},
		{"POST update-manifest: not authenticated, v1", "POST", "/update-manifest", "{}", "", 401, isError, unauthorized},
		{"POST update-manifest: not authenticated, v2", "POST", "/api/v2/update-manifest", "{", "", 401, isFail,
			unauthorized},
		{"POST update-cancel: not authenticated, v1", "POST", "/update-cancel", "", "", 401, isError, unauthorized},
		{"POST update-cancel: not authenticated, v2", "POST", "/api/v2/update-cancel", "", "", 401, isFail, unauthorized},
		{"GET update-manifest: none pending, v1", "GET", "/update-manifest", "", "", 404, isError, noUpdate},
		{"GET update-manifest: none pending, v2", "GET", "/api/v2/update-manifest", "", "", 404, isError, noUpdate},
		{"POST recover: envelope bad, v2", "POST", "/api/v2/recover", `{"recoverySecret":1}`, "", 400, isFail, ""},
		{"POST recover: wrong state, v2", "POST", "/api/v2/recover",
			`{"recoverySecret":"` + base64Of(strings.Repeat("x", 32)) + `"}`, "", 500, isError, wrongState},
		{"POST recover: secret not decryptable, v2", "POST", "/api/v2/recover", `{}`, "", 400, isFail,
			"failed to decrypt recovery secret: "},
		{"§1 POST recover: body truncated at 20480 bytes, v2", "POST", "/api/v2/recover",
			`{"recoverySecret":"` + strings.Repeat("A", 20480) + `"}`, "", 400, isFail, ""},
		{"POST sign-quote: no manifest", "POST", "/api/v2/sign-quote", `{`, "", 403, isError,
			"SignQuoteEndpoint feature is not enabled in the manifest"},
		{"POST monotonic-counter: no manifest", "POST", "/api/v2/monotonic-counter", `{`, "", 403, isError,
			"MonotonicCounter feature is not enabled in the manifest"},
	})
	equal(t, "status", status(t, c), 2)
}

// client-api.md §5 in state 3, without a pending update.
func TestStatusCodes(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	m := string(manifestJSON(t, sections))
	c.MustSetManifest([]byte(m))
	const lower, higher = `{"Packages":{"p":{"SecurityVersion":1}}}`, `{"Packages":{"p":{"SecurityVersion":9}}}`
	deny, denyDave := "user bob is not allowed to ", "user dave is not allowed to "
	checkRows(t, c, p, []row{
		{"GET quote: bad nonce, v2", "GET", "/api/v2/quote?nonce=%2B%2F%3D", "", "", 400, isFail,
			"invalid query: bad nonce format: "},
		{"POST manifest: wrong state, v1", "POST", "/manifest", m, "", 400, isError, wrongState},
		{"POST manifest: wrong state, v2", "POST", "/api/v2/manifest", v2Body(t, m), "", 500, isError, wrongState},

		{"POST update: not authenticated, v1", "POST", "/update", higher, "", 401, isError, unauthorized},
		{"POST update: not authenticated, v2", "POST", "/api/v2/update", v2Body(t, higher), "", 401, isFail, unauthorized},
		{"POST update: envelope bad, v2", "POST", "/api/v2/update", `{"manifest":0}`, "alice", 400, isFail, ""},
		{"POST update: package permission, v1", "POST", "/update", higher, "bob", 400, isError, deny},
		{"POST update: package permission, v2", "POST", "/api/v2/update", v2Body(t, higher), "bob", 500, isError, deny},
		{"POST update: manifest permission, v1", "POST", "/update", m, "dave", 400, isError, denyDave},
		{"POST update: manifest permission, v2", "POST", "/api/v2/update", v2Body(t, m), "dave", 500, isError, denyDave},
		{"POST update: invalid manifest, v1", "POST", "/update", lower, "alice", 400, isError, ""},
		{"POST update: invalid manifest, v2", "POST", "/api/v2/update", v2Body(t, lower), "alice", 500, isError, ""},
		{"POST update: no JSON, v1", "POST", "/update", `{`, "alice", 400, isError, ""},
		{"POST update: no JSON inside, v2", "POST", "/api/v2/update", v2Body(t, `{`), "alice", 500, isError, ""},

		{"GET secrets: not authenticated, v1", "GET", "/secrets", "", "", 401, isError, unauthorized},
		{"GET secrets: not authenticated, v2", "GET", "/api/v2/secrets", "", "", 401, isFail, unauthorized},
		{"GET secrets: no s, v1", "GET", "/secrets?x=token", "", "alice", 400, isError,
			"invalid query: endpoint requires at least one query parameter"},
		{"GET secrets: no s, v2", "GET", "/api/v2/secrets?x=token", "", "alice", 400, isFail,
			"invalid query: endpoint requires at least one query parameter"},
		{"GET secrets: empty s, v1", "GET", "/secrets?s=token&s=", "", "alice", 400, isError,
			"malformed query string: empty query parameter"},
		{"GET secrets: empty s, v2", "GET", "/api/v2/secrets?s=token&s=", "", "alice", 400, isFail,
			"malformed query string: empty query parameter"},
		{"GET secrets: not permitted, v1", "GET", "/secrets?s=token", "", "bob", 400, isError, deny},
		{"GET secrets: not permitted, v2", "GET", "/api/v2/secrets?s=token", "", "bob", 500, isError, deny},
		{"GET secrets: unknown secret, v1", "GET", "/secrets?s=nope", "", "alice", 400, isError,
			"user alice is not allowed to "},
		{"GET secrets: unknown secret, v2", "GET", "/api/v2/secrets?s=nope", "", "alice", 500, isError,
			"user alice is not allowed to "},

		{"POST secrets: not authenticated, v1", "POST", "/secrets", `{`, "", 401, isError, unauthorized},
		{"POST secrets: not authenticated, v2", "POST", "/api/v2/secrets", `{`, "", 401, isFail, unauthorized},
		{"POST secrets: JSON bad, v1", "POST", "/secrets", `{`, "alice", 400, isError, ""},
		{"POST secrets: JSON bad, v2", "POST", "/api/v2/secrets", `{`, "alice", 400, isFail, ""},
		{"POST secrets: bad base64, v1", "POST", "/secrets", `{"token":{"Key":"!"}}`, "alice", 400, isError, ""},
		{"POST secrets: bad base64, v2", "POST", "/api/v2/secrets", `{"secrets":{"token":{"Key":"!"}}}`, "alice", 400,
			isFail, ""},
		{"POST secrets: unparsable DER, v1", "POST", "/secrets", `{"token":{"Cert":"AA=="}}`, "alice", 400, isError, ""},
		{"POST secrets: unparsable DER, v2", "POST", "/api/v2/secrets", `{"secrets":{"token":{"Cert":"AA=="}}}`, "alice", 400,
			isFail, ""},
		{"§2 POST secrets: v1 rejects trailing bytes", "POST", "/secrets", `{"token":{"Key":"AA=="}} x`, "alice", 400,
			isError, ""},
		{"POST secrets: nothing to set, v1", "POST", "/secrets", `{}`, "alice", 400, isError, ""},
		{"POST secrets: nothing to set, v2", "POST", "/api/v2/secrets", `{"secrets":{}}`, "alice", 500, isError, ""},
		{"POST secrets: not user-defined, v1", "POST", "/secrets", `{"shared":{"Key":"AA=="}}`, "alice", 400, isError, ""},
		{"POST secrets: not user-defined, v2", "POST", "/api/v2/secrets", `{"secrets":{"shared":{"Key":"AA=="}}}`,
			"alice", 500,
			isError, ""},
		{"POST secrets: not permitted, v1", "POST", "/secrets", `{"token":{"Key":"AA=="}}`, "bob", 400, isError, deny},
		{"POST secrets: not permitted, v2", "POST", "/api/v2/secrets", `{"secrets":{"token":{"Key":"AA=="}}}`, "bob",
			500, isError,
			deny},

		{"GET update-manifest: none pending, v1", "GET", "/update-manifest", "", "", 404, isError, noUpdate},
		{"GET update-manifest: none pending, v2", "GET", "/api/v2/update-manifest", "", "", 404, isError, noUpdate},
		{"POST update-manifest: not authenticated, v1", "POST", "/update-manifest", m, "", 401, isError, unauthorized},
		{"POST update-manifest: not authenticated, v2", "POST", "/api/v2/update-manifest", v2Body(t, m), "", 401, isFail,
			unauthorized},
		{"POST update-manifest: envelope bad, v2", "POST", "/api/v2/update-manifest", `[`, "alice", 400, isFail, ""},
		{"POST update-manifest: none pending, v1", "POST", "/update-manifest", m, "alice", 404, isError, noUpdate},
		{"POST update-manifest: none pending, v2", "POST", "/api/v2/update-manifest", v2Body(t, m), "alice", 404,
			isError, noUpdate},
		{"POST update-cancel: not authenticated, v1", "POST", "/update-cancel", "", "", 401, isError, unauthorized},
		{"POST update-cancel: not authenticated, v2", "POST", "/api/v2/update-cancel", "", "", 401, isFail, unauthorized},
		{"POST update-cancel: not permitted, v1", "POST", "/update-cancel", "", "dave", 500, isError, denyDave},
		{"POST update-cancel: not permitted, v2", "POST", "/api/v2/update-cancel", "", "dave", 500, isError, denyDave},
		{"POST update-cancel: none pending, v1", "POST", "/update-cancel", "", "alice", 404, isError, noUpdate},
		{"POST update-cancel: none pending, v2", "POST", "/api/v2/update-cancel", "", "alice", 404, isError, noUpdate},

		{"POST recover: v1", "POST", "/recover", `{`, "", 410, isError,
			"Recovering the Coordinator using the /recover API endpoint"},
		{"GET recover/public-key: state ≠ 1", "GET", "/api/v2/recover/public-key", "", "", 500, isError, ""},
		{"POST sign-quote: gate off", "POST", "/api/v2/sign-quote", `{`, "", 403, isError,
			"SignQuoteEndpoint feature is not enabled in the manifest"},
		{"POST monotonic-counter: gate off", "POST", "/api/v2/monotonic-counter", `{`, "", 403, isError,
			"MonotonicCounter feature is not enabled in the manifest"},
	})
	equal(t, "GET quote: v1 ignores a nonce", c.Get("/quote?nonce=!").Code, http.StatusOK)
	equal(t, "nothing was changed", len(decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog), 1)
}

// client-api.md §5 in state 3, while an update waits: POST update and POST update-manifest.
func TestStatusCodesWhilePending(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	m := string(manifestJSON(t, sections))
	c.MustSetManifest([]byte(m))
	equal(t, "submitted", c.Post("/api/v2/update", []byte(v2Body(t, m)), p.certs["alice"]).Code, 200)
	const pending = "update already in progress. Acknowledge the update to apply it, or cancel it to start a new one"
	const packages = `{"Packages":{"p":{"SecurityVersion":9}}}`
	differ, denied := "provided manifest does not match the pending manifest",
		"user dave is not allowed to acknowledge manifest updates"
	checkRows(t, c, p, []row{
		{"POST update: pending, v1", "POST", "/update", m, "bob", 400, isError, pending},
		{"POST update: pending, v2", "POST", "/api/v2/update", v2Body(t, m), "bob", 500, isError, pending},
		{"POST update: pending, packages, v1", "POST", "/update", packages, "alice", 400, isError, pending},
		{"POST update: pending, packages, v2", "POST", "/api/v2/update", v2Body(t, packages), "alice", 500, isError, pending},
		{"POST update-manifest: bytes differ, v1", "POST", "/update-manifest", m + " ", "bob", 500, isError, differ},
		{"POST update-manifest: bytes differ, v2", "POST", "/api/v2/update-manifest", v2Body(t, m+" "), "bob", 500,
			isError, differ},
		{"POST update-manifest: not eligible, v1", "POST", "/update-manifest", m, "dave", 500, isError, denied},
		{"POST update-manifest: not eligible, v2", "POST", "/api/v2/update-manifest", v2Body(t, m), "dave", 500, isError,
			denied},
		{"POST update-manifest: envelope bad, v2", "POST", "/api/v2/update-manifest", `{"manifest":`, "bob", 400, isFail, ""},
		{"POST update-cancel: not permitted while pending, v1", "POST", "/update-cancel", "", "dave", 500, isError,
			"user dave is not allowed to "},
	})
	equal(t, "still pending", c.Get("/update-manifest").Code, 200)
}

// client-api.md §5, "any: wrong method / unknown path", and §3: paths are exact.
func TestMethodsAndPaths(t *testing.T) {
	c := harness.Start(t, harness.Options{})
	allowed := map[string]string{ // path → methods of client-api.md §3
		"/status": "GET", "/quote": "GET", "/manifest": "GET POST", "/update": "GET POST", "/secrets": "GET POST",
		"/recover": "POST", "/update-manifest": "GET POST", "/update-cancel": "POST",
		"/api/v2/status": "GET", "/api/v2/quote": "GET", "/api/v2/manifest": "GET POST", "/api/v2/update": "GET POST",
		"/api/v2/secrets": "GET POST", "/api/v2/recover": "POST", "/api/v2/recover/public-key": "GET",
		"/api/v2/update-manifest": "GET POST", "/api/v2/update-cancel": "POST", "/api/v2/sign-quote": "POST",
		"/api/v2/monotonic-counter": "POST",
		// Unknown, or not exact.
		"/": "", "/nope": "", "/api": "", "/api/v2": "", "/api/v2/": "", "/api/v3/status": "", "/manifest/": "",
		"/STATUS":         "",
		"/api/v2/status/": "", "/sign-quote": "", "/monotonic-counter": "", "/recover/public-key": "",
	}
	client := c.Client()
	defer client.CloseIdleConnections()
	for path, methods := range allowed {
		for _, method := range []string{"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			r, err := c.Do(client, method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Contains(methods, method); (r.Code != http.StatusMethodNotAllowed) != want {
				t.Errorf("%s %s: %d", method, path, r.Code)
			}
			if r.Code == http.StatusMethodNotAllowed && method != "HEAD" && r.Body != `{"status":"error","data":null}`+"\n" {
				t.Errorf("%s %s: %q", method, path, r.Body)
			}
		}
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := c.Do(client, "GET", "//manifest", nil)
	if err != nil || r.Code/100 != 3 || r.Header.Get("Location") != "/manifest" {
		t.Errorf("//manifest: %d to %q, %v; want a redirect to /manifest", r.Code, r.Header.Get("Location"), err)
	}
}

// client-api.md §5 and §13 in state 1.
func TestStatusCodesInRecovery(t *testing.T) {
	s := startSealed(t, 1, 0)
	checkRows(t, s.Coordinator, people{}, []row{
		{"GET manifest: no manifest, v2", "GET", "/api/v2/manifest", "", "", 500, isError, "requested value not set"},
		{"GET update: state ≠ 3, v1", "GET", "/update", "", "", 500, isError, wrongState},
		{"GET update: state ≠ 3, v2", "GET", "/api/v2/update", "", "", 500, isError, wrongState},
		{"POST update: v1", "POST", "/update", "", "", 401, isError, unauthorized},
		{"POST update: v2", "POST", "/api/v2/update", "", "", 401, isFail, unauthorized},
		{"GET secrets: v1", "GET", "/secrets?s=x", "", "", 401, isError, unauthorized},
		{"GET secrets: v2", "GET", "/api/v2/secrets?s=x", "", "", 401, isFail, unauthorized},
		{"POST secrets: v2", "POST", "/api/v2/secrets", "", "", 401, isFail, unauthorized},
		{"GET update-manifest: v1", "GET", "/update-manifest", "", "", 404, isError, noUpdate},
		{"GET update-manifest: v2", "GET", "/api/v2/update-manifest", "", "", 404, isError, noUpdate},
		{"POST update-manifest: v2", "POST", "/api/v2/update-manifest", "", "", 401, isFail, unauthorized},
		{"POST update-cancel: v2", "POST", "/api/v2/update-cancel", "", "", 401, isFail, unauthorized},
		{"POST recover: envelope bad, v2", "POST", "/api/v2/recover", `{`, "", 400, isFail, ""},
		{"POST recover: secret not decryptable, v2", "POST", "/api/v2/recover", `{"recoverySecret":"AAAA"}`, "", 400, isFail,
			"failed to decrypt recovery secret: "},
		{"POST recover: wrong secret, v2", "POST", "/api/v2/recover",
			`{"recoverySecret":"` + base64Of(strings.Repeat("x", 32)) + `"}`, "", 500, isError, "setting recovery key: "},
		{"POST sign-quote", "POST", "/api/v2/sign-quote", "{}", "", 403, isError,
			"SignQuoteEndpoint feature is not enabled in the manifest"},
		{"POST monotonic-counter", "POST", "/api/v2/monotonic-counter", "{}", "", 403, isError,
			"MonotonicCounter feature is not enabled in the manifest"},
		{"POST manifest: invalid manifest, v1", "POST", "/manifest", "{}", "", 400, isError, ""},
		{"POST manifest: invalid manifest, v2", "POST", "/api/v2/manifest", v2Body(t, "{}"), "", 500, isError, ""},
	})
	equal(t, "GET recover/public-key", s.Get("/api/v2/recover/public-key").Code, 200)
	equal(t, "GET quote, v1", s.Get("/quote").Code, 200)
	equal(t, "GET ready (additive)", s.Get("/api/v2/ready").Code, 503)
	equal(t, "GET status, v1", decode[wire.StatusV1](t, s.Get("/status")).StatusCode, 1)
	equal(t, "status", status(t, s.Coordinator), 1)
}
