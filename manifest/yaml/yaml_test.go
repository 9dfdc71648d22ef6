// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package yaml_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest/yaml"
)

// TestToJSON is "Manifest file loading" of contract cli §3.
func TestToJSON(t *testing.T) {
	tests := map[string]struct {
		in, want string
		fails    bool
	}{
		"JSON as it is":    {in: " {\"b\": 1,\n\"a\": 1, \"a\": 2}\n", want: " {\"b\": 1,\n\"a\": 1, \"a\": 2}\n"},
		"sorted keys":      {in: "b: 1\na:\n  d: [x, 2]\n  c: null\n", want: `{"a":{"c":null,"d":["x",2]},"b":1}`},
		"large numbers":    {in: "a: 18446744073709551615\n", want: `{"a":18446744073709551615}`},
		"comments":         {in: "# c\na: 1 # d\n", want: `{"a":1}`},
		"JSON and comment": {in: "{\"b\": 1, \"a\": 2} # c\n", want: `{"a":2,"b":1}`},
		"block text":       {in: "a: |\n  -----BEGIN\n  x\n", want: `{"a":"-----BEGIN\nx\n"}`},
		"quoted numbers":   {in: "Port: \"443\"\n", want: `{"Port":"443"}`},
		"templates":        {in: "A: '{{ hex .Secrets.k }}'\n", want: `{"A":"{{ hex .Secrets.k }}"}`},
		"duplicate keys":   {in: "a: 1\na: 2\n", fails: true},
		"neither":          {in: "a: [1\n", fails: true},
		"broken JSON":      {in: `{"a": `, fails: true},
		"one document":     {in: "%YAML 1.1\n---\na: 1\n...\n---\n# nothing\n", want: `{"a":1}`},
		"two documents":    {in: "a: 1\n---\nb: 2\n", fails: true},
		"JSON twice":       {in: `{"a": 1} {"b": 2}`, fails: true},
		"JSON and rubbish": {in: `{"a": 1}x`, fails: true},
		"nothing":          {in: "# nothing\n", want: "null"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := yaml.ToJSON([]byte(tc.in))
			if tc.fails != (err != nil) || string(got) != tc.want {
				t.Errorf("%q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

func flaw(line, column int, advice string) *yaml.SyntaxError {
	return &yaml.SyntaxError{Line: line, Column: column, Advice: advice}
}

func TestFlaw(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want *yaml.SyntaxError
	}{
		"JSON":            {in: `{"a": 1}`},
		"plain YAML":      {in: "a: 1\n"},
		"missing comma":   {"{\n  \"a\": 1\n  \"b\": 2\n}", flaw(3, 3, "Is a comma missing before it?")},
		"comma too many":  {"{\"a\": 1,\n}", flaw(2, 1, "Is there a comma too many before it?")},
		"missing colon":   {` {"a" 1}`, flaw(1, 7, "Is a colon missing before it?")},
		"flow mapping":    {"{a: 1}", flaw(1, 2, "")},
		"list not closed": {`{"a": [1,`, flaw(1, 9, "The file is cut off, or a brace or bracket is not closed.")},
	} {
		got := yaml.Flaw([]byte(tc.in))
		if got != nil {
			got.Text = ""
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	var found *yaml.SyntaxError
	if _, err := yaml.ToJSON([]byte("{\"a\": 1\n\"b\": 2}")); !errors.As(err, &found) || found.Line != 2 {
		t.Errorf("missing comma: %v", err)
	}
	if _, err := yaml.ToJSON([]byte("{a: 1, a: 2}")); err == nil || errors.As(err, &found) {
		t.Errorf("key twice: %v", err)
	}
}

func FuzzToJSON(f *testing.F) {
	f.Add([]byte("a: &x [1]\nb: *x\n"))
	f.Add([]byte(`{"a":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := yaml.ToJSON(data)
		if err != nil {
			return
		}
		again, err := yaml.ToJSON(out)
		if err != nil || string(again) != string(out) {
			t.Errorf("converted twice: %q, %v", again, err)
		}
	})
}
