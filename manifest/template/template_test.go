// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest/template"
)

const secretText = "hunter2-TOP-SECRET"

func certificate(t testing.TB) (template.Certificate, []byte) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(12345), Subject: pkix.Name{CommonName: "db", Organization: []string{"O"}},
		NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), NotAfter: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC),
		DNSNames: []string{"db", "db.ns.svc"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "x", Path: "/y"}}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := template.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, der
}

func data(t testing.TB) *template.Data {
	t.Helper()
	cert, _ := certificate(t)
	plain := func(b string) template.Secret {
		return template.Secret{Type: "plain", UserDefined: true, Public: []byte(b), Private: []byte(b)}
	}
	return &template.Data{
		MarbleRun: template.Reserved{RootCA: template.Secret{Cert: cert}},
		Secrets: map[string]template.Secret{
			"key":      {Type: "symmetric-key", Size: 32, Public: []byte{1, 2, 3, 255}, Private: []byte{1, 2, 3, 255}},
			"token":    plain(secretText),
			"template": plain("{{ .Secrets }}"),
			"nul":      plain("a\x00b"),
			"unset":    {Type: "plain", UserDefined: true},
			"my-cert":  {Type: "cert-ed25519", Cert: cert, Public: []byte("pub"), Private: []byte("priv")},
			"cert":     {Type: "cert-ed25519", Cert: cert, Public: []byte("pub"), Private: []byte("priv")},
		},
		Previous: template.Previous{Secrets: map[string]template.Secret{
			"key": {Type: "symmetric-key", Public: []byte{9}, Private: []byte{9}},
		}},
	}
}

func run(t testing.TB, text string, kind template.Kind) (string, error) {
	t.Helper()
	tmpl, err := template.Compile("entry", text, kind)
	if err != nil {
		return "", err
	}
	out, err := tmpl.Execute(data(t))
	return string(out), err
}

func block(typ string, b []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}))
}

