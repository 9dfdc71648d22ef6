// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// people is a set of users with certificates.
type people struct {
	certs map[string]tls.Certificate
	users object
}

func newPeople(t *testing.T, roles map[string][]string) people {
	t.Helper()
	p := people{map[string]tls.Certificate{}, object{}}
	for name, r := range roles {
		cert, text := harness.UserCertificate(t, name)
		p.certs[name], p.users[name] = cert, object{"Certificate": text, "Roles": r}
	}
	return p
}

// updaters is a manifest with three eligible users, a threshold of two, and dave, who is not eligible.
func updaters(t *testing.T) (people, object) {
	p := newPeople(t, map[string][]string{"alice": {"u", "s", "p"}, "bob": {"u"}, "carol": {"u"}, "dave": nil})
	return p, object{
		"Packages": object{"p": object{"SignerID": strings.Repeat("cd", 32), "ProductID": 1, "SecurityVersion": 2}},
		"Secrets": object{
			"token":  object{"Type": "plain", "UserDefined": true},
			"shared": object{"Type": "symmetric-key", "Size": 128, "Shared": true},
			"cert":   object{"Type": "cert-ecdsa", "Size": 256, "Shared": true},
		},
		"Users": p.users,
		"Roles": object{
			"u": object{"ResourceType": "Manifest", "Actions": []string{"UpdateManifest"}},
			"p": object{"ResourceType": "Packages", "ResourceNames": []string{"p"}, "Actions": []string{"UpdateSecurityVersion"}},
			"s": object{"ResourceType": "Secrets", "ResourceNames": []string{"token"}, "Actions": []string{"ReadSecret", "WriteSecret"}},
		},
		"Config": object{"UpdateThreshold": 2},
	}
}

func wantReply(t *testing.T, what string, r harness.Reply, code int, body string) {
	t.Helper()
	if r.Code != code || r.Body != body+"\n" {
		t.Errorf("%s:\n got %d %s\nwant %d %s", what, r.Code, r.Body, code, body)
	}
}

// client-api.md §9, the transcript "3 eligible users, threshold 2" and "Cancel", over a restart.
func TestUpdateTranscript(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	sections["Marbles"] = object{"m": marble(nil), "new": marble(nil)}
	next := manifestJSON(t, sections)
	update := func(path, user string, m []byte) harness.Reply {
		return c.Post("/api/v2/"+path, harness.V2(t, m), p.certs[user])
	}
	pending := `{"status":"error","data":null,"message":"update already in progress. Acknowledge the update to apply it, or` +
		` cancel it to start a new one"}`

	wantReply(t, "none pending", update("update-manifest", "bob", next), 404,
		`{"status":"error","data":null,"message":"no update in progress"}`)
	wantReply(t, "alice submits", update("update", "alice", next), 200,
		`{"status":"success","data":{"missingAcknowledgments":1,"missingUsers":["bob","carol"]}}`)
	wantReply(t, "bob submits", update("update", "bob", next), 500, pending)
	c.Kill()
	c.Run()
	c.WaitReady()
	wantReply(t, "pending", c.Get("/api/v2/update-manifest"), 200, fmt.Sprintf(
		`{"status":"success","data":{"manifest":"%s","message":"1 user still needs to acknowledge the update manifest",`+
			`"missingUsers":["bob","carol"]}}`, base64Of(string(next))))
	wantReply(t, "alice again", update("update-manifest", "alice", next), 200,
		`{"status":"success","data":{"message":"1 user still needs to acknowledge the update manifest.\nThe following users`+
			` have not yet accepted: bob, carol","missingUsers":["bob","carol"],"missingAcknowledgments":1}}`)
	wantReply(t, "one byte differs", update("update-manifest", "bob", append(next, ' ')), 500,
		`{"status":"error","data":null,"message":"provided manifest does not match the pending manifest"}`)
	wantReply(t, "dave", update("update-manifest", "dave", next), 500,
		`{"status":"error","data":null,"message":"user dave is not allowed to acknowledge manifest updates"}`)
	before := root(t, c)
	wantReply(t, "bob", update("update-manifest", "bob", next), 200,
		`{"status":"success","data":{"message":"All users have acknowledged the update manifest. Update successfully applied",`+
			`"missingUsers":null,"missingAcknowledgments":0}}`)
	if !root(t, c).Equal(before) {
		t.Error("the root certificate changed")
	}
	mustActivate(t, c, "new", uuid1)

	wantReply(t, "alice submits again", update("update", "alice", next), 200,
		`{"status":"success","data":{"missingAcknowledgments":1,"missingUsers":["bob","carol"]}}`)
	wantReply(t, "cancel", c.Post("/api/v2/update-cancel", nil, p.certs["carol"]), 200,
		`{"status":"success","data":{"message":"Update successfully cancelled"}}`)
	wantReply(t, "cancel again", c.Post("/api/v2/update-cancel", nil, p.certs["carol"]), 404,
		`{"status":"error","data":null,"message":"no update in progress"}`)
	r := c.Post("/api/v2/update-cancel", nil, p.certs["dave"])
	if r.Code != 500 || !strings.HasPrefix(r.Message, "user dave is not allowed to ") {
		t.Errorf("dave cancels: %d %s", r.Code, r.Body)
	}
	checkUpdateLog(t, c)
}

