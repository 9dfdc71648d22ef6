// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package template

import (
	"reflect"
	"strings"
	"text/template/parse"

	"github.com/marblerun/marblerun/manifest/internal/spelling"
)

// rootPath is the path of a node that starts at the Data; nil if it starts elsewhere, empty for the Data itself.
func (w *walker) rootPath(n parse.Node) []string {
	switch n := n.(type) {
	case *parse.FieldNode:
		if w.rooted {
			return append([]string{}, n.Ident...)
		}
	case *parse.VariableNode:
		// In a defined template $ is its argument, which was counted where it was passed.
		if n.Ident[0] == "$" && w.tree.Name == root {
			return append([]string{}, n.Ident[1:]...)
		}
	}
	return nil
}

func isSecrets(path []string) bool {
	return len(path) == 1 && path[0] == "Secrets" || len(path) == 2 && path[0] == "Previous" && path[1] == "Secrets"
}

// reference notes what a path from the Data uses, and checks that it exists.
func (w *walker) reference(n parse.Node, path []string) {
	if _, ok := w.follow(n, path); !ok {
		return
	}
	line, column := w.position(n)
	switch {
	case len(path) >= 2 && isSecrets(path[:1]):
		w.t.refs = append(w.t.refs, Reference{Secret: path[1], Line: line, Column: column})
	case len(path) >= 3 && isSecrets(path[:2]):
		w.t.refs = append(w.t.refs, Reference{Secret: path[2], Previous: true, Line: line, Column: column})
	case len(path) == 0 || path[0] != "MarbleRun":
		w.t.all = true
	}
}

// follow returns the type at the end of a path from the Data; a step that does not exist is an error.
func (w *walker) follow(n parse.Node, path []string) (reflect.Type, bool) {
	typ := reflect.TypeFor[Data]()
	for i, name := range path {
		switch typ.Kind() {
		case reflect.Map:
			typ = typ.Elem()
			continue
		case reflect.Struct:
			if f, ok := typ.FieldByName(name); ok && f.IsExported() {
				typ = f.Type
				continue
			}
		}
		e := w.fail(n, "there is no .%s", strings.Join(path[:i+1], "."))
		if typ.Kind() == reflect.Struct {
			e.Hint = hint(name, typ)
		}
		return nil, false
	}
	return typ, true
}

func hint(name string, typ reflect.Type) string {
	var names []string
	for f := range typ.Fields() {
		names = append(names, f.Name)
	}
	if near := spelling.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	if typ == reflect.TypeFor[Certificate]() || typ == reflect.TypeFor[Name]() {
		return "methods cannot be called in a manifest's template"
	}
	return ""
}

// typeOf is the type of a node that starts at the Data, nil if unknown.
func (w *walker) typeOf(n parse.Node) reflect.Type {
	path := w.rootPath(n)
	if path == nil {
		return nil
	}
	before := len(w.errs)
	typ, _ := w.follow(n, path)
	w.errs = w.errs[:before] // reported when the node was visited
	return typ
}
