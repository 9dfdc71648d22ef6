// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package template is the template language of a manifest's Files and Env entries: Go's text/template with the
// functions of the contract and with bounds, because anyone may send a manifest.
//
// # Language
//
// All of text/template is available except the builtin call, methods, and {{define}}d templates that call themselves.
// The functions are pem, hex, base64, and raw (Files) or string (Env). A missing secret is an error, also where
// text/template would print <no value>.
//
// The data ([Data]) is plain: none of its types has a method that a template can call. Times, addresses, serial
// numbers and names of a certificate's fields are therefore strings, in the form in which Go prints them.
//
// # Bounds
//
// Before execution, by walking the parse tree:
//
//   - at most [MaxActions] actions, together at most [MaxActionBytes] of source and [MaxNodes] nodes;
//   - range only over fields and variables' fields (not over numbers, literals, or results of functions), nested at
//     most [MaxRangeDepth] deep;
//   - width and precision in a printf format at most [MaxWidth], and never taken from arguments;
//   - no recursion.
//
// During execution every node, iteration and produced byte is paid from a budget of work ([MaxWork] per template), so
// that loops cannot multiply: each body of a range or of a defined template begins with a hidden action that pays for
// it, each printed value passes a hidden function that pays before it is formatted. Output is at most [MaxOutput]
// bytes.
//
// A text without actions is not a template and none of this applies to it.
//
// # Secrets
//
// Errors never contain values: what text/template reports is passed on only if it is known to name nothing but types
// and fields.
package template

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"sync"
	"text/template"
	"text/template/parse"
)

// The bounds of one template.
const (
	MaxActions     = 10_000
	MaxActionBytes = 64 << 10
	MaxNodes       = 20_000
	MaxRangeDepth  = 2
	MaxWidth       = 4096
	MaxOutput      = 1 << 20  // bytes
	MaxWork        = 16 << 20 // units; about one byte produced, or a 128th of a node executed
)

// Kind says where a template stands, which decides the functions it has.
type Kind int

// The kinds of template.
const (
	File Kind = iota // raw is available
	Env              // string is available; the output must not contain NUL
)

// Template is a compiled template, immutable and safe for concurrent use.
type Template struct {
	name    string
	text    string
	kind    Kind
	literal bool // no actions: text is the output
	trees   map[string]*parse.Tree
	cost    int64 // of executing the root once
	refs    []Reference
	bare    []Bare
	all     bool
	pool    sync.Pool // of *execution
}

// Reference is a constant use of a secret.
type Reference struct {
	Secret       string
	Previous     bool // .Previous.Secrets instead of .Secrets
	Line, Column int  // in the template, from 1, the column in bytes
}

// Bare is an action that prints a secret, certificate or key without a function, so that Go's idea of its bytes comes
// out: a list of decimal numbers.
type Bare struct {
	Text         string // e.g. .Secrets.dbKey.Private
	Line, Column int    // in the template, from 1, the column in bytes
}

// root is the name of the outermost template inside text/template.
const root = "\x00"

// Compile parses and checks text. The error is an [Errors] with all that is wrong, or as much as a syntax error allows.
// The name is used in errors only.
func Compile(name, text string, kind Kind) (*Template, error) {
	t := &Template{name: name, text: text, kind: kind, literal: !strings.Contains(text, "{{")}
	if t.literal {
		return t, nil
	}
	if err := checkSize(text); err != nil {
		return nil, Errors{{Name: name, Line: 1, Column: 1, Text: err.Error()}}
	}
	trees, err := parse.Parse(root, text, "", "", names(kind))
	if err != nil {
		return nil, Errors{syntaxError(name, kind, err)}
	}
	t.trees = trees
	if errs := t.walk(); len(errs) > 0 {
		return nil, errs
	}
	return t, nil
}

// References returns the names of the secrets that the template uses by constant name, sorted. With all it uses
// .Secrets or .Previous in some other way, so that it may see every secret.
func (t *Template) References() (secrets, previous []string, all bool) {
	seen := make(map[Reference]bool)
	for _, r := range t.refs {
		r.Line, r.Column = 0, 0
		if seen[r] {
			continue
		}
		seen[r] = true
		if r.Previous {
			previous = append(previous, r.Secret)
		} else {
			secrets = append(secrets, r.Secret)
		}
	}
	sort.Strings(secrets)
	sort.Strings(previous)
	return secrets, previous, t.all
}

