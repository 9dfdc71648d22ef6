// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package secrets

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest"
)

const affectedManifest = `{"Packages":{"p":{"Debug":true}},
"Marbles":{
 "one":{"Package":"p","Parameters":{
   "Env":{"A":"{{ string .Secrets.a }}","B":"{{ string .Secrets.b }}","LITERAL":"x",
          "RAW":{"Data":"{{ string .Secrets.a }}","NoTemplates":true,"Encoding":"string"}},
   "Files":{"/ab":"{{ hex .Secrets.a }}{{ hex .Secrets.b }}","/before":"{{ hex .Previous.Secrets.a }}","/none":"{{ pem .MarbleRun.RootCA.Cert }}"}}},
 "two":{"Package":"p","Parameters":{"Env":{"C":"{{ string .Secrets.c }}"}}}EVERYWHERE},
"Secrets":{"a":{"Type":"plain","UserDefined":true},"b":{"Type":"plain","UserDefined":true},
 "c":{"Type":"plain","UserDefined":true},"d":{"Type":"plain","UserDefined":true}}}`

// What is executed for a written secret, and what that needs.
func TestAffected(t *testing.T) {
	everywhere := `,"all":{"Package":"p","Parameters":{"Files":{"/all":"{{ range .Secrets }}{{ hex .Private }}{{ end }}"}}}`
	for name, tt := range map[string]struct {
		everywhere string
		written    []string
		entries    []string
		secrets    []string
	}{
		"in several":  {"", []string{"a"}, []string{"one A", "one /ab", "one /before"}, []string{"a", "b"}},
		"in one":      {"", []string{"c"}, []string{"two C"}, []string{"c"}},
		"in none":     {"", []string{"d", "unknown"}, nil, nil},
		"two at once": {"", []string{"a", "b"}, []string{"one A", "one B", "one /ab", "one /before"}, []string{"a", "b"}},
		"everywhere":  {everywhere, []string{"d"}, []string{"all /all"}, []string{"a", "b", "c", "d"}},
		"and in one":  {everywhere, []string{"c"}, []string{"all /all", "two C"}, []string{"a", "b", "c", "d"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := parse(t, strings.Replace(affectedManifest, "EVERYWHERE", tt.everywhere, 1))
			c, err := Compile(m)
			if err != nil {
				t.Fatal(err)
			}
			definitions := maps.Clone(m.Secrets)
			part := c.Affected(m, tt.written)
			var entries []string
			for marble, def := range part.Marbles {
				for _, values := range []map[string]manifest.Value{def.Parameters.Env, def.Parameters.Files} {
					for entry := range values {
						entries = append(entries, marble+" "+entry)
					}
				}
			}
			slices.Sort(entries)
			slices.Sort(tt.entries)
			if d := cmp.Diff(tt.entries, entries); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(tt.secrets, slices.Sorted(maps.Keys(part.Secrets))); d != "" {
				t.Error(d)
			}
			if len(definitions) != len(m.Secrets) {
				t.Error("the manifest itself was changed")
			}
		})
	}
}

// A dry run of the part finds what one of the whole finds.
func TestAffectedFindsTheSame(t *testing.T) {
	m := parse(t, strings.Replace(affectedManifest, "EVERYWHERE", "", 1))
	c, err := Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Secrets)) {
		view, err := TemplateSecrets(map[string]Value{name: {Type: "plain", UserDefined: true, Private: []byte("\x00"),
			Public: []byte("\x00")}})
		if err != nil {
			t.Fatal(err)
		}
		whole := m.DryRun(t.Context(), view)
		if d := cmp.Diff(whole, c.Affected(m, []string{name}).DryRun(t.Context(), view)); d != "" {
			t.Errorf("%s (-whole +part):\n%s", name, d)
		}
		if (len(whole) == 0) != (name == "d") {
			t.Errorf("%s: %v: the test shows nothing", name, whole)
		}
	}
}
