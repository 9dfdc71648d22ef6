// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package diff says in words how two manifests differ.
//
// It compares any two values of one type: structs are compared field by field, maps with string keys entry by entry,
// lists of strings as a whole, everything else for deep equality. A nil and an empty list differ. Long texts and
// bytes are not shown.
package diff

import (
	"reflect"
	"sort"
	"strconv"
)

// Difference is one difference. Old or New is invalid if the entry, or what a pointer points to, is missing on that
// side.
type Difference struct {
	Path     string   // as in package source
	Steps    []string // the same, step by step: names of fields and keys of maps
	Old, New reflect.Value
}

// Compare returns the differences between two values of one type, sorted by path.
func Compare(before, after any) []Difference {
	c := &comparison{}
	c.values("$", nil, reflect.ValueOf(before), reflect.ValueOf(after))
	sort.SliceStable(c.found, func(i, j int) bool { return c.found[i].Path < c.found[j].Path })
	return c.found
}

type comparison struct{ found []Difference }

func (c *comparison) values(path string, steps []string, a, b reflect.Value) {
	switch {
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		c.values(path, steps, a.Elem(), b.Elem())
	case a.Kind() == reflect.Pointer:
		c.differ(path, steps, a.Elem(), b.Elem())
	case a.Kind() == reflect.Struct && transparent(a.Type()):
		for f := range a.Type().Fields() {
			next := append(steps[:len(steps):len(steps)], f.Name)
			c.values(path+"."+f.Name, next, a.FieldByIndex(f.Index), b.FieldByIndex(f.Index))
		}
	case a.Kind() == reflect.Map && a.Type().Key().Kind() == reflect.String:
		c.entries(path, steps, a, b)
	default:
		c.differ(path, steps, a, b)
	}
}

// transparent structs have exported fields only; others (time.Time) are compared as a whole.
func transparent(t reflect.Type) bool {
	for f := range t.Fields() {
		if !f.IsExported() {
			return false
		}
	}
	return true
}

func (c *comparison) entries(path string, steps []string, a, b reflect.Value) {
	seen := make(map[string]bool)
	for _, key := range append(a.MapKeys(), b.MapKeys()...) {
		name := key.String()
		if seen[name] {
			continue
		}
		seen[name] = true
		at, next := path+"["+strconv.Quote(name)+"]", append(steps[:len(steps):len(steps)], name)
		if before, after := a.MapIndex(key), b.MapIndex(key); before.IsValid() && after.IsValid() {
			c.values(at, next, before, after)
		} else {
			c.differ(at, next, before, after)
		}
	}
}

func (c *comparison) differ(path string, steps []string, a, b reflect.Value) {
	if !a.IsValid() && !b.IsValid() || a.IsValid() && b.IsValid() && reflect.DeepEqual(a.Interface(), b.Interface()) {
		return
	}
	c.found = append(c.found, Difference{Path: path, Steps: steps, Old: a, New: b})
}
