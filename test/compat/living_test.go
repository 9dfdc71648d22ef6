// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/api/wire"
	"github.com/marblerun/marblerun/test/harness"
)

// living is a manifest whose user alice may rotate and ban; bob may nothing. Both are additions to the contract.
func living(t *testing.T) (people, object) {
	t.Helper()
	p := newPeople(t, map[string][]string{"alice": {"rotate", "ban", "u", "p"}, "bob": nil})
	env := object{
		"KEY": "{{ hex .Secrets.key }}", "OLD_KEY": "{{ hex .Previous.Secrets.key }}",
		"CERT": "{{ pem .Secrets.cert.Cert }}", "OLD_CERT": "{{ pem .Previous.Secrets.cert.Cert }}",
	}
	return p, object{
		"Packages": object{"p": object{"SignerID": strings.Repeat("cd", 32), "ProductID": 1, "SecurityVersion": 2}},
		"Marbles":  object{"m": marble(object{"Parameters": object{"Env": env}}), "other": marble(nil)},
		"Secrets": object{
			"token": object{"Type": "plain", "UserDefined": true},
			"key":   object{"Type": "symmetric-key", "Size": 128, "Shared": true},
			"cert":  object{"Type": "cert-ecdsa", "Size": 256, "Shared": true, "Cert": object{"DNSNames": []string{"db"}}},
		},
		"Users": p.users,
		"Roles": object{
			"rotate": object{"ResourceType": "Secrets", "ResourceNames": []string{"key", "cert"}, "Actions": []string{"rotatesecret"}},
			"ban":    object{"ResourceType": "Marbles", "ResourceNames": []string{"m"}, "Actions": []string{"BanMarble"}},
			"u":      object{"ResourceType": "Manifest", "Actions": []string{"UpdateManifest"}},
			"p":      object{"ResourceType": "Packages", "ResourceNames": []string{"p"}, "Actions": []string{"UpdateSecurityVersion"}},
		},
		"Config": object{"FeatureGates": []string{"MonotonicCounter"}},
	}
}

func restart(c *harness.Coordinator) {
	c.Kill()
	c.Run()
	c.WaitReady()
}

// updateLines are the update log without times.
func updateLines(t *testing.T, c *harness.Coordinator) []string {
	t.Helper()
	lines := decode[wire.UpdateLog](t, c.Get("/api/v2/update")).UpdateLog
	for i, l := range lines {
		_, lines[i], _ = strings.Cut(l, ",")
	}
	return lines
}

func wantEnv(t *testing.T, p *marblepb.Parameters, name string, want []byte) {
	t.Helper()
	if string(p.Env[name]) != string(want) {
		t.Errorf("%s is %q, want %q", name, p.Env[name], want)
	}
}

