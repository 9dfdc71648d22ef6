// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package source reads a JSON document beside the Go type it will be decoded into, without decoding it.
//
// It answers what encoding/json does not: all values of a wrong type at once, the fields that the type does not know,
// and where in the text the value at a path lies. It follows the rules of encoding/json: field names match ignoring
// case, null is no value, the last of several equal keys wins.
//
// A path begins with $; a field adds .Name (in the type's spelling), a map entry ["key"] (quoted as in Go), a list
// element [3].
//
// The document must be valid JSON. Memory and stack are bounded by the type's depth, not by the document's: values
// that the type does not describe are skipped without recursion.
package source

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Schema says how to read types whose JSON form their Go form does not tell.
type Schema struct {
	// Objects names, for a type with its own UnmarshalJSON, the struct that describes its JSON object.
	Objects map[reflect.Type]reflect.Type
	// Ignored lists field names that belong to a type's language but that its Go form leaves out.
	Ignored map[reflect.Type][]string
	// MaxKey is the longest map key in bytes. The entries of longer ones are a fault and not looked into, so that paths
	// are bounded.
	MaxKey int
	// MaxValues bounds the fields, map entries and list elements of a document, which bounds the memory that decoding it
	// takes. Values that the type does not describe count as one. More is a fault, the last that Inspect returns.
	MaxValues int
}

// Fault is something wrong or odd in the document.
type Fault struct {
	Path   string
	Offset int // of the value in bytes; for an unknown field, of its name
	Text   string
	// Unknown: the object at Path has a field Name that its type lacks; Known are those it has.
	Unknown bool
	Name    string
	Known   []string
}

// Inspect returns the faults of data read as a value of type t, in the order of the text: at most limit wrong values
// and as many unknown fields, and one more if the document has too many values.
func Inspect(data []byte, t reflect.Type, schema Schema, limit int) []Fault {
	w := walker{data: data, schema: schema, inspect: true, limit: limit}
	w.value(t, nil, nil)
	return w.faults
}

// Locate returns the offset in bytes of the value at each path. If there is none it is that of the nearest value
// above it.
func Locate(data []byte, t reflect.Type, schema Schema, paths []string) map[string]int {
	root := &wanted{}
	for _, p := range paths {
		root.add(p)
	}
	w := walker{data: data, schema: schema}
	w.value(t, nil, root)
	offsets := make(map[string]int, len(paths))
	for _, p := range paths {
		offsets[p] = root.offset(p)
	}
	return offsets
}

type walker struct {
	data    []byte
	pos     int
	schema  Schema
	inspect bool // collect faults in the whole document; otherwise visit wanted values only
	limit   int
	faults  []Fault
	unknown int // of the faults
	values  int
	stopped bool // more than MaxValues
}

// crumb is a step of the path to the current value; rendered only when somebody asks.
type crumb struct {
	up  *crumb
	key string
	typ byte // '.' field, '"' map key, '#' list index
	n   int
}

func (c *crumb) segment() string {
	switch c.typ {
	case '.':
		return "." + c.key
	case '"':
		return "[" + strconv.Quote(c.key) + "]"
	default:
		return "[" + strconv.Itoa(c.n) + "]"
	}
}

func (c *crumb) String() string {
	if c == nil {
		return "$"
	}
	return c.up.String() + c.segment()
}

// value reads the value at the current position as a t. want is nil while inspecting.
func (w *walker) value(t reflect.Type, at *crumb, want *wanted) {
	w.space()
	start := w.pos
	if want != nil {
		want.at, want.seen = start, true
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	object, special := w.schema.Objects[t]
	switch kind := w.data[start]; {
	case kind == 'n' && !special:
		w.skip()
	case special && kind == '{':
		before := len(w.faults) - w.unknown
		w.object(object, at, want)
		if len(w.faults)-w.unknown == before && !w.stopped {
			w.leaf(t, start, at)
		}
	case special || decodesItself(t):
		w.skip()
		w.leaf(t, start, at)
	case t.Kind() == reflect.Interface:
		w.skip()
	case t.Kind() == reflect.Struct && kind == '{':
		w.object(t, at, want)
	case t.Kind() == reflect.Map && kind == '{':
		w.entries(t.Elem(), at, want)
	case t.Kind() == reflect.Slice && kind == '[' && t.Elem().Kind() != reflect.Uint8:
		w.list(t.Elem(), at, want)
	default:
		w.skip()
		w.leaf(t, start, at)
	}
}

func decodesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Unmarshaler]()) || p.Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// leaf checks the value between start and the current position by decoding it alone.
func (w *walker) leaf(t reflect.Type, start int, at *crumb) {
	raw := w.data[start:w.pos]
	if !w.inspect || (t.Kind() == reflect.String && raw[0] == '"' && !decodesItself(t)) {
		return
	}
	if err := json.Unmarshal(raw, reflect.New(t).Interface()); err != nil {
		w.fault(Fault{Path: at.String(), Offset: start, Text: describe(err, t, raw)})
	}
}

