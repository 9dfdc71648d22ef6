// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/internal/pki"
	"github.com/marblerun/marblerun/manifest"
)

// inputs prepares an activation of the Marble type "m" under a manifest.
func inputs(t testing.TB, text string) ActivationInputs {
	t.Helper()
	m := parse(t, text)
	compiled, err := Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	return inputsFor(t, m, compiled)
}

func inputsFor(t testing.TB, m *manifest.Manifest, compiled *Compiled) ActivationInputs {
	t.Helper()
	ca := newTestCA(t)
	leaf, err := ca.IssueMarble(&pki.CSR{DNSNames: []string{"localhost"}}, testUUID, "m", nil, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := GenerateShared(t.Context(), m, ca, nil, testNow(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ActivationInputs{
		Manifest: m, Templates: compiled, MarbleType: "m", UUID: testUUID, CA: ca, Leaf: leaf,
		RootSecret: testRoot(), Stored: shared, Previous: shared, Now: testNow(), Rand: rand.Reader,
	}
}

func activate(t testing.TB, in ActivationInputs) *marblepb.Parameters {
	t.Helper()
	params, err := Parameters(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return params
}

// blocks returns the DER of all PEM blocks, which must carry the label.
func blocks(t testing.TB, text []byte, label string) (all [][]byte) {
	t.Helper()
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			if len(rest) > 0 {
				t.Errorf("after the PEM blocks: %q", rest)
			}
			return all
		}
		if block.Type != label {
			t.Errorf("label %q, want %q", block.Type, label)
		}
		all, text = append(all, block.Bytes), rest
	}
}

// TestPredefined: contract marble-api §7 and §13, checks 7, 8, 13 and 14.
func TestPredefined(t *testing.T) {
	in := inputs(t, `{"Marbles":{"m":{"Parameters":{"Env":{"MARBLE_PREDEFINED_ROOT_CA":"mine","OTHER":"x"}}}}}`)
	env := activate(t, in).Env
	var names []string
	for name := range env {
		names = append(names, name)
	}
	if len(env) != 5 || string(env["OTHER"]) != "x" {
		t.Errorf("variables %q; without TLS tags there is no policy", names)
	}
	if root := blocks(t, env[EnvRootCA], "CERTIFICATE"); len(root) != 1 || !bytes.Equal(root[0], in.CA.MarbleRoot.Raw) {
		t.Error("the root is not the Marble Root alone")
	}
	root := blocks(t, env[EnvCoordinatorRootCA], "CERTIFICATE")
	if len(root) != 1 || !bytes.Equal(root[0], in.CA.Root.Raw) {
		t.Error("the Coordinator root is not alone")
	}
	chain := blocks(t, env[EnvCertificateChain], "CERTIFICATE")
	if len(chain) != 2 || !bytes.Equal(chain[0], in.Leaf.DER) || !bytes.Equal(chain[1], in.CA.Intermediate.Raw) {
		t.Error("the chain is not leaf, intermediate")
	}
	if _, err := tls.X509KeyPair(env[EnvCertificateChain], env[EnvPrivateKey]); err != nil {
		t.Error("the private key is not the leaf's:", err)
	}
	if key := blocks(t, env[EnvPrivateKey], "PRIVATE KEY"); len(key) != 1 {
		t.Errorf("%d keys", len(key))
	}
}

// TestVerbatim: contract manifest §5.1, marble-api §13, checks 16 and 17.
func TestVerbatim(t *testing.T) {
	params := activate(t, inputs(t, `{"Marbles":{"m":{"Parameters":{
		"Files":{"/a":{"Data":"00ff","Encoding":"hex"}, "/b":{"Data":"{{ x","NoTemplates":true}},
		"Env":{"E":{"Data":"{{ raw .Nope }}","NoTemplates":true}},
		"Argv":["./m","{{ x }}"]}}}}`))
	want := map[string][]byte{"/a": {0, 0xff}, "/b": []byte("{{ x")}
	if diff := cmp.Diff(want, params.Files); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"./m", "{{ x }}"}, params.Argv); diff != "" {
		t.Error(diff)
	}
	if got := string(params.Env["E"]); got != "{{ raw .Nope }}" {
		t.Errorf("NoTemplates: %q", got)
	}
}

