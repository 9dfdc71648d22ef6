// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/internal/coordinator"
)

// success is a reply of the contract, byte for byte.
type success struct {
	as     as
	method string
	path   string
	body   string
	given  *fake
	data   string
	asked  []any // what the Coordinator was asked; nil: not checked
}

var bobAndCarol = []string{"bob", "carol"}

var successes = map[string]success{
	"v1 status": {method: "GET", path: "/status",
		given: &fake{status: coordinator.Status{Code: 2, Message: "Ready.", Detail: "d", Notes: []string{"n"}}},
		data:  `{"StatusCode":2,"StatusMessage":"Ready."}`},
	"v2 status": {method: "GET", path: "/api/v2/status",
		given: &fake{status: coordinator.Status{Code: 2, Message: "Ready."}}, data: `{"code":2,"message":"Ready."}`},
	"v2 status, additive": {method: "GET", path: "/api/v2/status",
		given: &fake{status: coordinator.Status{Code: 1, Message: "m", Detail: "broken chain", Notes: []string{"simulation"}}},
		data:  `{"code":1,"message":"m","detail":"broken chain","notes":["simulation"]}`},
	"v2 ready": {method: "GET", path: "/api/v2/ready",
		given: &fake{status: coordinator.Status{Code: 3, Message: "m"}}, data: `{"code":3,"message":"m"}`},

	"v1 quote":           {method: "GET", path: "/quote", given: &fake{quote: []byte("q")}, data: `{"Cert":"PEM","Quote":"cQ=="}`},
	"v1 quote, nonce":    {method: "GET", path: "/quote?nonce=!", data: `{"Cert":"PEM","Quote":null}`, asked: []any{""}},
	"v2 quote":           {method: "GET", path: "/api/v2/quote", given: &fake{quote: []byte("q")}, data: `{"cert":"PEM","quote":"cQ=="}`},
	"v2 quote, nonce":    {method: "GET", path: "/api/v2/quote?nonce=_-8%3D", data: `{"cert":"PEM","quote":null}`, asked: []any{"\xff\xef"}},
	"v2 quote, no nonce": {method: "GET", path: "/api/v2/quote?nonce=", data: `{"cert":"PEM","quote":null}`, asked: []any{""}},

	"v1 manifest": {method: "GET", path: "/manifest",
		given: &fake{manifest: coordinator.Manifest{Bytes: []byte("{}"), Fingerprint: "ab", Signature: []byte("s")}},
		data:  `{"ManifestSignatureRootECDSA":"cw==","ManifestSignature":"ab","Manifest":"e30="}`},
	"v1 no manifest": {method: "GET", path: "/manifest", given: &fake{err: refuse(coordinator.NoManifest, "requested value not set")},
		data: `{"ManifestSignatureRootECDSA":null,"ManifestSignature":"","Manifest":null}`},
	"v2 manifest": {method: "GET", path: "/api/v2/manifest",
		given: &fake{manifest: coordinator.Manifest{Bytes: []byte("{}"), Fingerprint: "ab", Signature: []byte("s")}},
		data:  `{"manifestSignatureRootECDSA":"cw==","manifestFingerprint":"ab","manifest":"e30="}`},

	"v1 set manifest": {method: "POST", path: "/manifest", body: okV1, data: `null`, asked: []any{okV1}},
	"v1 set manifest, keys": {method: "POST", path: "/manifest", body: okV1,
		given: &fake{secrets: map[string][]byte{"rk": []byte("s")}}, data: `{"RecoverySecrets":{"rk":"cw=="}}`},
	"v2 set manifest": {method: "POST", path: "/api/v2/manifest", body: okV2, data: `{"RecoverySecrets":{}}`, asked: []any{"{}"}},
	"v2 set manifest, keys": {method: "POST", path: "/api/v2/manifest", body: `{"MANIFEST":"e30=","x":1} trailing`,
		given: &fake{secrets: map[string][]byte{"rk": []byte("s")}}, data: `{"RecoverySecrets":{"rk":"cw=="}}`, asked: []any{"{}"}},
	"v2 set manifest, null": {method: "POST", path: "/api/v2/manifest", body: `null`, data: `{"RecoverySecrets":{}}`, asked: []any{""}},
	"recovery secrets":      {method: "GET", path: "/api/v2/recovery-secrets", data: `{"recoverySecrets":{}}`},
	"recovery secrets, keys": {method: "GET", path: "/api/v2/recovery-secrets",
		given: &fake{secrets: map[string][]byte{"rk": []byte("s")}}, data: `{"recoverySecrets":{"rk":"cw=="}}`},

	"v1 update log": {method: "GET", path: "/update", given: &fake{log: []string{`{"a":"<"}`, `b`}}, data: `"{\"a\":\"\u003c\"}\nb\n"`},
	"v2 update log": {method: "GET", path: "/api/v2/update", given: &fake{log: []string{`{"a":"<"}`, `b`}},
		data: `{"updateLog":["{\"a\":\"\u003c\"}","b"]}`},
	"v1 empty update log": {method: "GET", path: "/update", data: `""`},
	"v2 empty update log": {method: "GET", path: "/api/v2/update", data: `{"updateLog":[]}`},
	"activations": {method: "GET", path: "/api/v2/activations", data: `{"activations":[],"next":0,"collapsed":0}`,
		asked: []any{uint64(0), 100}},
	"activations, page": {method: "GET", path: "/api/v2/activations?after=7&limit=3", data: `{"activations":[],"next":0,"collapsed":0}`,
		asked: []any{uint64(7), 3}},
	"activations, too many": {method: "GET", path: "/api/v2/activations?limit=18446744073709551615",
		data: `{"activations":[],"next":0,"collapsed":0}`, asked: []any{uint64(0), 1000}},

	"rotate": {as: alice, method: "POST", path: "/api/v2/secrets/rotate", body: `{"secrets":["b","a"]}`,
		data: `{"secrets":["rotated"]}`, asked: []any{"alice", []string{"b", "a"}}},
	"no bans": {method: "GET", path: "/api/v2/bans", data: `{"bans":[]}`},
	"bans": {method: "GET", path: "/api/v2/bans", given: &fake{banned: []wire.Ban{aBan, {BannedBy: "<b>"}}},
		data: `{"bans":[{"marbleType":"m","uuid":"u","bannedBy":"alice","time":"t"},` +
			`{"marbleType":"","bannedBy":"\u003cb\u003e","time":""}]}`},
	"ban": {as: alice, method: "POST", path: "/api/v2/bans", body: `{"marbleType":"m","uuid":"u"}`,
		given: &fake{banned: []wire.Ban{aBan}}, data: `{"marbleType":"m","uuid":"u","bannedBy":"alice","time":"t"}`,
		asked: []any{"alice", wire.BanRequest{BanTarget: aBan.BanTarget}}},
	"lift a ban": {as: alice, method: "POST", path: "/api/v2/bans", body: `{"marbleType":"m","evidenceSHA256":"ab","lift":true}`,
		given: &fake{banned: []wire.Ban{aBan}}, data: `{"marbleType":"m","uuid":"u","bannedBy":"alice","time":"t"}`,
		asked: []any{"alice", wire.BanRequest{BanTarget: wire.BanTarget{MarbleType: "m", EvidenceSHA256: "ab"}, Lift: true}}},

	"v1 update": {as: alice, method: "POST", path: "/update", body: okV1, data: `null`, asked: []any{"alice", okV1},
		given: &fake{update: coordinator.UpdateResult{MissingAcknowledgments: 1, MissingUsers: bobAndCarol}}},
	"v2 update": {as: alice, method: "POST", path: "/api/v2/update", body: okV2, asked: []any{"alice", "{}"},
		data: `{"missingAcknowledgments":0,"missingUsers":null}`},
	"v2 update, missing": {as: alice, method: "POST", path: "/api/v2/update", body: okV2,
		given: &fake{update: coordinator.UpdateResult{MissingAcknowledgments: 1, MissingUsers: bobAndCarol}},
		data:  `{"missingAcknowledgments":1,"missingUsers":["bob","carol"]}`},
	"v2 update, keys": {as: alice, method: "POST", path: "/api/v2/update", body: okV2,
		given: &fake{update: coordinator.UpdateResult{RecoverySecrets: map[string][]byte{"rk": []byte("s")}}},
		data:  `{"missingAcknowledgments":0,"missingUsers":null,"recoverySecrets":{"rk":"cw=="}}`},

	"v1 pending": {method: "GET", path: "/update-manifest",
		given: &fake{pending: coordinator.PendingUpdate{Manifest: []byte("{}"), MissingAcknowledgments: 1, MissingUsers: bobAndCarol}},
		data: `{"manifest":"e30=","message":"1 user still needs to acknowledge the update manifest",` +
			`"missingUsers":["bob","carol"]}`},
	"v2 pending": {method: "GET", path: "/api/v2/update-manifest",
		given: &fake{pending: coordinator.PendingUpdate{Manifest: []byte("{}"), MissingAcknowledgments: 2, MissingUsers: bobAndCarol}},
		data: `{"manifest":"e30=","message":"2 users still need to acknowledge the update manifest",` +
			`"missingUsers":["bob","carol"]}`},
	"v1 acknowledge, missing": {as: alice, method: "POST", path: "/update-manifest", body: okV1, asked: []any{"alice", okV1},
		given: &fake{update: coordinator.UpdateResult{MissingAcknowledgments: 2, MissingUsers: bobAndCarol}},
		data:  `"2 users still need to acknowledge the update manifest"`},
	"v1 acknowledge, applied": {as: alice, method: "POST", path: "/update-manifest", body: okV1,
		data: `"All users have acknowledged the update manifest. Update successfully applied"`},
	"v2 acknowledge, missing": {as: alice, method: "POST", path: "/api/v2/update-manifest", body: okV2, asked: []any{"alice", "{}"},
		given: &fake{update: coordinator.UpdateResult{MissingAcknowledgments: 1, MissingUsers: bobAndCarol}},
		data: `{"message":"1 user still needs to acknowledge the update manifest.\nThe following users have not yet accepted: ` +
			`bob, carol","missingUsers":["bob","carol"],"missingAcknowledgments":1}`},
	"v2 acknowledge, applied": {as: alice, method: "POST", path: "/api/v2/update-manifest", body: okV2,
		data: `{"message":"All users have acknowledged the update manifest. Update successfully applied",` +
			`"missingUsers":null,"missingAcknowledgments":0}`},
	"v2 acknowledge, keys": {as: alice, method: "POST", path: "/api/v2/update-manifest", body: okV2,
		given: &fake{update: coordinator.UpdateResult{RecoverySecrets: map[string][]byte{"rk": []byte("s")}}},
		data: `{"message":"All users have acknowledged the update manifest. Update successfully applied",` +
			`"missingUsers":null,"missingAcknowledgments":0,"recoverySecrets":{"rk":"cw=="}}`},
	"v1 cancel": {as: alice, method: "POST", path: "/update-cancel", data: `"Update successfully cancelled"`, asked: []any{"alice"}},
	"v2 cancel": {as: alice, method: "POST", path: "/api/v2/update-cancel", body: "ignored",
		data: `{"message":"Update successfully cancelled"}`},

	"v1 secrets": {as: alice, method: "GET", path: "/secrets?s=a&s=b&s=a", asked: []any{"alice", []string{"a", "b", "a"}},
		given: &fake{values: map[string]wire.Secret{"a": {Type: "plain", UserDefined: true}}}, data: "{" + secretA + "}"},
	"v2 secrets": {as: alice, method: "GET", path: "/api/v2/secrets?s=a", asked: []any{"alice", []string{"a"}},
		given: &fake{values: map[string]wire.Secret{"a": {Type: "plain", UserDefined: true}}}, data: `{"secrets":{` + secretA + "}}"},
	"v1 write": {as: alice, method: "POST", path: "/secrets", body: `{"a":{"key":"AAE="}}`, data: `null`,
		asked: []any{"alice", map[string]wire.UserSecret{"a": {Key: []byte{0, 1}}}}},
	"v2 write": {as: alice, method: "POST", path: "/api/v2/secrets", body: `{"secrets":{"a":{"Private":"AAE="}}} x`, data: `null`,
		asked: []any{"alice", map[string]wire.UserSecret{"a": {Private: []byte{0, 1}}}}},

	"recover": {method: "POST", path: "/api/v2/recover", body: `{"recoverySecret":"YQ==","recoverySecretSignature":"Yg=="}`,
		data: `{"remaining":0,"message":"Recovery successful."}`, asked: []any{"a", "b"}},
	"recover, more": {method: "POST", path: "/api/v2/recover", body: `{}`, given: &fake{remaining: 2},
		data: `{"remaining":2,"message":"Secret was processed successfully. Upload the next secret. Remaining secrets: 2"}`},
	"public key": {method: "GET", path: "/api/v2/recover/public-key", data: `{"algorithm":"RSA","ephemeralPublicKey":"ZGVy"}`},

	"sign-quote": {method: "POST", path: "/api/v2/sign-quote", body: `{"sgxQuote":"cQ=="}`, asked: []any{"q"},
		given: &fake{features: []string{"SignQuoteEndpoint"}}, data: `{"tcbStatus":"UpToDate","verificationSignature":"c2ln"}`},
	"counter": {as: marble, method: "POST", path: "/api/v2/monotonic-counter", body: `{"name":"c","value":18446744073709551615}`,
		given: &fake{features: []string{"MonotonicCounter"}}, data: `{"value":5}`,
		asked: []any{coordinator.Marble{Type: "web", UUID: "u"}, "c", uint64(18446744073709551615)}},
}

