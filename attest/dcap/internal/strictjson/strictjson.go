// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package strictjson reads the signed JSON documents of Intel's provisioning service in place, several times faster
// than encoding/json: reading TCB info must not cost more than verifying its signature.
//
// Invariants: it accepts a subset of RFC 8259 (integers only where a number is read, at most 64 members an object, no
// member twice, 16 levels deep), member names compare with case, it allocates only for the strings it returns, and the
// first error sticks: every later call returns a zero value and every loop ends.
package strictjson

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

const (
	maxDepth   = 16
	maxMembers = 64
)

// Reader reads one document front to back.
type Reader struct {
	data  []byte
	pos   int
	depth int
	names [][]byte // members seen in the objects that are open, innermost last
	err   error
}

// New reads data, which must not change meanwhile.
func New(data []byte) *Reader {
	return &Reader{data: data, names: make([][]byte, 0, maxMembers)}
}

// Fail records an error at the current position unless there is one already.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: %s", r.pos, fmt.Sprintf(format, args...))
	}
}

// Err is the first error so far.
func (r *Reader) Err() error { return r.err }

// End checks that nothing but white space follows, and returns the first error.
func (r *Reader) End() error {
	if r.peek() != 0 || r.pos < len(r.data) {
		r.Fail("bytes after the document")
	}
	return r.err
}

// peek skips white space and returns the next byte, 0 at the end or after an error.
func (r *Reader) peek() byte {
	for r.err == nil && r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\r', '\n':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// expect consumes c.
func (r *Reader) expect(c byte) bool {
	if r.peek() != c || c == 0 {
		r.Fail("%q expected", c)
		return false
	}
	r.pos++
	return true
}

// Object calls member for each member of an object, with its name; member must read the value or Skip it.
func (r *Reader) Object(member func(name []byte)) {
	if !r.enter('{') {
		return
	}
	seen := len(r.names)
	for first := true; r.err == nil && r.peek() != '}'; first = false {
		if !first && !r.expect(',') {
			return
		}
		name := r.raw()
		if r.err != nil || !r.unique(seen, name) || !r.expect(':') {
			return
		}
		r.value(func() { member(name) })
	}
	r.names = r.names[:seen]
	r.leave('}')
}

// unique refuses a member name that the current object, whose names begin at seen, has had already.
func (r *Reader) unique(seen int, name []byte) bool {
	for _, other := range r.names[seen:] {
		if bytes.Equal(other, name) {
			r.Fail("member %q appears twice", name)
			return false
		}
	}
	if len(r.names)-seen >= maxMembers {
		r.Fail("object with more than %d members", maxMembers)
		return false
	}
	r.names = append(r.names, name)
	return true
}

// Array calls element for each element of an array; element must read it or Skip it.
func (r *Reader) Array(element func()) {
	if !r.enter('[') {
		return
	}
	for first := true; r.err == nil && r.peek() != ']'; first = false {
		if !first && !r.expect(',') {
			return
		}
		r.value(element)
	}
	r.leave(']')
}

// value lets read consume one value and checks that it did.
func (r *Reader) value(read func()) {
	r.peek()
	before := r.pos
	read()
	if r.err == nil && r.pos == before {
		r.Fail("value not read")
	}
}

func (r *Reader) enter(open byte) bool {
	if !r.expect(open) {
		return false
	}
	if r.depth++; r.depth > maxDepth {
		r.Fail("nested more than %d deep", maxDepth)
		return false
	}
	return true
}

func (r *Reader) leave(closing byte) {
	r.depth--
	r.expect(closing)
}

// raw reads a string without escapes and returns its bytes in place; with escapes, decoded.
func (r *Reader) raw() []byte {
	if !r.expect('"') {
		return nil
	}
	start := r.pos
	for ; r.pos < len(r.data); r.pos++ {
		switch c := r.data[r.pos]; {
		case c == '"':
			text := r.data[start:r.pos]
			r.pos++
			if !utf8.Valid(text) {
				r.Fail("string is not UTF-8")
			}
			return text
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			r.Fail("control character in a string")
			return nil
		}
	}
	r.Fail("string without end")
	return nil
}

// escaped reads the string that began at start (after the quote) and holds escapes, which are rare.
func (r *Reader) escaped(start int) []byte {
	for ; r.pos < len(r.data) && r.data[r.pos] != '"'; r.pos++ {
		if r.data[r.pos] == '\\' {
			r.pos++
		}
	}
	if r.pos >= len(r.data) {
		r.Fail("string without end")
		return nil
	}
	r.pos++
	var text string
	if err := json.Unmarshal(r.data[start-1:r.pos], &text); err != nil {
		r.Fail("string: %v", err)
	}
	return []byte(text)
}

// Text reads a string.
func (r *Reader) Text() string { return string(r.raw()) }

// Hex reads a string of exactly 2·len(dst) hex digits into dst.
func (r *Reader) Hex(dst []byte) {
	text := r.raw()
	if r.err != nil {
		return
	}
	if len(text) != 2*len(dst) {
		r.Fail("%d hex digits expected, got %d characters", 2*len(dst), len(text))
		return
	}
	if _, err := hex.Decode(dst, text); err != nil {
		r.Fail("%v", err)
	}
}

// Time reads a string in the form of RFC 3339, in UTC.
func (r *Reader) Time() time.Time {
	text := r.raw()
	if r.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		r.Fail("%q is not a time like 2006-01-02T15:04:05Z", text)
	}
	return t.UTC()
}

// Uint reads a number without sign, fraction or exponent, at most limit.
func (r *Reader) Uint(limit uint32) uint32 {
	first := r.peek()
	start, n := r.pos, uint64(0)
	for ; r.err == nil && r.pos < len(r.data) && isDigit(r.data[r.pos]); r.pos++ {
		if n = n*10 + uint64(r.data[r.pos]-'0'); n > math.MaxUint32 {
			break
		}
	}
	switch {
	case r.err != nil:
		return 0
	case r.pos == start || first == '0' && r.pos-start > 1 || r.pos < len(r.data) && isNumeric(r.data[r.pos]):
		r.Fail("whole number expected")
	case n > uint64(limit):
		r.Fail("number above %d", limit)
	}
	return uint32(n)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNumeric(c byte) bool {
	return isDigit(c) || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-'
}

// Skip reads any value and forgets it.
func (r *Reader) Skip() {
	switch c := r.peek(); {
	case c == '{':
		r.Object(func([]byte) { r.Skip() })
	case c == '[':
		r.Array(r.Skip)
	case c == '"':
		r.raw()
	default:
		r.literal()
	}
}

// literal reads true, false, null or a number, leaving the grammar to encoding/json.
func (r *Reader) literal() {
	start := r.pos
	for r.pos < len(r.data) && (isNumeric(r.data[r.pos]) || r.data[r.pos] >= 'a' && r.data[r.pos] <= 'z') {
		r.pos++
	}
	if r.err == nil && !json.Valid(r.data[start:r.pos]) {
		r.Fail("value expected")
	}
}

// Raw reads any value and returns its bytes exactly as they are, in place.
func (r *Reader) Raw() []byte {
	r.peek()
	start := r.pos
	r.Skip()
	if r.err != nil {
		return nil
	}
	return r.data[start:r.pos]
}