// TestFunctions is the table of contract manifest §6.
func TestFunctions(t *testing.T) {
	_, der := certificate(t)
	tests := []struct {
		kind template.Kind
		text string
		want string
	}{
		{template.File, `no template`, `no template`},
		{template.File, `{{ raw .Secrets.key }}`, "\x01\x02\x03\xff"},
		{template.File, `{{ hex .Secrets.key }}`, "010203ff"},
		{template.File, `{{ base64 .Secrets.key }}`, "AQID/w=="},
		{template.Env, `{{ hex .Secrets.key.Private }}`, "010203ff"},
		{template.Env, `{{ hex .Previous.Secrets.key }}`, "09"},
		{template.File, `{{ raw .Secrets.cert }}`, "pub"},
		{template.File, `{{ raw .Secrets.cert.Cert }}`, string(der)},
		{template.File, `{{ pem .Secrets.cert.Cert }}`, block("CERTIFICATE", der)},
		{template.File, `{{ pem .Secrets.cert.Public }}`, block("PUBLIC KEY", []byte("pub"))},
		{template.Env, `{{ pem .Secrets.cert.Private }}`, block("PRIVATE KEY", []byte("priv"))},
		{template.Env, `{{ pem .MarbleRun.RootCA.Cert }}`, block("CERTIFICATE", der)},
		{template.Env, `{{ string .Secrets.token }}`, secretText},
		{template.File, `{{ raw .Secrets.template }}`, "{{ .Secrets }}"}, // not expanded again
		{template.File, `{{ hex (index .Secrets "my-cert").Public }}`, "707562"},
		{template.File, `{{ index .Secrets "my-cert" | raw }}`, "pub"},
		{template.File, `{{ .Secrets.cert.Type }} {{ .Secrets.key.Size }} {{ .Secrets.token.UserDefined }}`, "cert-ed25519 32 true"},
		{template.File, `{{ .Secrets.cert.Cert.Subject }}|{{ .Secrets.cert.Cert.Subject.CommonName }}`, "CN=db,O=O|db"},
		{template.File, `{{ .Secrets.cert.Cert.NotAfter }}`, "2027-01-02 03:04:05 +0000 UTC"},
		{template.File, `{{ .Secrets.cert.Cert.SerialNumber }} {{ .Secrets.cert.Cert.KeyUsage }}`, "12345 1"},
		{template.File, `{{ range $i, $n := .Secrets.cert.Cert.DNSNames }}{{ $i }}={{ . }}/{{ $n }} {{ end }}`, "0=db/db 1=db.ns.svc/db.ns.svc "},
		{template.File, `{{ range .Secrets.cert.Cert.DNSNames }}{{ . }}{{ break }}{{ end }}`, "db"},
		{template.File, `{{ .Secrets.cert.Cert.IPAddresses }} {{ .Secrets.cert.Cert.URIs }}`, "[127.0.0.1 ::1] [spiffe://x/y]"},
		{template.File, `{{ range $name, $s := .Secrets }}{{ $name }},{{ end }}`, "cert,key,my-cert,nul,template,token,unset,"},
		{template.File, `{{ with .Secrets.cert }}{{ .Type }}{{ len $.Secrets }}{{ end }}`, "cert-ed255197"},
		{template.File, `{{ if eq .Secrets.key.Size 32 }}yes{{ else }}no{{ end }}`, "yes"},
		{template.File, `{{ printf "%5s|%x" "a" .Secrets.key.Private }}`, "    a|010203ff"},
		{template.File, `{{ $x := hex .Secrets.key }}{{ $x }}{{ $x | len }}`, "010203ff8"},
		{template.File, `{{ define "a" }}<{{ hex . }}>{{ end }}{{ template "a" .Secrets.key }}{{ template "a" .Secrets.cert }}`, "<010203ff><707562>"},
		{template.File, `{{/* a "comment */}}{{- "x" -}}  y`, "xy"},
		{template.File, `{{ html "<" }}{{ js "'" }}{{ urlquery "a b" }}{{ print 1 2 }}{{ slice "abc" 1 2 }}`, `&lt;\'a+b1 2b`},
		{template.File, `{{ and true .Secrets.key.Size }}{{ or "" "b" }}{{ not true }}`, "32bfalse"},
	}
	for _, tc := range tests {
		t.Run(tc.text, func(t *testing.T) {
			got, err := run(t, tc.text, tc.kind)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		kind template.Kind
		text string
		want string // in the error
	}{
		{template.Env, `{{ raw .Secrets.key }}`, `entry:1:1: function "raw" not defined (raw is for Files`},
		{template.File, `{{ string .Secrets.token }}`, `function "string" not defined (string is for Env`},
		{template.File, `{{ call .Secrets.token }}`, `call is not available`},
		{template.File, `{{ pem .Secrets.cert }}`, `entry:1:4: pem needs a certificate or a key (use .Cert`},
		{template.File, `{{ hex "abc" }}`, `not a secret`},
		{template.File, "\n\n  {{ hex .Secrets.nope }}", `entry:3:`},
		{template.File, `{{ hex .Secrets.nope }}`, `map has no entry for key "nope"`},
		{template.File, `{{ .Secrets.nope }}`, `map has no entry for key "nope"`}, // quirk Q7
		{template.File, `{{ (index .Secrets "no-pe").Type }}`, `no such secret`},
		{template.File, `{{ .Previous.MarbleRun }}`, `there is no .Previous.MarbleRun`},
		{template.File, `{{ hex .Secret.key }}`, `there is no .Secret (did you mean Secrets?)`},
		{template.File, `{{ hex .Secrets.key.Cert }}`, `the value is empty`},
		{template.File, `{{ raw .Secrets.unset }}`, `the value is empty (a user-defined secret must be uploaded first`},
		{template.Env, `{{ string .Secrets.nul }}`, `contains a NUL byte`},
		{template.Env, `{{ string .Secrets.key }}`, `type plain`},
		{template.Env, `{{ string .Secrets.token.Private }}`, `needs a whole secret`},
		{template.Env, `{{ printf "\x00" }}`, `the value contains a NUL byte`},
		{template.Env, "a\x00", `the value contains a NUL byte`},
		{template.File, `{{ nope }}`, `function "nope" not defined`},
		{template.File, `{{ bas64 .Secrets.key }}`, `function "bas64" not defined (did you mean base64?)`},
		{template.File, `{{ _step 1 }}`, `function "_step" not defined`},
		{template.File, `{{ if }}`, `missing value for if`},
		{template.File, `{{ .Secrets.cert.Cert.CheckSignatureFrom .Secrets.cert.Cert }}`, `methods cannot be called`},
		{template.File, `{{ .Secrets.cert.Cert.NotAfter.Unix }}`, `there is no .Secrets.cert.Cert.NotAfter.Unix`},
		{template.File, `{{ $c := .Secrets.cert.Cert }}{{ $c.Verify }}`, `can't evaluate field Verify in type Certificate`},
		{template.File, `{{ $n := .Secrets.cert.Cert.Subject }}{{ $n.String }}`, `can't evaluate field String in type Name`},
		{template.File, `{{ $n := .Secrets.cert.Cert.Subject }}{{ $n.Format }}`, `wrong number of args for Format`},
		{template.File, `{{ $n := .Secrets.cert.Cert.Subject }}{{ $n.Format 1 2 }}`, `cannot be expanded`},
		{template.File, `{{ $ := 1 }}`, `the variable $ cannot be set`},
		{template.File, `{{ index .Secrets.cert.Cert.DNSNames 2 }}`, `index is out of range`},
		{template.File, `{{ template "nope" }}`, `there is no template "nope"`},
		{template.File, `{{ .Secrets.key.Size.Foo }}`, `there is no .Secrets.key.Size.Foo`},
	}
	for _, tc := range tests {
		t.Run(tc.text, func(t *testing.T) {
			out, err := run(t, tc.text, tc.kind)
			if err == nil {
				t.Fatalf("accepted, output %q", out)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not contain %q", err, tc.want)
			}
		})
	}
}

func TestCompileReportsEverything(t *testing.T) {
	_, err := template.Compile("e", "{{ .A }}\n{{ range 5 }}{{ end }}\n{{ printf \"%5000s\" 1 }}", template.File)
	errs, ok := errors.AsType[template.Errors](err)
	if !ok || len(errs) != 3 {
		t.Fatalf("%v", err)
	}
	for i, e := range errs {
		if e.Line != i+1 {
			t.Errorf("error %d is in line %d: %v", i, e.Line, e)
		}
	}
}

// TestErrorsNeverContainSecrets makes text/template quote the secret in all ways known.
func TestErrorsNeverContainSecrets(t *testing.T) {
	texts := []string{
		`{{ range .Secrets.token.Public }}{{ .Foo }}{{ end }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ $s.Foo }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ index .Secrets $s }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ $s 1 }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ slice $s 1 1000 }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ eq $s 1 }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ len 3 }}{{ $s }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ lt $s .Secrets.token }}`,
		`{{ $s := printf "%s" .Secrets.token.Public }}{{ printf $s 1 | index .Secrets }}`,
		`{{ $s := printf "%%%s%%5000d" .Secrets.token.Public }}{{ printf $s 1 }}`,
		`{{ $s := .Secrets.token }}{{ range $k, $v := $s.Type }}{{ end }}`,
		`{{ define "x" }}{{ range .Public.x }}{{ end }}{{ end }}{{ template "x" .Secrets.token }}`,
		`{{ with $x := .Secrets.token }}{{ range $a, $b := .Type }}{{ end }}{{ end }}`,
		`{{ printf "%s" .Secrets.token.Public | slice "abc" 5 }}`,
	}
	for _, text := range texts {
		out, err := run(t, text, template.File)
		if err == nil {
			t.Errorf("%s: no error, output %q", text, out)
			continue
		}
		for _, part := range []string{secretText, "hunter2", fmt.Sprint([]byte(secretText))[1:10]} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%s: the error contains the secret: %v", text, err)
			}
		}
	}
}

