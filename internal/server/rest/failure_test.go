// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/internal/coordinator"
)

const (
	okV1 = `{"Packages":{}}`
	okV2 = `{"manifest":"e30="}`

	wrongState = "server is not in expected state"
	noUpdate   = "no update in progress"
	noUser     = "unauthorized user: client certificate did not match any MarbleRun users"
	notAllowed = "user alice is not allowed to do that"
)

// as is who calls.
type as int

const (
	stranger as = iota
	alice
	marble
)

// row is a line of client-api.md §5 for one version.
type row struct {
	name   string
	as     as
	method string
	path   string
	body   string
	// refused is the Coordinator's answer; empty code and message: it would accept.
	code    coordinator.Code
	refused string
	status  int
	kind    string // error or fail
	message string // "" = refused
	data    string // "" = null
}

// The table of client-api.md §5 in its order.
var failures = []row{
	{"v1 wrong method", stranger, "PUT", "/status", "", 0, "", 405, "error", "", ""},
	{"v2 wrong method", stranger, "PATCH", "/api/v2/manifest", "", 0, "", 405, "error", "", ""},
	{"v2 wrong method of a user endpoint", stranger, "DELETE", "/api/v2/secrets", "", 0, "", 405, "error", "", ""},
	{"unknown path", stranger, "GET", "/nothing", "", 0, "", 405, "error", "", ""},
	{"root path", stranger, "GET", "/", "", 0, "", 405, "error", "", ""},
	{"unknown v2 path", stranger, "POST", "/api/v2/nothing", "", 0, "", 405, "error", "", ""},
	{"slash at the end", stranger, "GET", "/manifest/", "", 0, "", 405, "error", "", ""},
	{"slash at the end, v2", stranger, "GET", "/api/v2/status/", "", 0, "", 405, "error", "", ""},
	{"v1 has no public key", stranger, "GET", "/recover/public-key", "", 0, "", 405, "error", "", ""},
	{"v1 has no sign-quote", stranger, "POST", "/sign-quote", "", 0, "", 405, "error", "", ""},
	{"v1 has no counters", stranger, "POST", "/monotonic-counter", "", 0, "", 405, "error", "", ""},

	{"v2 quote, unpadded nonce", stranger, "GET", "/api/v2/quote?nonce=YQ", "", 0, "", 400, "fail",
		"invalid query: bad nonce format: illegal base64 data at input byte 0", ""},
	{"v2 quote, standard alphabet", stranger, "GET", "/api/v2/quote?nonce=%2B%2F8%3D", "", 0, "", 400, "fail",
		"invalid query: bad nonce format: illegal base64 data at input byte 0", ""},
	{"v1 quote fails", stranger, "GET", "/quote", "", coordinator.Internal, "generating quote: x", 500, "error", "", ""},
	{"v2 quote fails", stranger, "GET", "/api/v2/quote?nonce=YQ==", "", coordinator.Internal, "generating quote: x", 500, "error", "", ""},

	{"v2 no manifest", stranger, "GET", "/api/v2/manifest", "", coordinator.NoManifest, "requested value not set", 500, "error", "", ""},
	{"v2 set manifest, bad JSON", stranger, "POST", "/api/v2/manifest", "{", 0, "", 400, "fail", "bad request: unexpected EOF", ""},
	{"v2 set manifest, bad base64", stranger, "POST", "/api/v2/manifest", `{"manifest":"e30"}`, 0, "", 400, "fail",
		"bad request: illegal base64 data at input byte 0", ""},
	{"v2 set manifest, no body", stranger, "POST", "/api/v2/manifest", "", 0, "", 400, "fail", "bad request: the body is empty", ""},
	{"v1 set manifest, wrong state", stranger, "POST", "/manifest", okV1, coordinator.WrongState, wrongState, 400, "error", "", ""},
	{"v2 set manifest, wrong state", stranger, "POST", "/api/v2/manifest", okV2, coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"v1 set manifest, invalid", stranger, "POST", "/manifest", okV1, coordinator.Invalid, "a <b> & c", 400, "error", "", ""},
	{"v2 set manifest, invalid", stranger, "POST", "/api/v2/manifest", okV2, coordinator.Invalid, "a <b> & c", 500, "error", "", ""},

	{"v1 update log, wrong state", stranger, "GET", "/update", "", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"v2 update log, wrong state", stranger, "GET", "/api/v2/update", "", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"v1 update, no user", stranger, "POST", "/update", okV1, 0, "", 401, "error", noUser, ""},
	{"v2 update, no user", stranger, "POST", "/api/v2/update", "not JSON", 0, "", 401, "fail", noUser, ""},
	{"v2 update, a Marble", marble, "POST", "/api/v2/update", okV2, 0, "", 401, "fail", noUser, ""},
	{"v2 update, bad JSON", alice, "POST", "/api/v2/update", "[]", 0, "", 400, "fail",
		"bad request: json: cannot unmarshal array into Go value of type wire.ManifestRequest", ""},
	{"v1 update, not permitted", alice, "POST", "/update", okV1, coordinator.Forbidden, notAllowed, 400, "error", "", ""},
	{"v2 update, not permitted", alice, "POST", "/api/v2/update", okV2, coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"v1 update, pending", alice, "POST", "/update", okV1, coordinator.WrongState, pendingText, 400, "error", "", ""},
	{"v2 update, pending", alice, "POST", "/api/v2/update", okV2, coordinator.WrongState, pendingText, 500, "error", "", ""},

	{"v1 secrets, no user", stranger, "GET", "/secrets", "", 0, "", 401, "error", noUser, ""},
	{"v2 secrets, no user", stranger, "GET", "/api/v2/secrets", "", 0, "", 401, "fail", noUser, ""},
	{"v1 secrets, no s", alice, "GET", "/secrets", "", 0, "", 400, "error", noQuery, ""},
	{"v2 secrets, no s", alice, "GET", "/api/v2/secrets?t=x", "", 0, "", 400, "fail", noQuery, ""},
	{"v1 secrets, empty s", alice, "GET", "/secrets?s=", "", 0, "", 400, "error", emptyQuery, ""},
	{"v2 secrets, empty s", alice, "GET", "/api/v2/secrets?s=a&s=", "", 0, "", 400, "fail", emptyQuery, ""},
	{"v1 secrets, not permitted", alice, "GET", "/secrets?s=a", "", coordinator.Forbidden, notAllowed, 400, "error", "", ""},
	{"v2 secrets, not permitted", alice, "GET", "/api/v2/secrets?s=a", "", coordinator.Forbidden, notAllowed, 500, "error", "", ""},

	{"v1 write, no user", stranger, "POST", "/secrets", "{}", 0, "", 401, "error", noUser, ""},
	{"v2 write, no user", stranger, "POST", "/api/v2/secrets", "{}", 0, "", 401, "fail", noUser, ""},
	{"v1 write, bad JSON", alice, "POST", "/secrets", "{", 0, "", 400, "error", "bad request: unexpected end of JSON input", ""},
	{"v1 write, bytes after", alice, "POST", "/secrets", "{} x", 0, "", 400, "error",
		"bad request: invalid character 'x' after top-level value", ""},
	{"v2 write, bad JSON", alice, "POST", "/api/v2/secrets", "{", 0, "", 400, "fail", "bad request: unexpected EOF", ""},
	{"v1 write, bad base64", alice, "POST", "/secrets", `{"a":{"Cert":"!"}}`, 0, "", 400, "error",
		"bad request: illegal base64 data at input byte 0", ""},
	{"v2 write, bad base64", alice, "POST", "/api/v2/secrets", `{"secrets":{"a":{"Cert":"!"}}}`, 0, "", 400, "fail",
		"bad request: illegal base64 data at input byte 0", ""},
	{"v1 write, bad certificate", alice, "POST", "/secrets", `{"b":{"Cert":"LS0tLS1CRUdJTg=="},"a":{"Cert":"AAAA"}}`, 0, "", 400, "error",
		`bad request: secret "a": certificate: x509: malformed certificate; secret "b": certificate: it must be DER, not PEM`, ""},
	{"v2 write, bad certificate", alice, "POST", "/api/v2/secrets", `{"secrets":{"a":{"Cert":"AAAA"}}}`, 0, "", 400, "fail",
		`bad request: secret "a": certificate: x509: malformed certificate`, ""},
	{"v1 write, anything else", alice, "POST", "/secrets", "{}", coordinator.Invalid, "x", 400, "error", "", ""},
	{"v1 write, our fault", alice, "POST", "/secrets", "{}", coordinator.Internal, "x", 400, "error", "", ""},
	{"v2 write, anything else", alice, "POST", "/api/v2/secrets", `{"secrets":{}}`, coordinator.Invalid, "x", 500, "error", "", ""},

	{"v1 none pending", stranger, "GET", "/update-manifest", "", coordinator.NoUpdate, noUpdate, 404, "error", "", ""},
	{"v2 none pending", stranger, "GET", "/api/v2/update-manifest", "", coordinator.NoUpdate, noUpdate, 404, "error", "", ""},
	{"v2 pending, any error", stranger, "GET", "/api/v2/update-manifest", "", coordinator.WrongState, wrongState, 404, "error", "", ""},
	{"v1 acknowledge, no user", stranger, "POST", "/update-manifest", "", 0, "", 401, "error", noUser, ""},
	{"v2 acknowledge, no user", stranger, "POST", "/api/v2/update-manifest", "", 0, "", 401, "fail", noUser, ""},
	{"v2 acknowledge, bad JSON", alice, "POST", "/api/v2/update-manifest", `{"manifest":1}`, 0, "", 400, "fail",
		"bad request: json: cannot unmarshal number into Go struct field ManifestRequest.manifest of type []uint8", ""},
	{"v1 acknowledge, none pending", alice, "POST", "/update-manifest", okV1, coordinator.NoUpdate, noUpdate, 404, "error", "", ""},
	{"v2 acknowledge, none pending", alice, "POST", "/api/v2/update-manifest", okV2, coordinator.NoUpdate, noUpdate, 404, "error", "", ""},
	{"v1 acknowledge, not eligible", alice, "POST", "/update-manifest", okV1, coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"v2 acknowledge, not eligible", alice, "POST", "/api/v2/update-manifest", okV2, coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"v1 acknowledge, bytes differ", alice, "POST", "/update-manifest", okV1, coordinator.Invalid, differs, 500, "error", "", ""},
	{"v2 acknowledge, bytes differ", alice, "POST", "/api/v2/update-manifest", okV2, coordinator.Invalid, differs, 500, "error", "", ""},

	{"v1 cancel, no user", stranger, "POST", "/update-cancel", "", 0, "", 401, "error", noUser, ""},
	{"v2 cancel, no user", stranger, "POST", "/api/v2/update-cancel", "", 0, "", 401, "fail", noUser, ""},
	{"v1 cancel, not permitted", alice, "POST", "/update-cancel", "", coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"v2 cancel, not permitted", alice, "POST", "/api/v2/update-cancel", "", coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"v1 cancel, none pending", alice, "POST", "/update-cancel", "", coordinator.NoUpdate, noUpdate, 404, "error", "", ""},
	{"v2 cancel, none pending", alice, "POST", "/api/v2/update-cancel", "", coordinator.NoUpdate, noUpdate, 404, "error", "", ""},

	{"v1 recover", stranger, "POST", "/recover", "x", 0, "", 410, "error", "Recovering the Coordinator using the /recover API " +
		"endpoint has been disabled. Use the /api/v2/recover endpoint instead.", ""},
	{"v2 recover, bad JSON", stranger, "POST", "/api/v2/recover", "x", 0, "", 400, "fail",
		"bad request: invalid character 'x' looking for beginning of value", ""},
	{"v2 recover, not decryptable", stranger, "POST", "/api/v2/recover", "{}", coordinator.BadRequest,
		"failed to decrypt recovery secret: x", 400, "fail", "", ""},
	{"v2 recover, wrong state", stranger, "POST", "/api/v2/recover", "{}", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"v2 recover, wrong secret", stranger, "POST", "/api/v2/recover", "{}", coordinator.Invalid,
		"setting recovery key: uploaded an invalid or already used secret", 500, "error", "", ""},
	{"v2 public key, wrong state", stranger, "GET", "/api/v2/recover/public-key", "", coordinator.WrongState, wrongState, 500, "error", "", ""},

	{"counter, gate off", marble, "POST", "/api/v2/monotonic-counter", "x", 0, "gate off", 403, "error",
		"MonotonicCounter feature is not enabled in the manifest", ""},
	{"sign-quote, gate off", stranger, "POST", "/api/v2/sign-quote", "x", 0, "gate off", 403, "error",
		"SignQuoteEndpoint feature is not enabled in the manifest", ""},
	{"sign-quote, bad JSON", stranger, "POST", "/api/v2/sign-quote", "x", 0, "", 400, "fail",
		"bad request: invalid character 'x' looking for beginning of value", `{"sgxQuote":"failed to parse JSON data"}`},
	{"sign-quote, refused", stranger, "POST", "/api/v2/sign-quote", "{}", coordinator.QuoteRefused,
		"quote verification failed: empty report", 400, "fail", "quote verification failed",
		`{"sgxQuote":"quote verification failed: empty report"}`},
	{"counter, no certificate", stranger, "POST", "/api/v2/monotonic-counter", "x", 0, "", 401, "fail",
		"unauthorized marble: no client certificate provided", ""},
	{"counter, a user", alice, "POST", "/api/v2/monotonic-counter", "x", 0, "", 401, "fail",
		"unauthorized marble: no client certificate provided", ""},
	{"counter, negative", marble, "POST", "/api/v2/monotonic-counter", `{"value":-1}`, 0, "", 400, "fail",
		"bad request: json: cannot unmarshal number -1 into Go struct field MonotonicCounterRequest.value of type uint64", ""},
	{"counter, fraction", marble, "POST", "/api/v2/monotonic-counter", `{"value":1.5}`, 0, "", 400, "fail",
		"bad request: json: cannot unmarshal number 1.5 into Go struct field MonotonicCounterRequest.value of type uint64", ""},

	// Not in the contract.
	{"not ready", stranger, "GET", "/api/v2/ready", "", 0, "", 503, "error", "not ready to accept marbles: 0: ", ""},
	{"overload, v1", stranger, "POST", "/manifest", okV1, coordinator.Unavailable, "disk full", 503, "error", "", ""},
	{"overload, v2", alice, "POST", "/api/v2/secrets", "{}", coordinator.Unavailable, "disk full", 503, "error", "", ""},
	{"recovery secrets, wrong state", stranger, "GET", "/api/v2/recovery-secrets", "", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"activations, wrong state", stranger, "GET", "/api/v2/activations", "", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"activations, bad number", stranger, "GET", "/api/v2/activations?after=x", "", 0, "", 400, "fail",
		"invalid query: after must be a number", ""},
	{"activations, no limit", stranger, "GET", "/api/v2/activations?limit=0", "", 0, "", 400, "fail",
		"invalid query: limit must be from 1 to 1000", ""},
	{"rotate, no user", stranger, "POST", "/api/v2/secrets/rotate", "not JSON", 0, "", 401, "fail", noUser, ""},
	{"rotate, a Marble", marble, "POST", "/api/v2/secrets/rotate", "not JSON", 0, "", 401, "fail", noUser, ""},
	{"rotate, bad JSON", alice, "POST", "/api/v2/secrets/rotate", `{"secrets":"a"}`, 0, "", 400, "fail",
		"bad request: json: cannot unmarshal string into Go struct field RotateSecretsRequest.secrets of type []string", ""},
	{"rotate, none", alice, "POST", "/api/v2/secrets/rotate", "{}", coordinator.BadRequest, "no secrets to rotate", 400, "fail", "", ""},
	{"rotate, not permitted", alice, "POST", "/api/v2/secrets/rotate", "{}", coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"rotate, by GET", alice, "GET", "/api/v2/secrets/rotate", "", 0, "", 405, "error", "", ""},
	{"ban, no user", stranger, "POST", "/api/v2/bans", "not JSON", 0, "", 401, "fail", noUser, ""},
	{"ban, bad JSON", alice, "POST", "/api/v2/bans", `{"lift":1}`, 0, "", 400, "fail",
		"bad request: json: cannot unmarshal number into Go struct field BanRequest.lift of type bool", ""},
	{"ban, no UUID", alice, "POST", "/api/v2/bans", "{}", coordinator.BadRequest, "invalid UUID: x", 400, "fail", "", ""},
	{"ban, not permitted", alice, "POST", "/api/v2/bans", "{}", coordinator.Forbidden, notAllowed, 500, "error", "", ""},
	{"ban, disk full", alice, "POST", "/api/v2/bans", "{}", coordinator.Unavailable, "disk full", 503, "error", "", ""},
	{"bans, wrong state", stranger, "GET", "/api/v2/bans", "", coordinator.WrongState, wrongState, 500, "error", "", ""},
	{"bans have no v1", stranger, "GET", "/bans", "", 0, "", 405, "error", "", ""},
	{"activations have no v1", stranger, "GET", "/activations", "", 0, "", 405, "error", "", ""},
}

