// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"sort"
	"strings"
)

// Lines turns offsets into lines and columns.
type Lines struct{ starts []int }

// NewLines indexes the line starts of data.
func NewLines(data []byte) Lines {
	starts := make([]int, 1, 1+bytes.Count(data, []byte("\n")))
	for i, b := range data {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return Lines{starts}
}

// Position returns the line and the column, both from 1, the column in bytes.
func (l Lines) Position(offset int) (line, column int) {
	line = sort.SearchInts(l.starts, offset+1)
	return line, offset - l.starts[line-1] + 1
}

// wanted is a tree of the paths to locate.
type wanted struct {
	below map[string]*wanted // by path segment
	at    int
	seen  bool
}

func (w *wanted) add(path string) {
	for _, s := range segments(path) {
		if w.below == nil {
			w.below = make(map[string]*wanted)
		}
		if w.below[s] == nil {
			w.below[s] = &wanted{}
		}
		w = w.below[s]
	}
}

func (w *wanted) offset(path string) int {
	offset := w.at
	for _, s := range segments(path) {
		if w = w.below[s]; !w.seen {
			break
		}
		offset = w.at
	}
	return offset
}

// segments splits a path into its steps. It accepts what crumb.String makes.
func segments(path string) []string {
	path = strings.TrimPrefix(path, "$")
	var out []string
	for path != "" {
		n := segmentLength(path)
		out = append(out, path[:n])
		path = path[n:]
	}
	return out
}

func segmentLength(path string) int {
	if !strings.HasPrefix(path, `["`) {
		if n := strings.IndexAny(path[1:], ".["); n >= 0 {
			return n + 1
		}
		return len(path)
	}
	for i := 2; i < len(path); i++ {
		switch path[i] {
		case '\\':
			i++
		case '"':
			return min(i+2, len(path))
		}
	}
	return len(path)
}
