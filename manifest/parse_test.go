// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/marblerun/marblerun/manifest"
)

// TestParseForm is contract manifest §1.
func TestParseForm(t *testing.T) {
	tests := map[string]struct {
		doc  string
		want string // in the error; "" = accepted
	}{
		"object":              {`{}`, ""},
		"null":                {`null`, ""},
		"space around":        {" \n{}\t\r\n", ""},
		"byte order mark":     {"\xef\xbb\xbf{}", "remove the byte order mark"},
		"trailing data":       {`{} {}`, "one JSON object and nothing else"},
		"trailing comma":      {`{"Packages":{},}`, "column 16"},
		"comment":             {"{} // x", "one JSON object"},
		"empty":               {"", "empty"},
		"only space":          {" \n", "empty"},
		"cut off":             {`{"Packages":`, "cut off"},
		"list":                {`[]`, "must be an object, is a list"},
		"text":                {`"x"`, "must be an object, is a string"},
		"unknown fields":      {`{"x":{"y":[{}]},"Packages":{"a":{"z":1}}}`, ""},
		"wrong type unknown":  {`{"Config":{"x":[[[[]]]]}}`, ""},
		"null section":        {`{"Packages":null,"Config":null,"Users":{"a":null}}`, ""},
		"null Files entry":    {`{"Marbles":{"m":{"Parameters":{"Files":{"a":null}}}}}`, "must be a string or an object"},
		"null Env entry":      {`{"Marbles":{"m":{"Parameters":{"Env":{"a":null}}}}}`, "must be a string or an object"},
		"null Data":           {`{"Marbles":{"m":{"Parameters":{"Env":{"a":{"Data":null}}}}}}`, ""},
		"negative threshold":  {`{"Config":{"UpdateThreshold":-1}}`, "non-negative"},
		"invalid UTF-8":       {"{\"Packages\":{\"\xff\":{}}}", ""},
		"ten thousand deep":   {`{"x":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`, ""},
		"too deep":            {strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "is not JSON"},
		"a number of 1e6":     {`{"Secrets":{"a":{"Cert":{"SerialNumber":` + strings.Repeat("9", 1e6) + `}}}}`, ""},
		"a name of 1025":      {`{"Marbles":{"` + strings.Repeat("a", 1025) + `":{"Package":1}}}`, "more than 1024 bytes"},
		"a name of 1024":      {`{"Marbles":{"` + strings.Repeat("a", 1024) + `":{}}}`, ""},
		"larger than allowed": {`{"x":"` + strings.Repeat("a", manifest.MaxSize) + `"}`, "are allowed"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := manifest.Parse([]byte(tc.doc))
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("want an error containing %q, got %v", tc.want, err)
			}
		})
	}
}

func TestParseMeaning(t *testing.T) {
	m := parse(t, `{
		"packages": {"a": {"uniqueid": "00", "PRODUCTID": 0}, "b": {"Debug": true}},
		"Packages": {"a": {"SignerID": "11"}},
		"Marbles": {"m": {"Package": "x", "Package": "a", "Parameters": {
			"Files": {"plain": "text", "object": {"data": "{{"}, "hex": {"Data": "00Ff", "Encoding": "HEX", "NoTemplates": true},
			          "base64": {"Data": "AP8=", "Encoding": "base64"}, "named": {"Data": "x", "Encoding": "String"}}}}},
		"Config": {"SealMode": "a", "UpdateThreshold": 1}, "config": {"SealMode": "b"},
		"Infrastructures": {"list": {"CPUSVN": [1, 2]}, "text": {"CPUSVN": "AQI="}}
	}`)
	want := map[string]manifest.Value{
		"plain": {Data: []byte("text")}, "object": {Data: []byte("{{")}, "hex": {Data: []byte{0, 255}, NoTemplates: true},
		"base64": {Data: []byte{0, 255}}, "named": {Data: []byte("x")},
	}
	if diff := cmp.Diff(want, m.Marbles["m"].Parameters.Files); diff != "" {
		t.Error(diff)
	}
	if p := m.Packages["a"]; p.SignerID != "11" || p.UniqueID != "" || p.ProductID != nil || !m.Packages["b"].Debug {
		t.Errorf("repeated sections do not merge entry by entry: %+v", m.Packages)
	}
	if m.Marbles["m"].Package != "a" || m.Config.SealMode != "b" || m.Config.UpdateThreshold != 1 {
		t.Errorf("the last of equal keys does not win: %+v %+v", m.Marbles["m"], m.Config)
	}
	if !bytes.Equal(m.Infrastructures["list"].CPUSVN, m.Infrastructures["text"].CPUSVN) {
		t.Error("bytes as a list and as base64 differ")
	}
}

