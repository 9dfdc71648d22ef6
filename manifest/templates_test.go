// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest"
)

func TestReferencedSecrets(t *testing.T) {
	doc := edit(t, complete(t),
		"Marbles|web|Parameters|Files", `{"a":"{{ hex .Previous.Secrets.dbKey }}","b":{"Data":"{{ .Secrets }}","NoTemplates":true}}`,
		"Marbles|all", `{"Package":"backend","Parameters":{"Env":{"A":"{{ range .Secrets }}{{ .Type }}{{ end }}"}}}`,
		"Marbles|broken", `{"Package":"backend","TLS":["no"],"Parameters":{"Env":{"A":"{{ x","B":"{{ hex .Secrets.nope }}"}}}`)
	m := parse(t, doc)
	type refs struct{ Current, Previous []string }
	every := []string{"apiToken", "dbCert", "dbKey"}
	for marble, want := range map[string]refs{
		"db":     {Current: every}, // dbCert by template and TLS tag
		"web":    {Previous: []string{"dbKey"}},
		"all":    {Current: every, Previous: every},
		"broken": {},
		"none":   {},
	} {
		var got refs
		got.Current, got.Previous = m.ReferencedSecrets(marble)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", marble, diff)
		}
	}
}

func TestReferencedByTLS(t *testing.T) {
	m := parse(t, edit(t, complete(t), "Marbles|web|TLS", `["dbTag"]`))
	if current, _ := m.ReferencedSecrets("web"); !cmp.Equal(current, []string{"dbCert"}) {
		t.Errorf("%v", current)
	}
}

func TestDryRunUsesRealValues(t *testing.T) {
	doc := edit(t, complete(t),
		"Marbles|db|Parameters|Env|TOKEN", `"{{ string .Secrets.apiToken }}"`,
		"Marbles|db|Parameters|Env|CA", `"{{ if eq .Secrets.dbCert.Cert.Subject.CommonName \"placeholder\" }}{{ hex .Secrets.dbKey.Cert }}{{ end }}"`)
	m := parse(t, doc)
	if found := m.DryRun(t.Context(), nil); len(found) != 1 || found[0].Path != `$.Marbles["db"].Parameters.Env["CA"]` {
		t.Errorf("placeholders: %v", found)
	}
	real := map[string]manifest.TemplateSecret{
		"dbCert":   {Type: "cert-ecdsa", Cert: manifest.Certificate{Raw: []byte("x")}},
		"apiToken": {Type: "plain", UserDefined: true}, // empty: a placeholder stands for it
	}
	if found := m.DryRun(t.Context(), real); len(found) > 0 {
		t.Errorf("real values: %v", found)
	}
	const secret = "TOP\x00SECRET"
	real["apiToken"] = manifest.TemplateSecret{Type: "plain", UserDefined: true, Public: []byte(secret), Private: []byte(secret)}
	err := m.DryRun(t.Context(), real).Err()
	if err == nil || !strings.Contains(err.Error(), "NUL") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("a NUL in an uploaded value: %v", err)
	}
}

func TestDryRunChecksNULWithoutCheck(t *testing.T) {
	m := parse(t, `{"Marbles":{"m":{"Parameters":{"Env":{"A":{"Data":"00","Encoding":"hex","NoTemplates":true}}}}}}`)
	if err := m.DryRun(t.Context(), nil).Err(); err == nil || !strings.Contains(err.Error(), "NUL") {
		t.Errorf("%v", err)
	}
}

func TestCompileTemplate(t *testing.T) {
	tmpl, err := manifest.CompileTemplate("e", `{{ string .Secrets.s }}`, manifest.EnvTemplate)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Execute(&manifest.TemplateData{Secrets: map[string]manifest.TemplateSecret{
		"s": {Type: manifest.TypePlain, Public: manifest.PublicKey("x")}}})
	if err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestBareSecrets: what prints a secret as Go would is warned of.
func TestBareSecrets(t *testing.T) {
	for text, want := range map[string]string{
		"{{ .Secrets.dbKey }}":                             "the template prints .Secrets.dbKey without a function",
		"a\n{{ $.Secrets.dbCert.Private }}":                "at 2:5",
		"{{ if true }}{{ .Secrets.dbCert.Cert }}{{ end }}": ".Secrets.dbCert.Cert",
		"{{ .MarbleRun.RootCA }}":                          ".MarbleRun.RootCA",
		"{{ hex .Secrets.dbKey }}":                         "",
		"{{ .Secrets.dbKey | base64 }}":                    "",
		"{{ $x := .Secrets.dbKey }}{{ hex $x }}":           "",
		"{{ .Secrets.dbKey.Type }}":                        "",
		"{{ .Secrets.dbCert.Cert.NotAfter }}":              "",
	} {
		encoded, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		doc := edit(t, complete(t), "Marbles|web|Parameters|Files", `{"bare":`+string(encoded)+`}`)
		var got string
		for _, p := range manifest.Check([]byte(doc), parse(t, doc), nil) {
			if strings.HasSuffix(p.Path, `["bare"]`) {
				got += p.String()
			}
		}
		if want == "" && got != "" || !strings.Contains(got, want) || want != "" && !strings.HasPrefix(got, "warning") {
			t.Errorf("%s: %q", text, got)
		}
	}
}
