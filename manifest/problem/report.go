// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package problem

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/marblerun/marblerun/manifest/internal/spelling"
)

// Max bounds the errors of a report, and its warnings.
const Max = 1000

// Report collects problems, at most Max errors and as many warnings, so that neither crowds out the other.
type Report struct {
	problems Problems
	warnings int // of the problems
}

// Fail adds an error and returns it, so that a hint can be set. The pointer is valid until the next problem.
func (r *Report) Fail(path, format string, args ...any) *Problem {
	p := Problem{Path: path, Text: fmt.Sprintf(format, args...)}
	if r.Failures() >= Max {
		return &p
	}
	return r.add(p)
}

// Warn adds a warning.
func (r *Report) Warn(path, format string, args ...any) *Problem {
	p := Problem{Path: path, Text: fmt.Sprintf(format, args...), Warning: true}
	if r.warnings >= Max {
		return &p
	}
	r.warnings++
	return r.add(p)
}

// Problems returns what was collected, in the order of collection.
func (r *Report) Problems() Problems { return r.problems }

// Failures is the number of errors so far.
func (r *Report) Failures() int { return len(r.problems) - r.warnings }

func (r *Report) add(p Problem) *Problem {
	r.problems = append(r.problems, p)
	return &r.problems[len(r.problems)-1]
}

// The steps of a JSON path.
func Key(path, key string) string { return path + "[" + strconv.Quote(key) + "]" }

// Item is the path of a list element.
func Item(path string, n int) string { return path + "[" + strconv.Itoa(n) + "]" }

// Quote quotes a name from the manifest at bounded length.
func Quote(name string) string { return strconv.Quote(Shorten(name, 100)) }

// Shorten cuts s to at most limit bytes, at a rune boundary, and marks the cut.
func Shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// Meant is the hint for a word that is not among the candidates. A full report has none, since searching costs time.
func (r *Report) Meant(word string, candidates []string) string {
	if r.Failures() >= Max || r.warnings >= Max {
		return ""
	}
	if near := spelling.Nearest(word, candidates); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// MeantOrOneOf falls back to the list, which must be short.
func (r *Report) MeantOrOneOf(word string, candidates []string) string {
	if hint := r.Meant(word, candidates); hint != "" {
		return hint
	}
	return "one of " + strings.Join(candidates, ", ")
}