const everything = `{"Secrets":{
	"sym":{"Type":"symmetric-key","Size":256}, "encKey":{"Type":"symmetric-key","Size":256},
	"sharedKey":{"Type":"symmetric-key","Size":128,"Shared":true},
	"own":{"Type":"cert-ecdsa","Size":256}, "shared":{"Type":"cert-ed25519","Shared":true},
	"token":{"Type":"plain","UserDefined":true}},
	"Marbles":{
		"m":{"Parameters":{"Env":{
			"SYM":"{{ hex .Secrets.sym }}", "ENC":"{{ hex .Secrets.encKey.Private }}", "PREV":"{{ hex .Previous.Secrets.sym }}",
			"SHARED":"{{ base64 .Secrets.sharedKey }}", "TOKEN":"{{ string .Secrets.token }}"},
			"Files":{
			"/own.crt":"{{ pem .Secrets.own.Cert }}", "/own.key":"{{ pem .Secrets.own.Private }}",
			"/previous.crt":"{{ pem .Previous.Secrets.own.Cert }}",
			"/shared.crt":"{{ pem .Secrets.shared.Cert }}{{ .Secrets.shared.Cert.Subject.CommonName }}",
			"/mr":"{{ with .MarbleRun }}{{ pem .RootCA.Cert }}{{ pem .MarbleCert.Cert }}{{ end }}",
			"/ca":"{{ pem .MarbleRun.CoordinatorRoot.Cert }}{{ pem .MarbleRun.CoordinatorIntermediate.Cert }}",
			"/leaf.key":"{{ pem .MarbleRun.MarbleCert.Private }}"}}},
		"bound":{"Parameters":{"Env":{"SYM":"{{ hex .Secrets.sym }}"}}},
		"free":{"DisableSecretBinding":true,"Parameters":{"Env":{
			"SYM":"{{ hex .Secrets.sym }}","ENC":"{{ hex .Secrets.encKey }}"}}},
		"free2":{"DisableSecretBinding":true,"Parameters":{"Env":{"SYM":"{{ hex .Secrets.sym }}"}}}}}`

func withToken(in ActivationInputs, token string) ActivationInputs {
	values := map[string]Value{"token": {Type: "plain", UserDefined: true, Private: []byte(token), Public: []byte(token)}}
	for name, v := range in.Stored {
		values[name] = v
	}
	in.Stored = values
	return in
}

// TestExpand: contract manifest §6, on real values.
func TestExpand(t *testing.T) {
	in := withToken(inputs(t, everything), "s{{ecret")
	params := activate(t, in)
	if got := string(params.Env["TOKEN"]); got != "s{{ecret" {
		t.Errorf("a secret's output was expanded again: %q", got)
	}
	own, key := params.Files["/own.crt"], params.Files["/own.key"]
	if _, err := tls.X509KeyPair(own, key); err != nil {
		t.Error(err)
	}
	if bytes.Equal(own, params.Files["/previous.crt"]) {
		t.Error("the previous value of a per-Marble certificate is not a fresh one (Q19)")
	}
	cert := parseCert(t, blocks(t, own, "CERTIFICATE")[0])
	if err := cert.CheckSignatureFrom(in.CA.MarbleRoot); err != nil {
		t.Error(err)
	}
	if got := params.Files["/shared.crt"]; !bytes.HasSuffix(got, []byte("-----END CERTIFICATE-----\nlocalhost")) {
		t.Errorf("fields of a certificate: %q", got)
	}
	reserved := blocks(t, append(params.Files["/mr"], params.Files["/ca"]...), "CERTIFICATE")
	want := [][]byte{in.CA.MarbleRoot.Raw, in.Leaf.DER, in.CA.Root.Raw, in.CA.Intermediate.Raw}
	if diff := cmp.Diff(want, reserved); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(params.Files["/leaf.key"], params.Env[EnvPrivateKey]) {
		t.Error("the leaf's key differs between template and variable")
	}
}

// TestPerMarbleKeys: contract marble-api §8 and §13, check 9.
func TestPerMarbleKeys(t *testing.T) {
	in := withToken(inputs(t, everything), "t")
	sym := func(marbleType, id string) string {
		in := in
		in.MarbleType, in.UUID = marbleType, id
		return string(activate(t, in).Env["SYM"])
	}
	first := sym("m", testUUID)
	if first != sym("m", testUUID) {
		t.Error("the same UUID got another key")
	}
	other := "1" + testUUID[1:]
	if first == sym("m", other) || first == sym("bound", testUUID) || first == sym("free", testUUID) {
		t.Error("the key does not depend on UUID and Marble type")
	}
	if sym("free", testUUID) != sym("free2", testUUID) {
		t.Error("DisableSecretBinding: Marble types do not share the key")
	}
	in.MarbleType = "free"
	const unbound = "d6b924ad729fe117f8ed064d736f25631d31f9e0cdc2e313b6526a82e636d4ce" // vector of §8
	if got := string(activate(t, in).Env["ENC"]); got != unbound {
		t.Errorf("got %s, want %s", got, unbound)
	}
}

// TestPreviousKeys: contract manifest §13.5, "per-marble symmetric key".
func TestPreviousKeys(t *testing.T) {
	in := withToken(inputs(t, everything), "t")
	env := activate(t, in).Env
	if !bytes.Equal(env["SYM"], env["PREV"]) {
		t.Error("without a rotation .Previous is not the current key")
	}
	in.PreviousRootSecret, in.RootSecret = in.RootSecret, bytes.Repeat([]byte{7}, 32)
	rotated := activate(t, in).Env
	if !bytes.Equal(rotated["PREV"], env["SYM"]) || bytes.Equal(rotated["SYM"], env["SYM"]) {
		t.Error("after a rotation .Previous is not the key before")
	}
}
