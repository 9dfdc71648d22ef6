// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestSubset: what is read must be JSON, and the listed JSON is refused.
func TestSubset(t *testing.T) {
	for doc, want := range map[string]bool{
		`{}`: true, `[]`: true, ` { "a" : [ 1 , true , null , "x\u00e4\ud83d\ude00" , {} ] } `: true, `"x"`: true,
		`-1.5e+7`: true, `{"a":1,"b":1}`: true,
		``: false, `{`: false, `[1`: false, `[1,]`: false, `[,1]`: false, `{"a"}`: false, `{"a":}`: false, `{"a":1,}`: false,
		`{a:1}`: false, `"x`: false, `"x\`: false, `"\q"`: false, "\"\n\"": false, "\"\xff\"": false, `01`: false,
		`+1`:  false,
		`tru`: false, `{} {}`: false, `{}x`: false, `{"a":1,"a":2}`: false, `{"a":1,"\u0061":2}`: false,
		strings.Repeat("[", 16) + strings.Repeat("]", 16): true,
		strings.Repeat("[", 17) + strings.Repeat("]", 17): false,
	} {
		r := New([]byte(doc))
		r.Skip()
		err := r.End()
		if (err == nil) != want {
			t.Errorf("%s: %v", doc, err)
		}
		if want && !json.Valid([]byte(doc)) {
			t.Errorf("%s: not even JSON", doc)
		}
	}
	var wide strings.Builder
	for i := range 65 {
		wide.WriteString(`,"` + strings.Repeat("x", i+1) + `":1`)
	}
	r := New([]byte("{" + wide.String()[1:] + "}"))
	if r.Skip(); r.End() == nil {
		t.Error("65 members accepted")
	}
}

func TestValues(t *testing.T) {
	r := New([]byte(`["a\"b", 4294967295, 7, "00fF", "2025-06-06T14:30:41+02:00", {"k":[1, 2]}]`))
	var text string
	var n, m uint32
	var bytes [2]byte
	var when time.Time
	var raw []byte
	i := 0
	r.Array(func() {
		switch i {
		case 0:
			text = r.Text()
		case 1:
			n = r.Uint(1<<32 - 1)
		case 2:
			m = r.Uint(7)
		case 3:
			r.Hex(bytes[:])
		case 4:
			when = r.Time()
		case 5:
			raw = r.Raw()
		}
		i++
	})
	if err := r.End(); err != nil {
		t.Fatal(err)
	}
	if text != `a"b` || n != 1<<32-1 || m != 7 || bytes != [2]byte{0, 0xff} || string(raw) != `{"k":[1, 2]}` ||
		!when.Equal(time.Date(2025, 6, 6, 12, 30, 41, 0, time.UTC)) {
		t.Error(text, n, m, bytes, when, string(raw))
	}
}

func TestValueErrors(t *testing.T) {
	for doc, read := range map[string]func(*Reader){
		`8`:                    func(r *Reader) { r.Uint(7) },
		`99999999999999999999`: func(r *Reader) { r.Uint(1<<32 - 1) },
		`1.0`:                  func(r *Reader) { r.Uint(7) },
		`-1`:                   func(r *Reader) { r.Uint(7) },
		`007`:                  func(r *Reader) { r.Uint(7) },
		`"7"`:                  func(r *Reader) { r.Uint(7) },
		`"0g"`:                 func(r *Reader) { r.Hex(make([]byte, 1)) },
		`"000"`:                func(r *Reader) { r.Hex(make([]byte, 1)) },
		`"2025-06-06"`:         func(r *Reader) { r.Time() },
		`null`:                 func(r *Reader) { r.Text() },
		`{"a":1}`:              func(r *Reader) { r.Object(func([]byte) {}) },
		`[1]`:                  func(r *Reader) { r.Array(func() {}) },
	} {
		r := New([]byte(doc))
		if read(r); r.End() == nil {
			t.Errorf("%s: accepted", doc)
		}
	}
}

// FuzzSkip: whatever is accepted is JSON for encoding/json too, and means the same.
func FuzzSkip(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e3,true,false,null,"x\u00e4"],"b":{}}`))
	f.Add([]byte(`"\ud83d\ude00"`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := New(data)
		raw := r.Raw()
		if r.End() != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q accepted but is not JSON", data)
		}
		var want string
		if json.Unmarshal(data, &want) == nil && raw[0] == '"' {
			if got := New(data).Text(); got != want {
				t.Errorf("%q: got %q, want %q", data, got, want)
			}
		}
	})
}