var aBan = wire.Ban{BanTarget: wire.BanTarget{MarbleType: "m", UUID: "u"}, BannedBy: "alice", Time: "t"}

const secretA = `"a":{"Type":"plain","Size":0,"Shared":false,"UserDefined":true,"Cert":null,"ValidFor":0,"Private":null,"Public":null}`

func TestSuccesses(t *testing.T) {
	for name, tt := range successes {
		t.Run(name, func(t *testing.T) {
			if tt.given == nil {
				tt.given = &fake{}
			}
			s := start(t, tt.given)
			client := map[as]*http.Client{stranger: s.stranger, alice: s.alice, marble: s.marble}[tt.as]
			got := s.do(t, client, tt.method, tt.path, tt.body)
			if got.code != 200 || got.header.Get("Content-Type") != "application/json" {
				t.Errorf("status %d, Content-Type %q", got.code, got.header.Get("Content-Type"))
			}
			if diff := cmp.Diff(`{"status":"success","data":`+tt.data+"}\n", got.body); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.asked, s.asked()); tt.asked != nil && diff != "" {
				t.Errorf("asked of the Coordinator (-want +got):\n%s", diff)
			}
		})
	}
}

// client-api.md §13: what an anonymous caller gets in states 1 and 2. Messages are the Coordinator's.
func TestWithoutManifest(t *testing.T) {
	s := start(t, &fake{err: refuse(coordinator.WrongState, wrongState)})
	for request, want := range map[string]int{
		"GET /status": 200, "GET /api/v2/status": 200,
		"GET /manifest": 200, "GET /api/v2/manifest": 500,
		"GET /update": 500, "GET /api/v2/update": 500,
		"POST /update": 401, "POST /api/v2/update": 401,
		"GET /secrets": 401, "GET /api/v2/secrets": 401, "POST /secrets": 401, "POST /api/v2/secrets": 401,
		"POST /update-manifest": 401, "POST /api/v2/update-manifest": 401,
		"POST /update-cancel": 401, "POST /api/v2/update-cancel": 401,
		"GET /update-manifest": 404, "GET /api/v2/update-manifest": 404,
		"POST /api/v2/recover": 400, "GET /api/v2/recover/public-key": 500,
		"POST /api/v2/sign-quote": 403, "POST /api/v2/monotonic-counter": 403,
	} {
		method, path, _ := strings.Cut(request, " ")
		if got := s.do(t, s.stranger, method, path, ""); got.code != want {
			t.Errorf("%s: %d, want %d", request, got.code, want)
		}
	}
}