func checkUpdateLog(t *testing.T, c *harness.Coordinator) {
	t.Helper()
	var got []string
	for _, l := range decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog {
		_, l, _ = strings.Cut(l, `"update":"`)
		l, _, _ = strings.Cut(l, `"`)
		got = append(got, l)
	}
	equal(t, "update log", got, []string{
		"Initial manifest set",
		"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",
		"Complete Manifest update acknowledged by user",
		"Complete Manifest updated",
		"Complete Manifest update initiated by user. Waiting for acknowledgments to apply the update",
		"Complete Manifest update cancelled by user",
	})
}

// manifest.md §13.2 and §13.4: package updates.
func TestPackageUpdate(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	manifestBefore := c.Get("/api/v2/manifest").Body
	old := mustActivate(t, c, "m", uuid1)
	for name, tt := range map[string]struct {
		user, update string
		code         int
	}{
		"lower":         {"alice", `{"Packages":{"p":{"SecurityVersion":1}}}`, 500},
		"absent":        {"alice", `{"Packages":{"p":{}}}`, 500},
		"with Debug":    {"alice", `{"Packages":{"p":{"SecurityVersion":5,"Debug":true}}}`, 500},
		"empty":         {"alice", `{}`, 500},
		"unknown":       {"alice", `{"Packages":{"q":{"SecurityVersion":5}}}`, 500},
		"no permission": {"bob", `{"Packages":{"p":{"SecurityVersion":5}}}`, 500},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.Post("/api/v2/update", harness.V2(t, []byte(tt.update)), p.certs[tt.user])
			if r.Code != tt.code || r.Message == "" {
				t.Errorf("%d %s", r.Code, r.Body)
			}
			v1 := c.Post("/update", []byte(tt.update), p.certs[tt.user])
			if v1.Code != http.StatusBadRequest {
				t.Errorf("v1: %d %s", v1.Code, v1.Body)
			}
		})
	}
	wantReply(t, "raised", c.Post("/api/v2/update", harness.V2(t, []byte(`{"Packages":{"p":{"SecurityVersion":5}}}`)),
		p.certs["alice"]), 200, `{"status":"success","data":{"missingAcknowledgments":0,"missingUsers":null}}`)
	equal(t, "manifest", c.Get("/api/v2/manifest").Body, manifestBefore)
	log := decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog
	if !strings.HasSuffix(log[len(log)-1], `"update":"SecurityVersion increased","user":"alice","package":"p","new version":5}`) {
		t.Errorf("log: %s", log[len(log)-1])
	}
	renewed := mustActivate(t, c, "m", uuid1)
	if string(renewed.Env["MARBLE_PREDEFINED_ROOT_CA"]) == string(old.Env["MARBLE_PREDEFINED_ROOT_CA"]) {
		t.Error("the Marble Root did not change")
	}
	equal(t, "Coordinator root", string(renewed.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]),
		string(old.Env["MARBLE_PREDEFINED_COORDINATOR_ROOT_CA"]))
	lower := c.Post("/api/v2/update", harness.V2(t, []byte(`{"Packages":{"p":{"SecurityVersion":4}}}`)), p.certs["alice"])
	equal(t, "lower than the raised value", lower.Code, 500)
}