func TestAbuse(t *testing.T) {
	doubling := `{{ $a := printf "%4096s" "x" }}` + strings.Repeat(`{{ $a = print $a $a $a $a $a $a $a $a }}`, 20)
	tree := "{{ template \"t0\" . }}"
	for i := range 40 {
		tree += fmt.Sprintf(`{{ define "t%d" }}{{ template "t%d" . }}{{ template "t%d" . }}{{ end }}`, i, i+1, i+1)
	}
	tree += `{{ define "t40" }}{{ end }}`
	compares := `{{ $a := printf "%4096s" "x" }}` + strings.Repeat(`{{ $a = print $a $a }}`, 6) + strings.Repeat(`{{ if eq $a $a }}{{ end }}`, 4500)
	tests := map[string]string{
		"range over a literal":        `{{range 100000000}}{{end}}`,
		"range over a variable":       `{{ $x := 100000000 }}{{range $x}}{{end}}`,
		"range over a result":         `{{range (len .Secrets)}}{{end}}`,
		"range over a piped result":   `{{range .Secrets.key.Size | print}}{{end}}`,
		"range over a number field":   `{{range .Secrets.big.Size}}{{end}}`,
		"range over a hidden number":  `{{with .Secrets.big}}{{range .Size}}{{end}}{{end}}`,
		"range over $x.Size":          `{{$x := .Secrets.big}}{{range $x.Size}}x{{end}}`,
		"range over (…).Size":         `{{range (index .Secrets "big").Size}}{{end}}`,
		"range three deep":            `{{range .Secrets}}{{range .Public}}{{range .Foo}}{{end}}{{end}}{{end}}`,
		"recursion":                   `{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}`,
		"recursion around a corner":   `{{define "a"}}{{template "b"}}{{end}}{{define "b"}}{{template "a"}}{{end}}`,
		"recursion of a block":        `{{block "a" .}}{{template "a" .}}{{end}}`,
		"doubling calls":              tree,
		"doubling strings":            doubling,
		"width":                       `{{printf "%5000s" "x"}}`,
		"width with zeros":            `{{printf "%0000005000d" 1}}`,
		"precision":                   `{{printf "%.9999999f" 1.0}}`,
		"width from an argument":      `{{printf "%*s" 1000000 "x"}}`,
		"indexed width":               `{{printf "%[1]*[2]s" 1000000 "x"}}`,
		"width in a variable":         `{{$f := print "%99" "9999d"}}{{printf $f 1}}`,
		"width of each byte":          `{{printf "%4096d" .Secrets.large.Public}}`,
		"one argument many times":     `{{$f := "` + strings.Repeat("%[1]v", 1000) + `"}}{{printf $f .Secrets.large.Public}}`,
		"huge output":                 `{{range .Secrets.large.Public}}` + strings.Repeat("x", 100) + `{{end}}`,
		"huge value":                  `{{ . }}{{ . }}{{ . }}{{ . }}`,
		"nested loops":                `{{range .Secrets.large.Public}}{{range $.Secrets.large.Public}}{{end}}{{end}}`,
		"escaping":                    `{{$a := raw .Secrets.large}}` + strings.Repeat(`{{$a = js $a}}`, 20),
		"compares":                    compares,
		"deep parentheses":            `{{` + strings.Repeat("(", 30000) + `1` + strings.Repeat(")", 30000) + `}}`,
		"deep ifs":                    strings.Repeat(`{{if true}}`, 10001) + strings.Repeat(`{{end}}`, 10001),
		"many arguments":              `{{print ` + strings.Repeat("1 ", 40000) + `}}`,
		"many arguments after quotes": `{{/* " */}}{{print "}}" ` + strings.Repeat("1 ", 40000) + `}}`,
		"many nodes":                  strings.Repeat(`{{print 1 2 3}}`, 4000),
		"call":                        `{{call .Secrets.key}}`,
	}
	d := data(t)
	d.Secrets["big"] = template.Secret{Type: "symmetric-key", Size: 1 << 62, UserDefined: true}
	d.Secrets["large"] = template.Secret{Type: "plain", Public: bytes.Repeat([]byte("<"), 200_000)}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			tmpl, err := template.Compile("entry", text, template.File)
			if err == nil {
				var out []byte
				if out, err = tmpl.Execute(d); err == nil {
					t.Fatalf("accepted, %d bytes of output", len(out))
				}
			}
			if len(err.Error()) > 32<<10 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			t.Log(err.Error()[:min(200, len(err.Error()))])
		})
	}
}