// POST /api/v2/secrets/rotate, and its effect on activations, restarts, updates and the log.
func TestRotateSecrets(t *testing.T) {
	p, sections := living(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	first := mustActivate(t, c, "m", uuid1)
	manifest := c.Get("/api/v2/manifest").Body
	rotate := func(user, names string) harness.Reply {
		return c.Post("/api/v2/secrets/rotate", []byte(`{"secrets":[`+names+`]}`), p.certs[user])
	}
	wantReply(t, "bob", rotate("bob", `"key"`), 500, `{"status":"error","data":null,"message":"user bob is not allowed to`+
		` rotate secret key","hint":"it takes a role with ResourceType Secrets and Action RotateSecret whose ResourceNames name`+
		` \"key\""}`)
	for name, tt := range map[string]struct {
		r    harness.Reply
		code int
	}{
		"a user's secret": {rotate("alice", `"key","token"`), 500}, "unknown": {rotate("alice", `"key","nope"`), 500},
		"none": {rotate("alice", ""), 400}, "no JSON": {rotate("alice", "key"), 400},
		"stranger": {c.Post("/api/v2/secrets/rotate", []byte(`{"secrets":["key"]}`)), 401},
	} {
		if tt.r.Code != tt.code || tt.r.Message == "" {
			t.Errorf("%s: %d %s", name, tt.r.Code, tt.r.Body)
		}
	}
	same := mustActivate(t, c, "m", uuid1)
	wantEnv(t, same, "KEY", first.Env["KEY"])
	wantEnv(t, same, "CERT", first.Env["CERT"])

	wantReply(t, "alice", rotate("alice", `"key","cert","key"`), 200, `{"status":"success","data":{"secrets":["cert","key"]}}`)
	second := mustActivate(t, c, "m", uuid1)
	checkRotated(t, first, second)
	restart(c)
	again := mustActivate(t, c, "m", uuid1)
	for name, value := range second.Env {
		if !strings.HasPrefix(name, "MARBLE_PREDEFINED_") {
			wantEnv(t, again, name, value)
		}
	}
	equal(t, "manifest", c.Get("/api/v2/manifest").Body, manifest)
	equal(t, "Marble Root", string(again.Env["MARBLE_PREDEFINED_ROOT_CA"]), string(first.Env["MARBLE_PREDEFINED_ROOT_CA"]))

	equal(t, "rotated again", rotate("alice", `"key"`).Code, 200)
	third := mustActivate(t, c, "m", uuid1)
	wantEnv(t, third, "OLD_KEY", second.Env["KEY"])
	wantEnv(t, third, "OLD_CERT", first.Env["CERT"])
	wantEnv(t, third, "CERT", second.Env["CERT"])
	r := c.Post("/api/v2/update", harness.V2(t, []byte(`{"Packages":{"p":{"SecurityVersion":2}}}`)), p.certs["alice"])
	equal(t, "package update", r.Code, 200)
	fourth := mustActivate(t, c, "m", uuid1)
	wantEnv(t, fourth, "KEY", third.Env["KEY"])
	wantEnv(t, fourth, "OLD_KEY", third.Env["OLD_KEY"])
	equal(t, "update log", updateLines(t, c), []string{
		`"update":"Initial manifest set"}`,
		`"update":"Secret rotated","user":"alice","secret":"cert","type":"cert-ecdsa"}`,
		`"update":"Secret rotated","user":"alice","secret":"key","type":"symmetric-key"}`,
		`"update":"Secret rotated","user":"alice","secret":"key","type":"symmetric-key"}`,
		`"update":"SecurityVersion increased","user":"alice","package":"p","new version":2}`,
	})
	for _, p := range []*marblepb.Parameters{first, second, third} {
		raw, _ := hex.DecodeString(string(p.Env["KEY"]))
		if log := c.Log(); strings.Contains(log, string(p.Env["KEY"])) || strings.Contains(log, base64.StdEncoding.EncodeToString(raw)) {
			t.Error("a secret is in the log")
		}
	}
}

func checkRotated(t *testing.T, before, after *marblepb.Parameters) {
	t.Helper()
	for name, old := range map[string]string{"KEY": "OLD_KEY", "CERT": "OLD_CERT"} {
		if string(after.Env[name]) == string(before.Env[name]) || len(after.Env[name]) < 32 {
			t.Errorf("%s was not rotated: %q", name, after.Env[name])
		}
		wantEnv(t, after, old, before.Env[name])
	}
	certs := slices.Concat(parsePEM(t, string(before.Env["CERT"])), parsePEM(t, string(after.Env["CERT"])))
	if len(certs) != 2 || !slices.Equal(certs[1].DNSNames, []string{"db"}) ||
		string(certs[0].RawSubjectPublicKeyInfo) == string(certs[1].RawSubjectPublicKeyInfo) {
		t.Error("the certificate is not a new one from the same template")
	}
	ca := parsePEM(t, string(after.Env["MARBLE_PREDEFINED_ROOT_CA"]))
	if err := certs[1].CheckSignatureFrom(ca[0]); err != nil {
		t.Errorf("the certificate is not of this CA: %v", err)
	}
}

// POST and GET /api/v2/bans, and their effect on activations and the counter, over restarts and updates.
func TestBans(t *testing.T) {
	p, sections := living(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	cert := marbleCertificate(t, mustActivate(t, c, "m", uuid1))
	change := func(user, body string) harness.Reply { return c.Post("/api/v2/bans", []byte(body), p.certs[user]) }
	raise := func() harness.Reply {
		return c.Post("/api/v2/monotonic-counter", []byte(`{"name":"c","value":1}`), cert)
	}
	equal(t, "counter before the ban", raise().Code, 200)
	wantReply(t, "none", c.Get("/api/v2/bans"), 200, `{"status":"success","data":{"bans":[]}}`)
	wantReply(t, "bob", change("bob", `{"marbleType":"m","uuid":"`+uuid1+`"}`), 500, `{"status":"error","data":null,"message":"user`+
		` bob is not allowed to ban marble m","hint":"it takes a role with ResourceType Marbles and Action BanMarble whose`+
		` ResourceNames name \"m\""}`)
	for name, tt := range map[string]struct {
		r    harness.Reply
		code int
	}{
		"stranger":          {c.Post("/api/v2/bans", []byte(`{"marbleType":"m","uuid":"`+uuid1+`"}`)), 401},
		"another type":      {change("alice", `{"marbleType":"other","uuid":"`+uuid1+`"}`), 500},
		"no UUID":           {change("alice", `{"marbleType":"m","uuid":"x"}`), 400},
		"nothing to ban":    {change("alice", `{"marbleType":"m"}`), 400},
		"nothing to lift":   {change("alice", `{"marbleType":"m","uuid":"`+uuid1+`","lift":true}`), 500},
		"half of a SHA-256": {change("alice", `{"marbleType":"m","evidenceSHA256":"`+strings.Repeat("a", 32)+`"}`), 400},
	} {
		if tt.r.Code != tt.code || tt.r.Message == "" {
			t.Errorf("%s: %d %s", name, tt.r.Code, tt.r.Body)
		}
	}
	b := decode[wire.Ban](t, change("alice", `{"marbleType":"m","uuid":"`+strings.ToUpper(uuid1)+`"}`))
	equal(t, "ban", b, wire.Ban{BanTarget: wire.BanTarget{MarbleType: "m", UUID: uuid1}, BannedBy: "alice", Time: b.Time})
	restart(c)
	equal(t, "list", decode[wire.BansReply](t, c.Get("/api/v2/bans")), wire.BansReply{Bans: []wire.Ban{b}})
	for _, form := range []string{uuid1, strings.ToUpper(uuid1), strings.ReplaceAll(uuid1, "-", "")} {
		_, err := activate(t, c, "m", form)
		wantCode(t, err, codes.PermissionDenied, "marble verification failed: marble is banned by its UUID "+uuid1)
	}
	mustActivate(t, c, "m", "00000000-0000-4000-8000-000000000001")
	mustActivate(t, c, "other", uuid1)
	if r := raise(); r.Code != 401 || !strings.HasPrefix(r.Message, "unauthorized marble: marble is banned by its UUID") {
		t.Errorf("a banned Marble's certificate: %d %s", r.Code, r.Body)
	}
	checkBanAndUpdates(t, c, p, sections)
	equal(t, "lifted", change("alice", `{"marbleType":"m","uuid":"`+uuid1+`","lift":true}`).Code, 200)
	mustActivate(t, c, "m", uuid1)
	equal(t, "update log", updateLines(t, c)[1], `"update":"Marble banned","user":"alice","marbleType":"m","uuid":"`+uuid1+`"}`)
}

// checkBanAndUpdates: the ban is still there after its Marble type was removed and added again.
func checkBanAndUpdates(t *testing.T, c *harness.Coordinator, p people, sections object) {
	t.Helper()
	original := manifestJSON(t, sections)
	without := strings.NewReplacer(`"ResourceNames":["m"]`, `"ResourceNames":["other"]`, `"m":{`, `"n":{`).Replace(string(original))
	for _, m := range []string{without, string(original)} {
		if r := c.Post("/api/v2/update", harness.V2(t, []byte(m)), p.certs["alice"]); r.Code != 200 {
			t.Fatalf("update: %d %s", r.Code, r.Body)
		}
		equal(t, "bans", len(decode[wire.BansReply](t, c.Get("/api/v2/bans")).Bans), 1)
		_, err := activate(t, c, "m", "00000000-0000-4000-8000-000000000001")
		equal(t, "the type is gone", err != nil, m == without)
	}
	_, err := activate(t, c, "m", uuid1)
	wantCode(t, err, codes.PermissionDenied, "marble is banned")
}

// Evidence is banned by its hash, also in simulation, where nobody else looks at it.
func TestBanEvidence(t *testing.T) {
	p, sections := living(t)
	c := harness.Start(t, harness.Options{})
	c.MustSetManifest(manifestJSON(t, sections))
	id := harness.NewIdentity(t)
	try := func(evidence string) error {
		_, err := c.ActivateWith(context.Background(), id,
			&marblepb.ActivationReq{CSR: id.CSR, MarbleType: "m", UUID: uuid1, Quote: []byte(evidence)})
		return err
	}
	sum := sha256.Sum256([]byte("bad"))
	body := `{"marbleType":"m","evidenceSHA256":"` + strings.ToUpper(hex.EncodeToString(sum[:])) + `"`
	equal(t, "ban", c.Post("/api/v2/bans", []byte(body+"}"), p.certs["alice"]).Code, 200)
	restart(c)
	wantCode(t, try("bad"), codes.PermissionDenied, "marble is banned by its evidence with SHA-256 "+hex.EncodeToString(sum[:]))
	wantCode(t, try("good"), codes.OK, "")
	equal(t, "lift", c.Post("/api/v2/bans", []byte(body+`,"lift":true}`), p.certs["alice"]).Code, 200)
	wantCode(t, try("bad"), codes.OK, "")
}