// client-api.md §8.
func TestSecrets(t *testing.T) {
	p, sections := updaters(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	alice, bob := p.certs["alice"], p.certs["bob"]
	get := func(query string, cert tls.Certificate) harness.Reply {
		t.Helper()
		r, err := c.Do(c.Client(cert), http.MethodGet, query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	equal(t, "not uploaded", get("/api/v2/secrets?s=token", alice).Body,
		`{"status":"success","data":{"secrets":{"token":{"Type":"plain","Size":0,"Shared":false,"UserDefined":true,`+
			`"Cert":null,"ValidFor":0,"Private":null,"Public":null}}}}`+"\n")
	wantReply(t, "set", c.Post("/api/v2/secrets", []byte(`{"secrets":{"token":{"Key":"AAEC"}}}`), alice), 200,
		`{"status":"success","data":null}`)
	v1 := get("/secrets?s=token&s=token", alice)
	if !strings.Contains(v1.Body, `"data":{"token":{`) || !strings.Contains(v1.Body, `"Private":"AAEC"`) {
		t.Errorf("v1: %s", v1.Body)
	}
	for name, tt := range map[string]struct {
		r      harness.Reply
		code   int
		prefix string
	}{
		"no permission":        {get("/api/v2/secrets?s=token", bob), 500, "user bob is not allowed to "},
		"not permitted":        {get("/api/v2/secrets?s=token&s=shared", alice), 500, "user alice is not allowed to "},
		"v1 unknown":           {get("/secrets?s=nope", alice), 400, "user alice is not allowed to "},
		"no query":             {get("/api/v2/secrets", alice), 400, "invalid query: endpoint requires at least one query parameter"},
		"empty query":          {get("/api/v2/secrets?s=", alice), 400, "malformed query string: empty query parameter"},
		"write denied":         {c.Post("/api/v2/secrets", []byte(`{"secrets":{"token":{"Key":"AA=="}}}`), bob), 500, "user bob is not allowed to "},
		"not a user's":         {c.Post("/api/v2/secrets", []byte(`{"secrets":{"shared":{"Key":"AA=="}}}`), alice), 500, ""},
		"none":                 {c.Post("/api/v2/secrets", []byte(`{"secrets":{}}`), alice), 500, ""},
		"bad base64":           {c.Post("/api/v2/secrets", []byte(`{"secrets":{"token":{"Key":"!"}}}`), alice), 400, ""},
		"a broken certificate": {c.Post("/api/v2/secrets", []byte(`{"secrets":{"token":{"Cert":"AA=="}}}`), alice), 400, ""},
		"v1 bad content":       {c.Post("/secrets", []byte(`{"token":{"Cert":"AA=="}}`), alice), 400, ""},
	} {
		if tt.r.Code != tt.code || !strings.HasPrefix(tt.r.Message, tt.prefix) {
			t.Errorf("%s: %d %s", name, tt.r.Code, tt.r.Body)
		}
	}
	if strings.Contains(c.Log(), "AAEC") {
		t.Error("a secret is in the log")
	}
	c.Kill()
	c.Run()
	c.WaitReady()
	equal(t, "after a restart", get("/secrets?s=token", alice).Body, v1.Body)
}

// manifest.md §13.4 and client-api.md §9: new recovery keys start a new epoch; the old secrets open nothing.
func TestRecoveryKeyChange(t *testing.T) {
	p, sections := updaters(t)
	oldKey, oldPub := recoveryKey(t)
	newKey, newPub := recoveryKey(t)
	sections["RecoveryKeys"] = object{"rk": oldPub}
	sections["Config"] = object{"UpdateThreshold": 1}
	c := harness.Start(t, harness.Options{})
	oldSecret := decrypt(t, oldKey, c.MustSetManifest(manifestJSON(t, sections))["rk"])
	original := root(t, c)
	sections["RecoveryKeys"] = object{"rk": newPub}
	reply := decode[wire.UpdateApplyReply](t, c.Post("/api/v2/update", harness.V2(t, manifestJSON(t, sections)), p.certs["alice"]))
	newSecret := decrypt(t, newKey, reply.RecoverySecrets["rk"])
	again := decode[wire.RecoverySecretsReply](t, c.Get("/api/v2/recovery-secrets"))
	equal(t, "readable later", again.RecoverySecrets, reply.RecoverySecrets)
	c.Kill()
	if err := os.Remove(filepath.Join(c.Dir, "sealed_key")); err != nil {
		t.Fatal(err)
	}
	c.Run()
	c.WaitReady()
	equal(t, "status", status(t, c), 1)
	r := recoverWith(t, c, oldKey, oldSecret)
	equal(t, "old secret", r.Code, 500)
	equal(t, "status", status(t, c), 1)
	wantReply(t, "new secret", recoverWith(t, c, newKey, newSecret), 200,
		`{"status":"success","data":{"remaining":0,"message":"Recovery successful."}}`)
	equal(t, "status", status(t, c), 3)
	if !root(t, c).Equal(original) {
		t.Error("another root after recovery")
	}
}