func TestHTTP1AndHTTP2AnswerAlike(t *testing.T) {
	s := start(t, &fake{manifest: coordinator.Manifest{Bytes: []byte("{}")}})
	one := httpClient(t, false)
	for _, path := range []string{"/api/v2/status", "/api/v2/manifest", "/nothing", "/api/v2/update"} {
		a, b := s.do(t, one, "GET", path, ""), s.do(t, s.stranger, "GET", path, "")
		if a.code != b.code || a.body != b.body {
			t.Errorf("%s: HTTP/1.1 %d %q, HTTP/2 %d %q", path, a.code, a.body, b.code, b.body)
		}
	}
}

// Replies that are streamed are what encoding/json would have made of package wire.
func TestStreamsEqualWire(t *testing.T) {
	m := coordinator.Manifest{Bytes: []byte(strings.Repeat("\x00\xff<manifest>", 100_000)), Fingerprint: "fp", Signature: []byte("sig")}
	var log []string
	var banned []wire.Ban
	for i := range 5000 {
		log = append(log, fmt.Sprintf(`{"n":%d,"t":"<é\u2028>"}`, i))
		banned = append(banned, wire.Ban{BannedBy: log[i]})
	}
	s := start(t, &fake{manifest: m, log: log, banned: banned})
	for path, data := range map[string]any{
		"/manifest":        wire.ManifestV1{ManifestSignatureRootECDSA: m.Signature, ManifestSignature: "fp", Manifest: m.Bytes},
		"/api/v2/manifest": wire.ManifestV2{ManifestSignatureRootECDSA: m.Signature, ManifestFingerprint: "fp", Manifest: m.Bytes},
		"/update":          strings.Join(log, "\n") + "\n",
		"/api/v2/update":   wire.UpdateLog{UpdateLog: log},
		"/api/v2/bans":     wire.BansReply{Bans: banned},
	} {
		raw, err := json.Marshal(data)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(wire.Response{Status: wire.StatusSuccess, Data: raw})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.do(t, s.stranger, "GET", path, ""); got.body != string(want)+"\n" {
			t.Errorf("%s: %d bytes differ from %d", path, len(got.body), len(want)+1)
		}
	}
}

