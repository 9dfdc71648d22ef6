// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestMissingUserSecret: contract marble-api §13, check 12. The error names the secret and leaks no other value.
func TestMissingUserSecret(t *testing.T) {
	in := inputs(t, everything)
	_, err := Parameters(t.Context(), in)
	if !errors.Is(err, ErrTemplates) || !strings.HasSuffix(err.Error(), `are not uploaded yet: "token"`) {
		t.Fatal(err)
	}
	if shared := in.Stored["sharedKey"].Private; strings.Contains(err.Error(), hex.EncodeToString(shared)) {
		t.Error("the error contains a value")
	}
	activate(t, withToken(in, "now"))
	in.Stored = map[string]Value{}
	if _, err := Parameters(t.Context(), in); !errors.Is(err, ErrSecrets) || !strings.Contains(err.Error(), "shared") {
		t.Errorf("a lost shared secret: %v", err)
	}
}

// TestErrorsDoNotLeak: a NUL in an Env value fails the template; the value stays out of the error.
func TestErrorsDoNotLeak(t *testing.T) {
	_, err := Parameters(t.Context(), withToken(inputs(t, everything), "hidden\x00value"))
	if !errors.Is(err, ErrTemplates) || strings.Contains(err.Error(), "hidden") ||
		strings.Contains(err.Error(), "not uploaded") {
		t.Error(err)
	}
}

// TestOnlyNamedSecrets: what neither templates nor TLS tags name is not made: here none of it could be.
func TestOnlyNamedSecrets(t *testing.T) {
	const text = `{"Secrets":{
		"bad":{"Type":"symmetric-key","Size":7}, "big":{"Type":"cert-rsa","Size":16384},
		"k":{"Type":"symmetric-key","Size":8}, "tagged":{"Type":"cert-ecdsa","Size":256}},
		"TLS":{"t":{"Incoming":[{"Port":"1","Cert":"tagged","DisableClientAuth":true}]}},
		"Marbles":{"m":{"TLS":["t"],"Parameters":{"Env":{"K":"{{ hex .Secrets.k }}"}}}, "n":{},
			"all":{"Parameters":{"Env":{"K":"{{ range $n, $s := .Secrets }}{{ $n }}{{ end }}"}}}}}`
	in := inputs(t, text)
	activate(t, in)
	for marbleType, want := range map[string]string{"m": "k tagged", "n": "", "all": "bad big k tagged"} {
		current, _ := in.Templates.References(marbleType)
		if got := strings.Join(current, " "); got != want {
			t.Errorf("%s uses %q, want %q", marbleType, got, want)
		}
	}
	in.MarbleType = "all"
	if _, err := Parameters(t.Context(), in); !errors.Is(err, ErrSecrets) || !strings.Contains(err.Error(), `"bad"`) {
		t.Errorf("a template over all secrets: %v", err)
	}
	in.MarbleType = "unknown"
	if _, err := Parameters(t.Context(), in); err == nil {
		t.Error("an unknown Marble type was activated")
	}
}

// TestCompileTolerates: a template that does not compile fails its own Marble type only.
func TestCompileTolerates(t *testing.T) {
	m := parse(t, `{"Marbles":{"m":{},"broken":{"Parameters":{"Env":{"X":"{{ if }}"}}}}}`)
	compiled, err := Compile(m)
	if err == nil || !strings.Contains(err.Error(), `"broken"`) {
		t.Fatal(err)
	}
	in := inputsFor(t, m, compiled)
	activate(t, in)
	in.MarbleType = "broken"
	if _, err := Parameters(t.Context(), in); !errors.Is(err, ErrTemplates) || !strings.Contains(err.Error(), "Env") {
		t.Error(err)
	}
}

func TestParametersFitIntoAMessage(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	text := fmt.Sprintf(`{"Marbles":{"m":{"Parameters":{"Files":{"/1":%q,"/2":%q,"/3":%q,"/4":%q}}}}}`, big, big, big, big)
	if _, err := Parameters(t.Context(), inputs(t, text)); !errors.Is(err, ErrTemplates) {
		t.Error(err)
	}
}

func TestParametersCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, text := range []string{
		`{"Secrets":{"c":{"Type":"cert-rsa","Size":8192}},
			"Marbles":{"m":{"Parameters":{"Env":{"C":"{{ pem .Secrets.c.Cert }}"}}}}}`,
		`{"Marbles":{"m":{"Parameters":{"Env":{"C":"x"}}}}}`,
	} {
		if _, err := Parameters(ctx, inputs(t, text)); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// TestCachedCertificates: the cache follows a re-issued certificate, and a stored one that does not parse is delivered.
func TestCachedCertificates(t *testing.T) {
	in := inputs(t, `{"Secrets":{"c":{"Type":"cert-ecdsa","Size":256,"Shared":true}},
		"Marbles":{"m":{"Parameters":{"Files":{
			"/c":"{{ pem .Secrets.c.Cert }}","/p":"{{ pem .Previous.Secrets.c.Cert }}"}}}}}`)
	deliver := func(current, previous []byte) {
		t.Helper()
		in.Stored = map[string]Value{"c": {Type: "cert-ecdsa", Shared: true, Cert: current}}
		in.Previous = map[string]Value{"c": {Type: "cert-ecdsa", Shared: true, Cert: previous}}
		files := activate(t, in).Files
		if !bytes.Equal(blocks(t, files["/c"], "CERTIFICATE")[0], current) ||
			!bytes.Equal(blocks(t, files["/p"], "CERTIFICATE")[0], previous) {
			t.Error("another certificate was delivered")
		}
	}
	deliver(in.CA.Root.Raw, in.CA.MarbleRoot.Raw)
	deliver(in.CA.Root.Raw, in.CA.MarbleRoot.Raw)
	deliver(in.CA.Intermediate.Raw, in.CA.Root.Raw)
	if _, err := x509.ParseCertificate([]byte("odd")); err == nil {
		t.Fatal("the odd certificate parses")
	}
	deliver([]byte("odd"), in.CA.Root.Raw)
}
