// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package manifestcmd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Lines as client-api.md §9 has them.
const (
	initial  = `{"time":"2026-01-01T00:00:00.000Z","update":"Initial manifest set"}`
	raised   = `{"time":"2026-01-02T00:00:00.000Z","update":"SecurityVersion increased","package":"p","new version":3}`
	written  = `{"time":"2026-01-03T00:00:00.000Z","update":"Secret set","user":"a","secret":"s","type":"plain"}`
	replaced = `{"time":"2026-01-04T00:00:00.000Z","update":"Complete Manifest updated","manifestFingerprint":"ab"}`
	timeless = `{"time":"yesterday","update":"SecurityVersion increased","package":"p","new version":4}`
)

func TestReadLog(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	for name, tt := range map[string]struct {
		lines []string
		want  logFacts
	}{
		"nothing":        {nil, logFacts{versions: map[string]uint{}}},
		"initial":        {[]string{initial}, logFacts{rotated: day(1), versions: map[string]uint{}}},
		"package update": {[]string{initial, raised}, logFacts{rotated: day(2), versions: map[string]uint{"p": 3}}},
		"secrets": {[]string{initial, raised, written},
			logFacts{rotated: day(2), versions: map[string]uint{"p": 3}}},
		"undone":            {[]string{initial, raised, replaced}, logFacts{day(4), map[string]uint{}, "ab"}},
		"another time form": {[]string{initial, timeless}, logFacts{rotated: day(1), versions: map[string]uint{"p": 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readLog(tt.lines)
			if d := cmp.Diff(tt.want, got, cmp.AllowUnexported(logFacts{})); d != "" || err != nil {
				t.Error(err, d)
			}
		})
	}
	for _, line := range []string{"x", `{"new version":-1}`, `[]`} {
		if facts, err := readLog([]string{line}); err == nil {
			t.Errorf("%s: %v", line, facts)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	for _, line := range []string{initial, raised, written, replaced, timeless, "x", "null"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		facts, err := readLog([]string{initial, line, replaced})
		if err == nil && (len(facts.versions) > 0 || facts.fingerprint != "ab") {
			t.Errorf("%+v", facts)
		}
	})
}