const (
	pendingText = "update already in progress. Acknowledge the update to apply it, or cancel it to start a new one"
	differs     = "provided manifest does not match the pending manifest"
	noQuery     = "invalid query: endpoint requires at least one query parameter"
	emptyQuery  = "malformed query string: empty query parameter"
)

func TestFailures(t *testing.T) {
	s := start(t, &fake{})
	clients := map[as]*http.Client{stranger: s.stranger, alice: s.alice, marble: s.marble}
	for _, r := range failures {
		t.Run(r.name, func(t *testing.T) {
			s.features, s.err = []string{"SignQuoteEndpoint", "MonotonicCounter"}, nil
			switch {
			case r.refused == "gate off":
				s.features = nil
			case r.refused != "":
				s.err = fmt.Errorf("context for the log: %w", &coordinator.Error{Code: r.code, Message: r.refused})
			}
			got := s.do(t, clients[r.as], r.method, r.path, r.body)
			if got.code != r.status {
				t.Errorf("status %d, want %d", got.code, r.status)
			}
			if diff := cmp.Diff(r.wantBody(), got.body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			checkFailureHeaders(t, r.kind, got.header)
		})
	}
}

func (r row) wantBody() string {
	data, message := r.data, r.message
	if data == "" {
		data = "null"
	}
	if message == "" && r.refused != "gate off" {
		message = r.refused
	}
	if message == "" {
		return fmt.Sprintf(`{"status":"%s","data":%s}`, r.kind, data) + "\n"
	}
	escaped := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`, `"`, `\"`).Replace(message)
	return fmt.Sprintf(`{"status":"%s","data":%s,"message":"%s"}`, r.kind, data, escaped) + "\n"
}

func checkFailureHeaders(t *testing.T, kind string, h http.Header) {
	t.Helper()
	wantType, wantSniff := "text/plain; charset=utf-8", "nosniff"
	if kind == "fail" {
		wantType, wantSniff = "application/json", ""
	}
	if ct, sniff := h.Get("Content-Type"), h.Get("X-Content-Type-Options"); ct != wantType || sniff != wantSniff {
		t.Errorf("Content-Type %q, X-Content-Type-Options %q", ct, sniff)
	}
}

func TestHeadIsNotGet(t *testing.T) {
	s := start(t, &fake{})
	for _, path := range []string{"/status", "/api/v2/status", "/api/v2/manifest"} {
		if got := s.do(t, s.stranger, "HEAD", path, ""); got.code != 405 || got.body != "" {
			t.Errorf("HEAD %s: %d %q", path, got.code, got.body)
		}
	}
}

func TestUncleanPathsAreRedirected(t *testing.T) {
	s := start(t, &fake{})
	for path, want := range map[string]string{
		"//manifest": "/manifest", "/api//v2/status?a=b": "/api/v2/status?a=b", "/x/../status": "/status",
		"//manifest//": "/manifest/", "///evil.example/x": "/evil.example/x",
	} {
		got := s.do(t, s.stranger, "GET", path, "")
		if got.code != http.StatusTemporaryRedirect || got.header.Get("Location") != want {
			t.Errorf("%s: %d to %q, want %q", path, got.code, got.header.Get("Location"), want)
		}
		if !strings.HasSuffix(got.body, "\n") {
			t.Errorf("%s: body %q", path, got.body)
		}
	}
}

func TestHintsAreAdditive(t *testing.T) {
	s := start(t, &fake{err: &coordinator.Error{Code: coordinator.Invalid, Message: "m", Hint: "do <this>"}})
	got := s.do(t, s.stranger, "POST", "/api/v2/manifest", okV2)
	if want := `{"status":"error","data":null,"message":"m","hint":"do \u003cthis\u003e"}` + "\n"; got.body != want {
		t.Errorf("got %s", got.body)
	}
}

func TestUnclassifiedErrorsAreLoggedNotSent(t *testing.T) {
	s := start(t, &fake{err: errors.New("/var/lib: detail")})
	got := s.do(t, s.stranger, "POST", "/api/v2/manifest", okV2)
	id := got.header.Get("X-Request-Id")
	if got.code != 500 || strings.Contains(got.body, "detail") || !strings.Contains(got.body, id) {
		t.Errorf("%d %s", got.code, got.body)
	}
	if log := s.log.String(); !strings.Contains(log, "detail") || !strings.Contains(log, `"requestID":"`+id+`"`) {
		t.Errorf("log: %s", log)
	}
}
