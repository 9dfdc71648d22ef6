// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package problem is how the manifest language says what is wrong: a list of problems, each with its place and a hint.
//
// Texts are bounded whatever the manifest contains, and at most [Max] errors and as many warnings are collected.
package problem

import (
	"fmt"
	"sort"
	"strings"
)

// Problem is something wrong, or odd, in a manifest.
type Problem struct {
	Path         string // JSON path, e.g. $.Marbles["web"].Package
	Line, Column int    // from 1, the column in bytes; 0 = unknown
	Text         string
	Hint         string // what to do; may be empty
	Warning      bool   // does not refuse the manifest
}

// String is the problem on one line of bounded length.
func (p Problem) String() string {
	var b strings.Builder
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(Shorten(p.Path, 200))
	if p.Line > 0 {
		fmt.Fprintf(&b, " (line %d, column %d)", p.Line, p.Column)
	}
	b.WriteString(": " + Shorten(p.Text, 300))
	if p.Hint != "" {
		b.WriteString(" (" + Shorten(p.Hint, 200) + ")")
	}
	return b.String()
}

// Problems are the problems of a manifest in the order of its text. As an error they are never empty.
type Problems []Problem

// maxErrorLines bounds the text of an error; the problems themselves are all there.
const maxErrorLines = 60

// Error implements error: one line per problem, bounded.
func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	lines := make([]string, 0, min(len(p), maxErrorLines)+2)
	lines = append(lines, fmt.Sprintf("%d problems:", len(p)))
	for i, one := range p {
		if i == maxErrorLines {
			lines = append(lines, fmt.Sprintf("and %d more", len(p)-i))
			break
		}
		lines = append(lines, one.String())
	}
	return strings.Join(lines, "\n")
}

// Errors returns the problems that refuse the manifest.
func (p Problems) Errors() Problems { return p.only(false) }

// Warnings returns the problems that do not.
func (p Problems) Warnings() Problems { return p.only(true) }

func (p Problems) only(warning bool) Problems {
	var out Problems
	for _, one := range p {
		if one.Warning == warning {
			out = append(out, one)
		}
	}
	return out
}

// Err returns the errors as an error, nil if there are none.
func (p Problems) Err() error {
	if e := p.Errors(); len(e) > 0 {
		return e
	}
	return nil
}

// Sort orders problems by position, path and text.
func (p Problems) Sort() {
	sort.SliceStable(p, func(i, j int) bool {
		a, b := p[i], p[j]
		switch {
		case a.Line != b.Line:
			return a.Line < b.Line
		case a.Column != b.Column:
			return a.Column < b.Column
		case a.Path != b.Path:
			return a.Path < b.Path
		}
		return a.Text < b.Text
	})
}
