// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/marblerun/marblerun/manifest/internal/spelling"
)

// Error is something wrong in a template. Text and Hint never contain values of secrets.
type Error struct {
	Name         string // of the template
	Line, Column int    // in the template, from 1, the column in bytes; 0 = unknown
	Text         string
	Hint         string
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Text
	if e.Line > 0 {
		text = fmt.Sprintf("template %s:%d:%d: %s", e.Name, e.Line, e.Column, e.Text)
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Errors are all things wrong in a template, in the order of its text.
type Errors []*Error

// Error implements error.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

func (e Errors) sort() {
	sort.SliceStable(e, func(i, j int) bool {
		if e[i].Line != e[j].Line {
			return e[i].Line < e[j].Line
		}
		return e[i].Column < e[j].Column
	})
}

// refusal is an error of one of our functions: it names no values.
type refusal struct{ text, hint string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{text: fmt.Sprintf(format, args...)} }

// syntaxError makes an Error of what parse.Parse says. It quotes the manifest only.
func syntaxError(name string, kind Kind, err error) *Error {
	m := regexp.MustCompile(`^template: \x00:(\d+): (?s)(.*)$`).FindStringSubmatch(err.Error())
	if m == nil {
		return &Error{Name: name, Line: 1, Column: 1, Text: "is not a template"}
	}
	e := &Error{Name: name, Line: number(m[1]), Column: 1, Text: strings.ReplaceAll(m[2], root, name)}
	switch {
	case strings.HasPrefix(e.Text, `function "raw"`):
		e.Hint = "raw is for Files; in Env use string, hex, base64 or pem"
	case strings.HasPrefix(e.Text, `function "string"`):
		e.Hint = "string is for Env; in Files use raw"
	case strings.HasPrefix(e.Text, `function "call"`):
		e.Text = "call is not available in a manifest"
	case strings.HasPrefix(e.Text, `function "`):
		if near := spelling.Nearest(strings.Split(e.Text, `"`)[1], sortedKeys(names(kind))); near != "" {
			e.Hint = "did you mean " + near + "?"
		}
	}
	return e
}

// executionError makes an Error of what text/template says, which may quote secrets: only refusals of our own and
// messages about fields and types are passed on.
func executionError(name string, err error) *Error {
	text := err.Error()
	e := &Error{Name: name, Text: "cannot be expanded", Hint: "the reason is withheld because it could quote a secret"}
	if m := regexp.MustCompile(`^template: [^:]*:(\d+):(\d+): `).FindStringSubmatch(text); m != nil {
		e.Line, e.Column = number(m[1]), number(m[2])+1
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		e.Text, e.Hint = r.text, r.hint
		return e
	}
	harmless := regexp.MustCompile(`: (map has no entry for key "\w+"|can't evaluate field \w+ in type [\w.\[\]*]+` +
		`|wrong number of args for \w+: want (?:at least )?\d+ got \d+` +
		`|wrong type for value; expected [\w.\[\]*]+; got [\w.\[\]*]+` +
		`|error calling \w+: incompatible types for comparison|invalid value; expected \w+)$`)
	if m := harmless.FindStringSubmatch(text); m != nil {
		e.Text, e.Hint = strings.ReplaceAll(m[1], "template.", ""), ""
	}
	return e
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // the pattern admits digits only; an overflow yields the largest int
	return n
}