func TestSharedBudget(t *testing.T) {
	tmpl, err := template.Compile("e", `{{ range .Secrets }}{{ .Type }}{{ end }}`, template.File)
	if err != nil {
		t.Fatal(err)
	}
	budget := template.NewBudget(20_000)
	n := 0
	for ; !budget.Exhausted() && n < 1000; n++ {
		_, err = tmpl.ExecuteWithin(budget, data(t))
	}
	if err == nil || n == 1 || n == 1000 {
		t.Errorf("%d executions from one budget, then %v", n, err)
	}
}

func TestReferences(t *testing.T) {
	type refs struct {
		Secrets, Previous []string
		All               bool
	}
	tests := map[string]refs{
		`{{ hex .Secrets.b }}{{ hex .Secrets.a.Private }}{{ hex .Secrets.b }}`:     {Secrets: []string{"a", "b"}},
		`{{ hex .Previous.Secrets.a }}{{ hex $.Secrets.c }}`:                       {Secrets: []string{"c"}, Previous: []string{"a"}},
		`{{ hex (index .Secrets "x-y") }}`:                                         {Secrets: []string{"x-y"}},
		`{{ (index $.Previous.Secrets "x-y").Type }}`:                              {Previous: []string{"x-y"}},
		`{{ with .Secrets.a }}{{ hex .Private }}{{ hex $.Secrets.b }}{{ end }}`:    {Secrets: []string{"a", "b"}},
		`{{ pem .MarbleRun.RootCA.Cert }}`:                                         {},
		`{{ range .Secrets }}{{ .Type }}{{ end }}`:                                 {All: true},
		`{{ $s := .Secrets }}{{ hex $s.a }}`:                                       {All: true},
		`{{ hex (index .Secrets .Secrets.a.Type) }}`:                               {Secrets: []string{"a"}, All: true},
		`{{ (.Secrets).a.Type }}`:                                                  {All: true},
		`{{ with . }}{{ hex .Secrets.a }}{{ end }}`:                                {All: true},
		`{{ with $ }}{{ hex .Secrets.a }}{{ end }}`:                                {All: true},
		`{{ with .Previous }}{{ .Secrets.a.Type }}{{ end }}`:                       {All: true},
		`{{ define "x" }}{{ hex .a }}{{ end }}{{ template "x" .Secrets }}`:         {All: true},
		`{{ define "x" }}{{ hex $.Public }}{{ end }}{{ template "x" .Secrets.a }}`: {Secrets: []string{"a"}},
		`text`: {},
	}
	for text, want := range tests {
		tmpl, err := template.Compile("e", text, template.File)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got refs
		got.Secrets, got.Previous, got.All = tmpl.References()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tmpl, err := template.Compile("e", `{{ range .Secrets }}{{ .Type }} {{ end }}{{ printf "%x" .Secrets.key.Private }}`, template.File)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tmpl.Execute(data(t))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if got, err := tmpl.Execute(data(t)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

// FuzzTemplate: no panic, bounded output, no secret in errors.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{
		`{{ hex .Secrets.key }}`, `{{ range $k, $v := .Secrets }}{{ $k }}{{ printf "%08x" $v.Private }}{{ end }}`,
		`{{ define "a" }}{{ . }}{{ end }}{{ template "a" .Secrets.cert.Cert }}`, `{{ index .Secrets "my-cert" | hex }}`,
		`{{ with $x := .Secrets.token }}{{ len $x.Public }}{{ else }}{{ end }}`, `{{- /* c */ -}}{{ "\"}}" }}`,
		`{{ if and (eq .Secrets.key.Size 32) (not false) }}{{ slice "abc" 1 }}{{ else if 1 }}{{ end }}`,
		`{{ printf "%[1]5.3v|%+q|%%" .Secrets.cert.Cert.Subject }}`, `{{ range .Secrets.key.Public }}{{ continue }}{{ end }}`,
	} {
		f.Add(text, true)
		f.Add(text, false)
	}
	d := data(f)
	f.Fuzz(func(t *testing.T, text string, env bool) {
		kind := template.File
		if env {
			kind = template.Env
		}
		tmpl, err := template.Compile("e", text, kind)
		if err != nil {
			return
		}
		out, err := tmpl.Execute(d)
		if len(out) > template.MaxOutput && strings.Contains(text, "{{") {
			t.Errorf("%d bytes of output", len(out))
		}
		if err != nil && strings.Contains(err.Error(), secretText) && !strings.Contains(text, secretText) {
			t.Errorf("secret in error: %v", err)
		}
	})
}