func TestAReplyIsWholeOrCut(t *testing.T) {
	var log []string
	for range 5000 {
		log = append(log, "some line that fills the buffer")
	}
	s := start(t, &fake{log: log, err: refuse(coordinator.Internal, "disk")})
	for _, client := range []*http.Client{s.stranger, httpClient(t, false)} {
		resp, err := client.Get(s.url + "/api/v2/update")
		if err != nil {
			t.Fatal(err)
		}
		var body wire.Response
		if err := json.NewDecoder(resp.Body).Decode(&body); err == nil {
			t.Errorf("%s: a broken log looks whole", resp.Proto)
		}
		_ = resp.Body.Close()
	}
	// An error before the first piece is still a failure.
	s.fake.log = log[:1]
	if got := s.do(t, s.stranger, "GET", "/api/v2/update", ""); got.code != 500 ||
		got.body != `{"status":"error","data":null,"message":"disk"}`+"\n" {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestDeprecatedPathsAreLogged(t *testing.T) {
	s := start(t, &fake{})
	for _, request := range []string{"GET /status", "POST /recover", "GET /update-manifest", "POST /update-cancel", "GET /api/v2/status"} {
		method, path, _ := strings.Cut(request, " ")
		s.do(t, s.stranger, method, path, "")
	}
	log := s.log.String()
	for _, path := range []string{"status", "recover"} {
		want := `"msg":"Usage of deprecated API endpoint. Consider using /api/v2/` + path + ` instead"`
		if strings.Count(log, want) != 1 || !strings.Contains(log, `"path":"/`+path+`"`) {
			t.Errorf("/%s is not logged once: %s", path, log)
		}
	}
	if n := strings.Count(log, "deprecated"); n != 2 {
		t.Errorf("%d lines, want 2: %s", n, log)
	}
}

// Q8: version 1 cannot transport new recovery secrets.
func TestV1WarnsOfNewRecoverySecrets(t *testing.T) {
	for _, path := range []string{"/update", "/update-manifest"} {
		s := start(t, &fake{update: coordinator.UpdateResult{RecoverySecrets: map[string][]byte{"rk": []byte("hush")}}})
		s.do(t, s.alice, "POST", path, okV1)
		log := s.log.String()
		if !strings.Contains(log, "GET /api/v2/recovery-secrets") ||
			strings.Contains(log, base64.StdEncoding.EncodeToString([]byte("hush"))) {
			t.Errorf("%s: log %s", path, log)
		}
	}
}
