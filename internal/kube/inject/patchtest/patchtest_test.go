// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package patchtest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Examples of RFC 6902, appendix A.
func TestApply(t *testing.T) {
	for _, c := range []struct{ name, document, patch, want string }{
		{"A.1", `{"foo":"bar"}`, `[{"op":"add","path":"/baz","value":"qux"}]`, `{"baz":"qux","foo":"bar"}`},
		{"A.2", `{"foo":["bar","baz"]}`, `[{"op":"add","path":"/foo/1","value":"qux"}]`, `{"foo":["bar","qux","baz"]}`},
		{"A.3", `{"baz":"qux","foo":"bar"}`, `[{"op":"remove","path":"/baz"}]`, `{"foo":"bar"}`},
		{"A.4", `{"foo":["bar","qux","baz"]}`, `[{"op":"remove","path":"/foo/1"}]`, `{"foo":["bar","baz"]}`},
		{"A.5", `{"baz":"qux","foo":"bar"}`, `[{"op":"replace","path":"/baz","value":"boo"}]`, `{"baz":"boo","foo":"bar"}`},
		{"A.8", `{"baz":"qux"}`, `[{"op":"test","path":"/baz","value":"qux"}]`, `{"baz":"qux"}`},
		{"A.9", `{"baz":"qux"}`, `[{"op":"test","path":"/baz","value":"bar"}]`, ""},
		{"A.10", `{"foo":"bar"}`, `[{"op":"add","path":"/child","value":{"grandchild":{}}}]`,
			`{"child":{"grandchild":{}},"foo":"bar"}`},
		{"A.12", `{"foo":"bar"}`, `[{"op":"add","path":"/baz/bat","value":"qux"}]`, ""},
		{"A.14", `{"/":9,"~1":10}`, `[{"op":"test","path":"/~01","value":10}]`, `{"/":9,"~1":10}`},
		{"A.16", `{"foo":["bar"]}`, `[{"op":"add","path":"/foo/-","value":["abc","def"]}]`, `{"foo":["bar",["abc","def"]]}`},
		{"beyond the end", `{"foo":[1]}`, `[{"op":"add","path":"/foo/2","value":1}]`, ""},
		{"into null", `{"foo":null}`, `[{"op":"add","path":"/foo/-","value":1}]`, ""},
		{"replace nothing", `{}`, `[{"op":"replace","path":"/foo","value":1}]`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Apply([]byte(c.document), []byte(c.patch))
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("error %v, diff:\n%s", err, diff)
			}
			if (err != nil) != (c.want == "") {
				t.Errorf("error %v", err)
			}
		})
	}
}
