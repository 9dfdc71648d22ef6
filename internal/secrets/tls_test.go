// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/ttls"
)

// tagged is a manifest whose Marble "m" has these tags.
func tagged(tags string) string {
	return `{"Secrets":{"crt":{"Type":"cert-ecdsa","Size":256}, "sharedCrt":{"Type":"cert-ed25519","Shared":true},
		"user":{"Type":"cert-rsa","UserDefined":true}, "sym":{"Type":"symmetric-key","Size":128}},
	"TLS":{
		"a":{"Incoming":[{"Port":"8080","Addr":"ignored"},{"Port":"{{ x }}"}],
			"Outgoing":[{"Addr":"Service.","Port":"4242"}]},
		"b":{"Incoming":[{"Port":"8080","Cert":"crt","DisableClientAuth":true}]},
		"s":{"Incoming":[{"Port":"1","Cert":"sharedCrt","DisableClientAuth":true}]},
		"u":{"Incoming":[{"Port":"1","Cert":"user","DisableClientAuth":true}]},
		"key":{"Incoming":[{"Port":"1","Cert":"sym","DisableClientAuth":true}]},
		"gone":{"Incoming":[{"Port":"1","Cert":"nope","DisableClientAuth":true}]}, "empty":{}},
	"Marbles":{"m":{"TLS":[` + tags + `],"Parameters":{"Files":{"/crt":"{{ pem .Secrets.crt.Cert }}"}}}}}`
}

func policy(t *testing.T, in ActivationInputs) (*ttls.Config, map[string][]byte) {
	t.Helper()
	params := activate(t, in)
	c, err := ttls.Parse(params.Env[EnvTTLSConfig])
	if err != nil {
		t.Fatal(err)
	}
	params.Env["/crt"] = params.Files["/crt"]
	return c, params.Env
}

// TestTTLS: contract marble-api §7, the table of rules.
func TestTTLS(t *testing.T) {
	in := inputs(t, tagged(`"a"`))
	c, env := policy(t, in)
	if got := strings.Join(append(c.Listen(), c.Dial()...), " "); got != "*:8080 *:{{ x }} Service.:4242" {
		t.Errorf("keys %q", got)
	}
	web := c.TLS.Incoming["*:8080"]
	if !web.ClientAuth || web.CACert != string(env[EnvRootCA]) || web.Key != string(env[EnvPrivateKey]) {
		t.Error("without Cert: the Marble's own certificate, client authentication, the Marble Root")
	}
	if own := blocks(t, []byte(web.Cert), "CERTIFICATE"); len(own) != 1 || !bytes.Equal(own[0], in.Leaf.DER) {
		t.Errorf("%d certificates, want the leaf alone", len(own))
	}
	out := c.TLS.Outgoing["Service.:4242"]
	if out.CACert != web.CACert || out.Cert != web.Cert || out.Key != web.Key {
		t.Error("outgoing: not the Marble's own certificate")
	}
}

func TestTTLSLastTagWins(t *testing.T) {
	c, env := policy(t, inputs(t, tagged(`"a","b"`)))
	web := c.TLS.Incoming["*:8080"]
	if web.ClientAuth || web.Cert != string(env["/crt"]) || web.CACert != string(env[EnvRootCA]) {
		t.Error("the entry is not that of the last tag, or its certificate is not the one of the templates")
	}
	if len(blocks(t, []byte(web.Key), "PRIVATE KEY")) != 1 {
		t.Error("no key")
	}
	if c, _ := policy(t, inputs(t, tagged(`"b","a"`))); !c.TLS.Incoming["*:8080"].ClientAuth {
		t.Error("the entry is not that of the last tag")
	}
}

// TestTTLSEmpty: a Marble with empty tags only gets no policy (manifest quirk Q12).
func TestTTLSEmpty(t *testing.T) {
	if _, ok := activate(t, inputs(t, tagged(`"empty"`))).Env[EnvTTLSConfig]; ok {
		t.Error("there is a policy")
	}
}

func TestTTLSCertificates(t *testing.T) {
	if c, _ := policy(t, inputs(t, tagged(`"s"`))); c.TLS.Incoming["*:1"].Key == "" {
		t.Error("shared certificate: no key")
	}
	in := inputs(t, tagged(`"u"`))
	in.Stored = map[string]Value{
		"user": {Type: "cert-rsa", UserDefined: true, Cert: in.CA.Root.Raw, Private: []byte("as uploaded")},
	}
	c, _ := policy(t, in)
	if got := blocks(t, []byte(c.TLS.Incoming["*:1"].Key), "PRIVATE KEY"); string(got[0]) != "as uploaded" {
		t.Errorf("user-defined certificate: key %q", got)
	}
}

func TestTTLSRefuses(t *testing.T) {
	for _, c := range []struct {
		tag, want string
		stored    map[string]Value
	}{
		{`"u"`, `"user" is not uploaded`, nil},
		{`"u"`, `"user" was uploaded without its private key`,
			map[string]Value{"user": {Type: "cert-rsa", UserDefined: true, Cert: []byte{1}}}},
		{`"key"`, `"sym" is a symmetric-key`, nil},
		{`"gone"`, `does not define the secret "nope"`, nil},
	} {
		in := inputs(t, tagged(c.tag))
		in.Stored = c.stored
		if _, err := Parameters(t.Context(), in); !errors.Is(err, ErrTTLS) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.tag, err)
		}
	}
}
