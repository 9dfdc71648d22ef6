// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/manifest"
	"github.com/marblerun/marblerun/manifest/yaml"
)

// document is a manifest file.
type document struct {
	path string
	// data is what is sent and hashed: the file's bytes if they are JSON, else the JSON that its YAML stands for.
	data []byte
	// converted: data is not the file, so that positions in it mean nothing to a reader of the file.
	converted bool
}

// loadDocument reads a manifest file, and warns if it is YAML where JSON may have been meant.
func (a *commands) loadDocument(path string) (document, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return document{}, err
	}
	data, err := yaml.ToJSON(raw)
	if flaw, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		return document{}, api.WithHint(fmt.Errorf("%s:%d:%d: is not JSON: %s", path, flaw.Line, flaw.Column, flaw.Text),
			flaw.Advice)
	}
	if err != nil {
		return document{}, fmt.Errorf("%s: %w", path, err)
	}
	if flaw := yaml.Flaw(raw); flaw != nil {
		a.Warn("%s is read as YAML, because it is no JSON: %d:%d: %s; the converted bytes are what is sent and hashed",
			path, flaw.Line, flaw.Column, flaw.Text)
	}
	return document{path: path, data: data, converted: !json.Valid(raw)}, nil
}

// parse returns the manifest and everything that is wrong with it, warnings included. The manifest is nil if it cannot
// even be read. With update, a document that only names packages is held against the rules for such updates, as far as
// they do not depend on the manifest that is set.
func (d document) parse(update bool) (*manifest.Manifest, manifest.Problems) {
	m, problems := d.read()
	if m == nil {
		return nil, problems
	}
	if update && m.UpdateKind() == manifest.PackageUpdate {
		return m, d.locate(manifest.Locate(d.data, manifest.CheckPackageUpdate(samePackages(m), m)))
	}
	return m, d.locate(manifest.Check(d.data, m, nil))
}

// check returns everything for which a Coordinator would refuse m, which the document is, be it as an update, and
// warnings. Besides parse it executes the templates, on placeholders.
func (d document) check(ctx context.Context, m *manifest.Manifest) manifest.Problems {
	return d.updateProblems(ctx, samePackages(m), m)
}

// read returns the manifest, or why it cannot even be read.
func (d document) read() (*manifest.Manifest, manifest.Problems) {
	m, err := manifest.Parse(d.data)
	if err == nil {
		return m, nil
	}
	var problems manifest.Problems
	if !errors.As(err, &problems) {
		problems = manifest.Problems{{Path: "$", Text: err.Error()}}
	}
	return nil, d.locate(problems)
}

// samePackages has the packages of m, each of version 0.
func samePackages(m *manifest.Manifest) *manifest.Manifest {
	packages := make(map[string]manifest.Package, len(m.Packages))
	for name := range m.Packages {
		packages[name] = manifest.Package{SecurityVersion: new(uint)}
	}
	return &manifest.Manifest{Packages: packages}
}

// locate drops positions that are not those of the file.
func (d document) locate(problems manifest.Problems) manifest.Problems {
	if !d.converted {
		return problems
	}
	located := make(manifest.Problems, len(problems))
	for i, p := range problems {
		p.Line, p.Column = 0, 0
		located[i] = p
	}
	return located
}

// problemLine is "file:line:col: path: text (hint)", as compilers write it.
func (a *commands) problemLine(d document, p manifest.Problem, color bool) string {
	position := d.path
	if p.Line > 0 {
		position = fmt.Sprintf("%s:%d:%d", d.path, p.Line, p.Column)
	}
	text := p.Text
	if p.Warning {
		text = console.Paint(color, console.Yellow, "warning:") + " " + text
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return fmt.Sprintf("%s: %s: %s", position, p.Path, text)
}

func (a *commands) printProblems(w io.Writer, d document, problems manifest.Problems, color bool) {
	for _, p := range problems {
		fmt.Fprintln(w, a.problemLine(d, p, color))
	}
}

// goodDocument loads a manifest and refuses it, with all its problems on stderr, if no Coordinator would take it, be it
// as an update.
func (a *commands) goodDocument(path string, update bool) (document, *manifest.Manifest, error) {
	d, err := a.loadDocument(path)
	if err != nil {
		return d, nil, err
	}
	m, problems := d.parse(update)
	a.printProblems(a.Err, d, problems, a.ColorErr)
	if n := len(problems.Errors()); n > 0 {
		return d, m, api.WithHint(fmt.Errorf("%s has %s", path, count(n, "problem")),
			"Nothing was sent. 'marblerun manifest check' lists the problems again.")
	}
	return d, m, nil
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