// Uses returns every constant use of a secret in the order of the text.
func (t *Template) Uses() []Reference { return t.refs }

// Bare returns every action that prints a secret, certificate or key without a function, as far as its type is known
// without executing it.
func (t *Template) Bare() []Bare { return t.bare }

// Execute expands the template: at most [MaxOutput] bytes, with at most [MaxWork] of work. The error is an *[Error]
// without secrets in it.
func (t *Template) Execute(data *Data) ([]byte, error) {
	return t.ExecuteWithin(NewBudget(MaxWork), data)
}

// ExecuteWithin is Execute, with the work also taken from a budget shared by several templates.
func (t *Template) ExecuteWithin(shared *Budget, data *Data) ([]byte, error) {
	if t.literal {
		return []byte(t.text), t.checkOutput([]byte(t.text))
	}
	x, ok := t.pool.Get().(*execution)
	if !ok {
		x = newExecution(t)
	}
	defer t.pool.Put(x)
	out, err := x.run(min(MaxWork, shared.left), t.cost, data)
	shared.left -= x.used
	if err != nil {
		return nil, executionError(t.name, err)
	}
	return out, t.checkOutput(out)
}

func (t *Template) checkOutput(out []byte) error {
	if t.kind == Env && bytes.IndexByte(out, 0) >= 0 {
		return &Error{Name: t.name, Line: 1, Column: 1, Text: "the value contains a NUL byte",
			Hint: "an environment variable cannot hold one; encode the value or use Files"}
	}
	return nil
}

// Budget is an amount of work that several executions share. It is not safe for concurrent use.
type Budget struct{ left int64 }

// NewBudget returns a budget of that many units of work, see [MaxWork].
func NewBudget(work int64) *Budget { return &Budget{left: work} }

// Exhausted reports whether nothing is left.
func (b *Budget) Exhausted() bool { return b.left <= 0 }

// newTemplate binds trees and functions for one execution at a time.
func (t *Template) newTemplate(functions template.FuncMap) *template.Template {
	tmpl := template.New(root).Option("missingkey=error").Funcs(functions)
	for name, tree := range t.trees {
		template.Must(tmpl.AddParseTree(name, tree)) // fails only for a tree without a root
	}
	return tmpl
}

// ActionBytes is the size of a text's actions, which is what parsing it costs.
func ActionBytes(text string) int {
	_, size := measure(text)
	return size
}

// checkSize bounds a text before it is parsed, since the parser has no bounds.
func checkSize(text string) error {
	actions, size := measure(text)
	if actions > MaxActions {
		return fmt.Errorf("has %d actions, %d are allowed", actions, MaxActions)
	}
	if size > MaxActionBytes {
		return fmt.Errorf("has actions of %d bytes, %d are allowed", size, MaxActionBytes)
	}
	return nil
}

// measure counts actions and their bytes.
func measure(text string) (actions, size int) {
	for {
		start := strings.Index(text, "{{")
		if start < 0 {
			break
		}
		text = text[start:]
		n := actionLength(text)
		actions++
		size += n
		text = text[n:]
	}
	return actions, size
}

// actionLength is the length of the action that text begins with, as text/template's lexer sees it.
func actionLength(text string) int {
	i := 2
	if trimmed := strings.TrimPrefix(text[i:], "-"); trimmed != text[i:] {
		i = len(text) - len(strings.TrimLeft(trimmed, " \t\r\n"))
	}
	if strings.HasPrefix(text[i:], "/*") {
		if end := strings.Index(text[i:], "*/"); end >= 0 {
			i += end + 2
		}
	}
	for i < len(text) {
		switch text[i] {
		case '}':
			if strings.HasPrefix(text[i:], "}}") {
				return i + 2
			}
			i++
		case '"', '\'', '`':
			i += quotedLength(text[i:])
		default:
			i++
		}
	}
	return i
}

// quotedLength is the length of the quoted constant that text begins with.
func quotedLength(text string) int {
	quote := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote != '`':
			i++
		case text[i] == quote:
			return i + 1
		case text[i] == '\n' && quote != '`':
			return i + 1 // a syntax error to the parser
		}
	}
	return len(text)
}
