// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package yaml_test

import (
	"testing"

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
