// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/marblerun/marblerun/manifest/problem"
	"github.com/marblerun/marblerun/manifest/template"
)

// The template language lives in package template; these are its names in this package.
type (
	Template         = template.Template
	TemplateKind     = template.Kind
	TemplateData     = template.Data
	TemplateReserved = template.Reserved
	TemplatePrevious = template.Previous
	TemplateSecret   = template.Secret
	Certificate      = template.Certificate
	PublicKey        = template.PublicKey
	PrivateKey       = template.PrivateKey
)

// The kinds of template.
const (
	FileTemplate = template.File
	EnvTemplate  = template.Env
)

// CompileTemplate parses and checks a template; the name is used in errors.
func CompileTemplate(name, text string, kind TemplateKind) (*Template, error) {
	return template.Compile(name, text, kind)
}

// ReferencedSecrets are the secrets that a Marble's templates and TLS tags name, and those whose previous value they
// name, sorted. A template that uses .Secrets in another way may name all. Names that are not defined and templates
// that do not compile are left out.
func (m *Manifest) ReferencedSecrets(marbleType string) (current, previous []string) {
	now, before, all := make(map[string]bool), make(map[string]bool), false
	m.eachTemplate(marbleType, func(_ string, kind TemplateKind, v Value) {
		t, err := template.Compile("", string(v.Data), kind)
		if err != nil {
			return
		}
		names, earlier, every := t.References()
		all = all || every
		add(now, names)
		add(before, earlier)
	})
	for _, tag := range m.Marbles[marbleType].TLS {
		for _, e := range m.TLS[tag].Incoming {
			now[e.Cert] = true
		}
	}
	for name := range m.Secrets {
		if all || now[name] {
			current = append(current, name)
		}
		if all || before[name] {
			previous = append(previous, name)
		}
	}
	sort.Strings(current)
	sort.Strings(previous)
	return current, previous
}

func add(set map[string]bool, names []string) {
	for _, n := range names {
		set[n] = true
	}
}

// eachTemplate calls f for each entry of a Marble that is a template, in order.
func (m *Manifest) eachTemplate(marbleType string, f func(path string, kind TemplateKind, v Value)) {
	parameters, at := m.Marbles[marbleType].Parameters, problem.Key("$.Marbles", marbleType)+".Parameters"
	each := func(path string, kind TemplateKind, values map[string]Value) {
		for _, name := range sortedKeys(values) {
			if !values[name].NoTemplates {
				f(problem.Key(path, name), kind, values[name])
			}
		}
	}
	each(at+".Files", FileTemplate, parameters.Files)
	each(at+".Env", EnvTemplate, parameters.Env)
}

// DryRun executes all templates. A secret has its value in real if there is one, be it of no bytes; for all others, as
// user-defined ones before their upload (all fields nil), and for .MarbleRun, placeholders stand. Problems have no line
// and column: see [Locate]. A cancelled ctx is a problem.
func (m *Manifest) DryRun(ctx context.Context, real map[string]TemplateSecret) Problems {
	var r problem.Report
	data := m.placeholders(real)
	budget := template.NewBudget(MaxTemplateWork)
	for _, name := range sortedKeys(m.Marbles) {
		for _, env := range sortedKeys(m.Marbles[name].Parameters.Env) {
			if bytes.IndexByte(m.Marbles[name].Parameters.Env[env].Data, 0) >= 0 {
				r.Fail(problem.Key(problem.Key("$.Marbles", name)+".Parameters.Env", env), "the value contains a NUL byte")
			}
		}
		m.eachTemplate(name, func(path string, kind TemplateKind, v Value) {
			if ctx.Err() != nil || budget.Exhausted() {
				return
			}
			t, err := template.Compile(templateName(path), string(v.Data), kind)
			if err == nil {
				_, err = t.ExecuteWithin(budget, data)
			}
			for _, p := range templateProblems(path, err) {
				r.Fail(p.Path, "%s", p.Text).Hint = p.Hint
			}
		})
	}
	if ctx.Err() != nil {
		r.Fail("$.Marbles", "the dry run was cancelled: %v", context.Cause(ctx))
	} else if budget.Exhausted() {
		r.Fail("$.Marbles", "all templates together do too much work").Hint = "fewer or smaller loops, formats and values"
	}
	r.Problems().Sort()
	return r.Problems()
}

// templateName is the last step of a path, bounded.
func templateName(path string) string {
	return problem.Shorten(path[strings.LastIndex(path, "[")+1:], 40)
}

// templateProblems turns an error of package template into problems.
func templateProblems(path string, err error) (problems Problems) {
	if err == nil {
		return nil
	}
	errs, ok := errors.AsType[template.Errors](err)
	if one, is := errors.AsType[*template.Error](err); !ok && is {
		errs = template.Errors{one}
	}
	for _, e := range errs {
		text := "the template is wrong: " + problem.Shorten(e.Text, 250)
		if e.Line > 0 {
			text = fmt.Sprintf("the template is wrong at %d:%d: %s", e.Line, e.Column, problem.Shorten(e.Text, 250))
		}
		problems = append(problems, Problem{Path: path, Text: text, Hint: e.Hint})
	}
	return problems
}

// maxPlaceholder bounds a placeholder for a key of a size that only its uploader could meet.
const maxPlaceholder = 64 << 10

func (m *Manifest) placeholders(real map[string]TemplateSecret) *TemplateData {
	secrets := make(map[string]TemplateSecret, len(m.Secrets))
	for name, s := range m.Secrets {
		if value := real[name]; value.Public != nil || value.Private != nil || value.Cert.Raw != nil {
			secrets[name] = value
		} else {
			secrets[name] = s.placeholder()
		}
	}
	reserved := Secret{Type: TypeCertECDSA}.placeholder()
	certOnly := TemplateSecret{Cert: reserved.Cert}
	return &TemplateData{
		MarbleRun: TemplateReserved{
			RootCA: certOnly, MarbleCert: reserved, CoordinatorRoot: certOnly, CoordinatorIntermediate: certOnly,
		},
		Secrets:  secrets,
		Previous: TemplatePrevious{Secrets: secrets},
	}
}

// placeholder is a value of the secret's shape.
func (s Secret) placeholder() TemplateSecret {
	out := TemplateSecret{Type: s.Type, Size: s.Size, Shared: s.Shared, UserDefined: s.UserDefined, ValidFor: s.ValidFor}
	size := 32
	if s.Type == TypeSymmetricKey && s.Size >= 8 {
		size = int(min(s.Size/8, maxPlaceholder))
	}
	out.Public, out.Private = bytes.Repeat([]byte{'x'}, size), bytes.Repeat([]byte{'x'}, size)
	if s.IsCertificate() {
		out.Cert = template.PlaceholderCertificate()
	}
	return out
}