func TestFingerprint(t *testing.T) {
	const want = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" // printf '{}' | sha256sum
	if got := manifest.Fingerprint([]byte("{}")); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if manifest.Fingerprint([]byte("{}\n")) == want {
		t.Error("a newline does not change the fingerprint")
	}
}

func TestFiftyMistakes(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/check/fifty.txtar")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(problems(t, expand(t, string(archive.Files[0].Data))).Errors()); got != 50 {
		t.Errorf("%d problems, want 50", got)
	}
}

// TestRespelling: how a manifest is written changes its fingerprint, but neither its meaning nor its problems.
func TestRespelling(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/check/fifty.txtar")
	if err != nil {
		t.Fatal(err)
	}
	docs := []string{complete(t), expand(t, string(archive.Files[0].Data))}
	rapid.Check(t, func(r *rapid.T) {
		doc := rapid.SampledFrom(docs).Draw(r, "document")
		var value any
		if err := json.Unmarshal([]byte(doc), &value); err != nil {
			t.Fatal(err)
		}
		again, err := json.MarshalIndent(value, "", strings.Repeat(" ", rapid.IntRange(0, 3).Draw(r, "indent")))
		if err != nil {
			t.Fatal(err)
		}
		if manifest.Fingerprint(again) == manifest.Fingerprint([]byte(doc)) {
			r.Error("the fingerprint is not of the bytes")
		}
		a, b := parse(t, doc), parse(t, string(again))
		if diff := manifest.Diff(a, b); len(diff) > 0 {
			r.Errorf("the meaning differs: %v", diff)
		}
		if diff := cmp.Diff(texts(manifest.Check([]byte(doc), a, nil)), texts(manifest.Check(again, b, nil))); diff != "" {
			r.Error(diff)
		}
	})
}

// texts are the problems without their places.
func texts(problems manifest.Problems) map[string]int {
	out := make(map[string]int)
	for _, p := range problems {
		out[p.Path+p.Text]++
	}
	return out
}

// FuzzParse: no panic, and all stages agree on what a manifest is.
func FuzzParse(f *testing.F) {
	f.Add([]byte(complete(f)))
	entries, err := os.ReadDir("testdata/check")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "dryrun.txtar" {
			continue // exhausts the budget of work, which is slow to mutate
		}
		archive, err := txtar.ParseFile("testdata/check/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(expand(f, string(archive.Files[0].Data))))
	}
	f.Add([]byte(`{"Secrets":{"x":{"Type":"cert-ecdsa","Size":256,"Cert":{"Subject":{"ExtraNames":[{"Type":[2,5],"Value":[{}]}]},` +
		`"PermittedIPRanges":[{"IP":"::1","Mask":"/w=="}],"URIs":[{"Host":"%"}],"Policies":["1.2"],"UnknownExtKeyUsage":[[1]]}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := manifest.Parse(data)
		if err != nil {
			for _, p := range err.(manifest.Problems) {
				if p.Text == "" || p.Warning {
					t.Errorf("a syntax problem says %+v", p)
				}
			}
			return
		}
		var again manifest.Manifest
		if err := json.Unmarshal(data, &again); err != nil {
			t.Errorf("encoding/json refuses it: %v", err)
		}
		found := manifest.Check(data, m, nil)
		if len(found) > 2*manifest.MaxProblems || len(found.Error()) > 64<<10 {
			t.Errorf("%d problems, %d bytes", len(found), len(found.Error()))
		}
		for _, p := range found {
			if p.Line == 0 || p.Text == "" {
				t.Errorf("problem without a place or text: %+v", p)
			}
		}
		if len(found.Errors()) == 0 {
			m.DryRun(t.Context(), nil)
		}
		m.UpdateKind()
		manifest.CheckPackageUpdate(m, m)
		if diff := manifest.Diff(m, &again); len(diff) > 0 {
			t.Errorf("differs from itself: %v", diff)
		}
		for name := range m.Marbles {
			m.ReferencedSecrets(name)
		}
	})
}
