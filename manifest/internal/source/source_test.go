// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/manifest/internal/source"
)

type leafs struct {
	S    string
	U    uint
	B    bool
	Data []byte
	At   time.Time
	N    *uint16
	Any  any
}

type special struct{ text string }

func (s *special) UnmarshalJSON(raw []byte) error {
	s.text = string(raw)
	return nil
}

type document struct {
	Map   map[string]leafs
	List  []leafs
	Texts []string
	Own   special
}

func schema() source.Schema {
	return source.Schema{
		MaxKey:    100,
		MaxValues: 200,
		Objects:   map[reflect.Type]reflect.Type{reflect.TypeFor[special](): reflect.TypeFor[leafs]()},
		Ignored:   map[reflect.Type][]string{reflect.TypeFor[leafs](): {"Old"}},
	}
}

func TestInspectFindsEveryFault(t *testing.T) {
	const doc = `{
  "map": {"a": {"S": 1, "u": -1, "B": "x", "Data": "%", "At": "soon", "N": 70000, "Any": [{}], "old": 1}},
  "LIST": [{"S": "ok"}, {"T": {"deep": ["}"]}}, 5],
  "Texts": ["a", null, 3],
  "Own": {"U": "three"},
  "wrong": 1
}`
	var got []string
	for _, f := range source.Inspect([]byte(doc), reflect.TypeFor[document](), schema(), 100) {
		text := f.Text
		if f.Unknown {
			text = "unknown " + f.Name
		}
		got = append(got, f.Path+": "+text)
	}
	want := []string{
		`$.Map["a"].S: must be a string, is the number 1`,
		`$.Map["a"].U: must be a non-negative whole number of 64 bits, is the number -1`,
		`$.Map["a"].B: must be true or false, is a string`,
		`$.Map["a"].Data: illegal base64 data at input byte 0`,
		`$.Map["a"].At: parsing time "soon" as "2006-01-02T15:04:05Z07:00": cannot parse "soon" as "2006"`,
		`$.Map["a"].N: must be a non-negative whole number of 16 bits, is the number 70000`,
		`$.List[1]: unknown T`,
		`$.List[2]: must be an object, is the number 5`,
		`$.Texts[2]: must be a string, is the number 3`,
		`$.Own.U: must be a non-negative whole number of 64 bits, is a string`,
		`$: unknown wrong`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInspectStopsAtTheLimit(t *testing.T) {
	doc := `{"List":[` + strings.TrimSuffix(strings.Repeat("1,", 100), ",") + `]}`
	if got := len(source.Inspect([]byte(doc), reflect.TypeFor[document](), schema(), 7)); got != 7 {
		t.Errorf("%d faults, want 7", got)
	}
}

func TestInspectStopsAtTooManyValues(t *testing.T) {
	doc := `{"List":[` + strings.Repeat("{},", 198) + `{}], "U": 1, "Map": 5}`
	faults := source.Inspect([]byte(doc), reflect.TypeFor[document](), schema(), 10)
	if len(faults) != 1 || !strings.Contains(faults[0].Text, "more than 200") {
		t.Errorf("%v", faults)
	}
	doc = `{"List":[` + strings.Repeat("{},", 198) + `{}]}`
	if faults := source.Inspect([]byte(doc), reflect.TypeFor[document](), schema(), 10); len(faults) != 0 {
		t.Errorf("200 values: %v", faults)
	}
}

func TestLocate(t *testing.T) {
	const doc = "{\n  \"Map\": {\"a\\\"b\": {\"S\": \"x\"},\n \"a.b[\\\"\": {}},\n\t\"list\": [{}, {\"U\": 1}],\n \"Map\": {\"late\": {\"s\": 1}}}"
	paths := map[string]string{ // path → "line:column"
		"$":                      "1:1",
		`$.Map["a\"b"].S`:        "2:25",
		`$.Map["a.b[\""]`:        "3:12",
		`$.Map["late"].S`:        "5:24",
		`$.List[1].U`:            "4:21",
		`$.List[1].S`:            "4:15", // absent: the nearest above
		`$.List[7].S`:            "4:10",
		`$.Config.SealMode`:      "1:1",
		`$.Map["nowhere"].S.T.U`: "5:9",
	}
	var names []string
	for p := range paths {
		names = append(names, p)
	}
	offsets := source.Locate([]byte(doc), reflect.TypeFor[document](), schema(), names)
	lines := source.NewLines([]byte(doc))
	for p, want := range paths {
		line, column := lines.Position(offsets[p])
		if got := strings.Join([]string{itoa(line), itoa(column)}, ":"); got != want {
			t.Errorf("%s is at %s, want %s", p, got, want)
		}
	}
}

func itoa(n int) string {
	raw, _ := json.Marshal(n)
	return string(raw)
}

func FuzzWalk(f *testing.F) {
	f.Add([]byte(`{"Map":{"a":{"S":"x","U":[1,{"}":"\""}]}},"List":[null,{}]}`))
	f.Add([]byte(" \n[1, 2] "))
	f.Add([]byte(`"\u0000"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !json.Valid(data) {
			t.Skip()
		}
		typ := reflect.TypeFor[document]()
		faults := source.Inspect(data, typ, schema(), 50)
		lines := source.NewLines(data)
		paths := []string{"$.Map", `$.List[0].S`}
		for _, fault := range faults {
			lines.Position(fault.Offset)
			paths = append(paths, fault.Path)
		}
		source.Locate(data, typ, schema(), paths)

		wrong := false
		for _, fault := range faults {
			wrong = wrong || !fault.Unknown
		}
		var doc document
		if err := json.Unmarshal(data, &doc); err != nil != wrong && len(data) <= 100 {
			t.Errorf("encoding/json says %v, the walk found %v", err, faults)
		}
	})
}
