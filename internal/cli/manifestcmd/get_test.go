// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestConsolidate(t *testing.T) {
	const raise = `{"package":"p","new version":7}`
	tests := map[string]struct {
		manifest, want string
		log            []string
	}{
		"no SecurityVersion before": {`{"Packages":{"p":{}}}`, `{"Packages":{"p":{"SecurityVersion":7}}}`, []string{raise}},
		"any case": {`{"packages":{"p":{"securityversion":1}}}`, `{"packages":{"p":{"SecurityVersion":7}}}`,
			[]string{raise}},
		"the last counts": {`{"Packages":{"p":{"SecurityVersion":1}}}`, `{"Packages":{"p":{"SecurityVersion":8}}}`,
			[]string{raise, `{"package":"p","new version":8}`}},
		"undone": {`{"Packages":{"p":{"SecurityVersion":1}}}`, `{"Packages":{"p":{"SecurityVersion":1}}}`,
			[]string{raise, `{"update":"Complete Manifest updated"}`}},
		"large numbers survive": {`{"a":18446744073709551615}`, `{"a":18446744073709551615}`, nil},
		"empty goes":            {`{"a":{},"b":{"c":null,"d":{}},"e":[],"f":""}`, `{"e":[],"f":""}`, nil},
		"other lines":           {`{"a":1}`, `{"a":1}`, []string{`{"update":"Initial manifest set"}`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := consolidate([]byte(test.manifest), test.log)
			if err != nil {
				t.Fatal(err)
			}
			var got, want json.RawMessage
			if got, err = compact(out); err != nil {
				t.Fatal(err)
			}
			want = json.RawMessage(test.want)
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, log := range map[string][]string{
		"unknown package": {`{"package":"q","new version":7}`}, "no JSON": {"x"},
	} {
		if _, err := consolidate([]byte(`{"Packages":{"p":{}}}`), log); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// compact keeps numbers as they are.
func compact(data []byte) (json.RawMessage, error) {
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err != nil {
		return nil, err
	}
	return json.Marshal(raw)
}

func FuzzConsolidate(f *testing.F) {
	f.Add([]byte(`{"Packages":{"p":{"SecurityVersion":1}}}`), `{"package":"p","new version":7}`)
	f.Add([]byte(`{"Packages":[]}`), `{"package":"p","new version":"7"}`)
	f.Add([]byte(`null`), `{"update":"Complete Manifest updated"}`)
	f.Fuzz(func(t *testing.T, manifest []byte, line string) {
		out, err := consolidate(manifest, []string{line})
		if err == nil && !json.Valid(out) {
			t.Errorf("no JSON: %q", out)
		}
	})
}
