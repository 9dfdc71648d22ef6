// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package der walks the DER encodings that crypto/x509 leaves alone or reads slowly: Intel's PCK extension and CRLs.
//
// Invariants: lengths are definite, minimal and within the bytes given; nothing is copied; the first error sticks.
package der

import (
	"errors"
	"fmt"
	"time"
)

// Tags of ASN.1 in DER.
const (
	Boolean         = 0x01
	Integer         = 0x02
	BitString       = 0x03
	OctetString     = 0x04
	OID             = 0x06
	Enumerated      = 0x0a
	Sequence        = 0x30
	UTCTime         = 0x17
	GeneralizedTime = 0x18
)

var errTruncated = errors.New("truncated DER")

// Reader reads elements one after the other.
type Reader struct {
	rest []byte
	err  error
}

// New reads the elements in data.
func New(data []byte) *Reader { return &Reader{rest: data} }

// Fail records an error unless there is one already.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// Err is the first error so far.
func (r *Reader) Err() error { return r.err }

// More tells whether an element follows and no error has happened.
func (r *Reader) More() bool { return r.err == nil && len(r.rest) > 0 }

// Tag is the tag of the next element, 0 if there is none.
func (r *Reader) Tag() byte {
	if !r.More() {
		return 0
	}
	return r.rest[0]
}

// End checks that no element follows, and returns the first error.
func (r *Reader) End() error {
	if r.More() {
		r.Fail("unexpected element with tag %#02x", r.rest[0])
	}
	return r.err
}

// Element reads the next element of any tag: its tag, its content, and the whole with tag and length.
func (r *Reader) Element() (tag byte, content, whole []byte) {
	if r.err != nil {
		return 0, nil, nil
	}
	header, size, err := length(r.rest)
	if err != nil {
		r.err = err
		return 0, nil, nil
	}
	tag, whole = r.rest[0], r.rest[:header+size]
	r.rest = r.rest[header+size:]
	return tag, whole[header:], whole
}

// length decodes tag and length at the start of b: the size of both and of the content.
func length(b []byte) (header, size int, err error) {
	if len(b) < 2 {
		return 0, 0, errTruncated
	}
	if b[0]&0x1f == 0x1f {
		return 0, 0, errors.New("multi-byte tag")
	}
	header, size = 2, int(b[1])
	if size >= 0x80 {
		n := size & 0x7f
		if n == 0 || n > 3 || len(b) < 2+n {
			return 0, 0, errors.New("indefinite, oversized or truncated length")
		}
		header, size = 2+n, 0
		for _, c := range b[2 : 2+n] {
			size = size<<8 | int(c)
		}
		if size < 0x80 || n > 1 && size>>(8*(n-1)) == 0 {
			return 0, 0, errors.New("length is not minimal")
		}
	}
	if size > len(b)-header {
		return 0, 0, errTruncated
	}
	return header, size, nil
}

// Content reads the next element, which must have the tag, and returns its content.
func (r *Reader) Content(tag byte) []byte {
	got, content, _ := r.Element()
	if r.err == nil && got != tag {
		r.Fail("tag %#02x expected, got %#02x", tag, got)
		return nil
	}
	return content
}

// Into reads the next element, which must have the tag, and returns a reader of its content. Errors do not travel:
// check the inner reader's End.
func (r *Reader) Into(tag byte) *Reader {
	content := r.Content(tag)
	return &Reader{rest: content, err: r.err}
}

// Uint reads the next element, an integer (or with Enumerated an enumerated value) from 0 to limit.
func (r *Reader) Uint(tag byte, limit int) int {
	content := r.Content(tag)
	if r.err != nil {
		return 0
	}
	if len(content) == 0 || len(content) > 4 || content[0] >= 0x80 ||
		len(content) > 1 && content[0] == 0 && content[1] < 0x80 {
		r.Fail("small number expected")
		return 0
	}
	n := 0
	for _, c := range content {
		n = n<<8 | int(c)
	}
	if n > limit {
		r.Fail("number %d above %d", n, limit)
		return 0
	}
	return n
}

// Octets reads an octet string of exactly len(dst) bytes into dst.
func (r *Reader) Octets(dst []byte) {
	content := r.Content(OctetString)
	if r.err == nil && len(content) != len(dst) {
		r.Fail("octet string of %d bytes expected, got %d", len(dst), len(content))
		return
	}
	copy(dst, content)
}

// Bool reads a boolean.
func (r *Reader) Bool() bool {
	content := r.Content(Boolean)
	if r.err == nil && (len(content) != 1 || content[0] != 0 && content[0] != 0xff) {
		r.Fail("boolean expected")
	}
	return r.err == nil && content[0] == 0xff
}

// Time reads a UTCTime or GeneralizedTime in the forms that RFC 5280 §5.1.2.4 allows: to the second, in UTC.
func (r *Reader) Time() time.Time {
	tag, content, _ := r.Element()
	if r.err != nil {
		return time.Time{}
	}
	layout := "060102150405Z"
	if tag == GeneralizedTime {
		layout = "20060102150405Z"
	} else if tag != UTCTime {
		r.Fail("time expected, got tag %#02x", tag)
		return time.Time{}
	}
	t, err := time.Parse(layout, string(content))
	if err != nil || len(content) != len(layout) {
		r.Fail("malformed time")
		return time.Time{}
	}
	if tag == UTCTime && t.Year() >= 2050 {
		t = t.AddDate(-100, 0, 0) // two-digit years from 50 on are of the last century
	}
	return t
}