// object reads a JSON object as the fields of struct t.
func (w *walker) object(t reflect.Type, at *crumb, want *wanted) {
	w.members(func(name string, offset int) {
		f, ok := field(t, name)
		if !ok {
			w.unknownField(t, name, offset, at)
			w.skip()
			return
		}
		w.child(f.Type, &crumb{up: at, key: f.Name, typ: '.'}, want)
	})
}

// entries reads a JSON object as a map with elements of type t.
func (w *walker) entries(t reflect.Type, at *crumb, want *wanted) {
	w.members(func(name string, offset int) {
		if len(name) > w.schema.MaxKey {
			text := fmt.Sprintf("a name has more than %d bytes", w.schema.MaxKey)
			w.fault(Fault{Path: at.String(), Offset: offset, Text: text})
			w.skip()
			return
		}
		w.child(t, &crumb{up: at, key: name, typ: '"'}, want)
	})
}

func (w *walker) list(t reflect.Type, at *crumb, want *wanted) {
	w.pos++
	for n := 0; !w.stopped; n++ {
		if w.space(); w.data[w.pos] == ']' {
			w.pos++
			return
		}
		if w.count(); w.stopped {
			return
		}
		w.child(t, &crumb{up: at, typ: '#', n: n}, want)
		w.comma()
	}
}

// child reads a value below the current one, or skips it if nobody wants to know.
func (w *walker) child(t reflect.Type, at *crumb, want *wanted) {
	if w.inspect {
		w.value(t, at, nil)
		return
	}
	if len(want.below) > 0 {
		if next := want.below[at.segment()]; next != nil {
			w.value(t, at, next)
			return
		}
	}
	w.space()
	w.skip()
}

// members calls each for every member of the object at the current position; each must consume the member's value.
func (w *walker) members(each func(name string, offset int)) {
	w.pos++
	for !w.stopped {
		if w.space(); w.data[w.pos] == '}' {
			w.pos++
			return
		}
		if w.count(); w.stopped {
			return
		}
		offset := w.pos
		name := w.key()
		w.space()
		w.pos++ // the colon
		w.space()
		each(name, offset)
		w.comma()
	}
}

func (w *walker) count() {
	if w.values++; w.inspect && w.values > w.schema.MaxValues {
		w.stopped = true
		text := fmt.Sprintf("the document has more than %d fields and list elements", w.schema.MaxValues)
		w.faults = append(w.faults, Fault{Path: "$", Offset: w.pos, Text: text})
	}
}

func (w *walker) comma() {
	if w.space(); w.data[w.pos] == ',' {
		w.pos++
	}
}

func (w *walker) key() string {
	start := w.pos
	w.skip()
	raw := w.data[start:w.pos]
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain)
	}
	var name string
	_ = json.Unmarshal(raw, &name) // cannot fail: the document is valid JSON and this is a string
	return name
}

func (w *walker) space() {
	for w.pos < len(w.data) && strings.IndexByte(" \t\r\n", w.data[w.pos]) >= 0 {
		w.pos++
	}
}

// skip passes over one value of any kind.
func (w *walker) skip() {
	for depth := 0; ; {
		switch w.data[w.pos] {
		case '"':
			w.skipString()
		case '{', '[':
			depth++
			w.pos++
		case '}', ']':
			depth--
			w.pos++
		case ',', ':', ' ', '\t', '\r', '\n':
			w.pos++
			continue // never the end of a value
		default:
			for w.pos < len(w.data) && strings.IndexByte(",:]} \t\r\n", w.data[w.pos]) < 0 {
				w.pos++
			}
		}
		if depth == 0 {
			return
		}
	}
}

func (w *walker) skipString() {
	for w.pos++; w.data[w.pos] != '"'; w.pos++ {
		if w.data[w.pos] == '\\' {
			w.pos++
		}
	}
	w.pos++
}

func (w *walker) fault(f Fault) {
	if len(w.faults)-w.unknown < w.limit {
		w.faults = append(w.faults, f)
	}
}

func (w *walker) unknownField(t reflect.Type, name string, offset int, at *crumb) {
	if !w.inspect || w.unknown >= w.limit {
		return
	}
	for _, ignored := range w.schema.Ignored[t] {
		if strings.EqualFold(ignored, name) {
			return
		}
	}
	w.unknown++
	w.faults = append(w.faults, Fault{Path: at.String(), Offset: offset, Unknown: true, Name: name, Known: fieldNames(t)})
}

// field finds the field that encoding/json would fill.
func field(t reflect.Type, name string) (reflect.StructField, bool) {
	if f, ok := t.FieldByName(name); ok && f.IsExported() {
		return f, true
	}
	for f := range t.Fields() {
		if f.IsExported() && strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for f := range t.Fields() {
		if f.IsExported() {
			names = append(names, f.Name)
		}
	}
	sort.Strings(names)
	return names
}
