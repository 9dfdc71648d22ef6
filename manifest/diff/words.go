// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marblerun/marblerun/manifest/problem"
)

// Kind says what happened to a part of a manifest.
type Kind string

// The kinds of change. Those after Changed are what an update does beyond the manifest, see package effect.
const (
	Added       Kind = "added"
	Removed     Kind = "removed"
	Changed     Kind = "changed"
	Kept        Kind = "kept"
	Generated   Kind = "generated"   // a value where there was none
	Regenerated Kind = "regenerated" // a new value in place of an old one
	Reissued    Kind = "reissued"    // a certificate
	Emptied     Kind = "emptied"     // a value that its owner must upload (again)
)

// Change is one difference between two manifests, or one effect of an update.
type Change struct {
	Path string `json:"path,omitempty"` // JSON path; none: it is not about one place of the manifest
	Kind Kind   `json:"kind"`
	Text string `json:"text"` // in words, one line of bounded length

	// The fields below are set by package effect only.

	Section string   `json:"section,omitempty"`
	Affects Affected `json:"affects,omitzero"`
	Warning bool     `json:"warning,omitempty"` // something gets weaker, or is lost
}

// Affected are the names, sorted, of what a change concerns.
type Affected struct {
	Packages []string `json:"packages,omitempty"`
	Marbles  []string `json:"marbles,omitempty"` // types
	Secrets  []string `json:"secrets,omitempty"`
	Users    []string `json:"users,omitempty"`
}

// Between says what after changes in before, ordered by the given sections (fields of the type) and then by path.
func Between(before, after any, sections []string) []Change {
	var changes []Change
	for _, d := range Compare(before, after) {
		changes = append(changes, Describe(d))
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return rank(sections, a.Path) - rank(sections, b.Path) })
	return changes
}

func rank(sections []string, path string) int {
	return slices.IndexFunc(sections, func(s string) bool {
		rest, ok := strings.CutPrefix(path, "$."+s)
		return ok && (rest == "" || rest[0] == '[' || rest[0] == '.')
	})
}

// Describe says a difference in words.
func Describe(d Difference) Change {
	subject, rest := subject(d.Steps)
	change := Change{Path: d.Path, Kind: Changed}
	switch {
	case !d.Old.IsValid():
		change.Kind = Added
	case !d.New.IsValid():
		change.Kind = Removed
	}
	what := string(change.Kind)
	if change.Kind == Changed || rest != "" && isScalar(d) {
		what = words(d)
	}
	if rest != "" {
		change.Text = fmt.Sprintf("%s: %s %s", subject, rest, what)
	} else {
		change.Text = fmt.Sprintf("%s %s", subject, what)
	}
	return change
}

// subject splits the steps of a path into the thing that changed, in words, and the field of it.
func subject(steps []string) (thing, field string) {
	singular := map[string]string{
		"Packages": "package", "Infrastructures": "infrastructure", "Marbles": "Marble", "Secrets": "secret", "Users": "user",
		"Roles": "role", "RecoveryKeys": "recovery key", "TLS": "TLS tag",
	}
	if len(steps) == 0 {
		return "manifest", ""
	}
	word, named := singular[steps[0]]
	if !named || len(steps) == 1 {
		return steps[0], problem.Shorten(strings.Join(steps[1:], "."), 200)
	}
	return word + " " + problem.Quote(steps[1]), problem.Shorten(strings.Join(steps[2:], "."), 200)
}

func isScalar(d Difference) bool {
	v := d.New
	if !v.IsValid() {
		v = d.Old
	}
	return v.Kind() != reflect.Struct && v.Kind() != reflect.Map
}

// words says how a value changed.
func words(d Difference) string {
	before, after := text(d.Old), text(d.New)
	if list, ok := listChange(d.Old, d.New); ok {
		return list
	}
	if before == "" || after == "" || before == after {
		return "replaced"
	}
	return fmt.Sprintf("is %s, was %s", after, before)
}

// text is a short value in words, "" if it is better not shown.
func text(v reflect.Value) string {
	if !v.IsValid() {
		return "absent"
	}
	if t, ok := v.Interface().(time.Time); ok {
		return t.Format(time.RFC3339)
	}
	switch v.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprint(v.Interface())
	case reflect.String:
		if s := v.String(); len(s) <= 100 && !strings.Contains(s, "\n") {
			return strconv.Quote(s)
		}
	case reflect.Slice:
		if v.IsNil() {
			return "absent"
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return fmt.Sprintf("%d bytes", v.Len())
		}
		if v.Len() == 0 {
			return "an empty list"
		}
	}
	return ""
}

// listChange tells the elements that a list of strings won and lost.
func listChange(before, after reflect.Value) (string, bool) {
	if !before.IsValid() || !after.IsValid() || before.Type() != reflect.TypeFor[[]string]() {
		return "", false
	}
	a, b := before.Interface().([]string), after.Interface().([]string)
	var parts []string
	if won := without(b, a); len(won) > 0 {
		parts = append(parts, "gains "+problem.Shorten(strings.Join(won, ", "), 200))
	}
	if lost := without(a, b); len(lost) > 0 {
		parts = append(parts, "loses "+problem.Shorten(strings.Join(lost, ", "), 200))
	}
	return strings.Join(parts, ", "), len(parts) > 0
}

// without returns the elements of a that b lacks, quoted.
func without(a, b []string) (out []string) {
	in := make(map[string]bool, len(b))
	for _, s := range b {
		in[s] = true
	}
	for _, s := range a {
		if !in[s] {
			out = append(out, problem.Quote(s))
		}
	}
	return out
}
