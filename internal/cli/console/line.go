// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Terminal is stderr if it is one on which lines can be rewritten.
type Terminal struct {
	// Out is the terminal itself, without Filter.
	Out io.Writer
	// Width returns the number of columns.
	Width func() int
}

// Line is one line about something that takes time. On a terminal it is rewritten; elsewhere each change is a line of
// its own.
type Line struct {
	console *Console
	text    string
}

// Line returns a new line that shows nothing yet.
func (c *Console) Line() *Line { return &Line{console: c} }

// Set shows a text in place of the one before.
func (l *Line) Set(text string) {
	text = strings.Join(strings.Fields(text), " ")
	if text == l.text {
		return
	}
	l.text = text
	if l.console.Live == nil {
		l.console.Note("%s", text)
		return
	}
	l.rewrite(text)
}

// Clear takes the line off a terminal. What was printed elsewhere stays.
func (l *Line) Clear() {
	if l.console.Live != nil && l.text != "" {
		l.rewrite("")
	}
	l.text = ""
}

// rewrite goes to the first column and erases the line (ECMA-48 EL), then writes the beginning of a text.
func (l *Line) rewrite(text string) {
	var safe strings.Builder
	fmt.Fprint(Filter(&safe), text)
	fmt.Fprint(l.console.Live.Out, "\r\x1b[K"+cut(safe.String(), l.console.Live.Width()-1))
}

// cut shortens a text to a number of runes.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width || width < 1 {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}
