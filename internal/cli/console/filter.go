// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// Filter makes what a stranger said harmless for a terminal: a Coordinator that is not verified, or a quote, may
// contain text that moves the cursor, sets the title, or shows one thing for another. Control characters and such that
// change the direction of text are written as \x1b or \u202e; newlines, tabs and the colors of this package stay.
func Filter(w io.Writer) io.Writer { return &filter{w: w} }

// filter keeps the beginning of a rune until the next Write brings the rest.
type filter struct {
	w    io.Writer
	rest []byte
}

// Write filters text. It reports all of it as written, or nothing.
func (f *filter) Write(text []byte) (int, error) {
	data := append(f.rest, text...)
	var out bytes.Buffer
	f.rest = nil
	for len(data) > 0 {
		if !utf8.FullRune(data) {
			f.rest = bytes.Clone(data)
			break
		}
		n := sgr(data)
		if n == 0 {
			n = escape(&out, data)
		} else {
			out.Write(data[:n])
		}
		data = data[n:]
	}
	if _, err := f.w.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}

// sgr returns the length of a color sequence of Paint at the beginning, 0 if there is none.
func sgr(data []byte) int {
	for _, code := range []string{Red, Yellow, Cyan, "0"} {
		if sequence := "\x1b[" + code + "m"; bytes.HasPrefix(data, []byte(sequence)) {
			return len(sequence)
		}
	}
	return 0
}

// escape writes the first rune of data so that it does nothing, and returns its length in data.
func escape(out *bytes.Buffer, data []byte) int {
	r, n := utf8.DecodeRune(data)
	switch {
	case r == utf8.RuneError && n == 1:
		fmt.Fprintf(out, `\x%02x`, data[0])
	case r == '\n', r == '\t':
		out.WriteByte(data[0])
	case unicode.IsControl(r):
		fmt.Fprintf(out, `\x%02x`, r)
	case unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
		fmt.Fprintf(out, `\u%04x`, r)
	default:
		out.Write(data[:n])
	}
	return n
}
