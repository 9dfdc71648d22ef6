// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/marblerun/marblerun/internal/vault"
)

// logLine is one line of the update log and the position of its event.
type logLine struct {
	Position uint64 `json:"p"`
	Line     string `json:"l"`
}

// field is a key and value of an update-log line. The order of fields is part of the contract.
type field struct {
	name  string
	value any
}

// logTime is the format of times in the update log: UTC, milliseconds.
const logTime = "2006-01-02T15:04:05.000Z"

// line renders an update-log line (client-api.md §9).
func line(t time.Time, update string, fields ...field) string {
	var b bytes.Buffer
	b.WriteString(`{"time":"` + t.UTC().Format(logTime) + `"`)
	for _, f := range append([]field{{"update", update}}, fields...) {
		b.WriteString(`,` + compactJSON(f.name) + `:` + compactJSON(f.value))
	}
	b.WriteByte('}')
	return b.String()
}

// compactJSON encodes strings, numbers and lists of strings, which cannot fail. Nothing is HTML-escaped.
func compactJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "null"
	}
	return string(bytes.TrimSpace(b.Bytes()))
}

func (s *State) addLine(at moment, text string) {
	// Successive states share one array. That is safe: only the writer appends, published states never look past their
	// own length, and what a discarded draft wrote there is overwritten.
	s.lines = append(s.lines, logLine{at.position, text})
}

// UpdateLog calls yield with each line of the update log, oldest first. Lines of manifest and package events are always
// there; older "Secret set" lines may be collapsed into one counted line.
func (c *Coordinator) UpdateLog(ctx context.Context, yield func(string) error) error {
	k, err := c.running()
	if err != nil {
		return err
	}
	s := k.state.Load()
	out := logMerger{lines: s.lines, yield: yield}
	first := true
	err = k.vault.History(ctx, 0, func(r vault.Record) (bool, error) {
		rec, err := decodeRecord(r.Payload)
		if err != nil || r.Position > s.position {
			return false, err
		}
		for _, e := range rec.Events {
			w, ok := e.(*secretsWritten)
			if !ok {
				continue
			}
			if first {
				first = false
				if err := out.collapsed(r.Position, w.Number-uint64(len(w.Secrets)), rec.Time); err != nil {
					return false, err
				}
			}
			if err := out.secretLines(r.Position, rec, w); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return refuse(Internal, "reading update log: %w", err)
	}
	if first {
		if err := out.collapsed(s.position, s.secretLineCount, s.time); err != nil {
			return err
		}
	}
	return out.upTo(s.position + 1)
}

// logMerger merges the permanent lines into the stream of secret lines by position.
type logMerger struct {
	lines []logLine
	yield func(string) error
}

// upTo yields the permanent lines before position.
func (m *logMerger) upTo(position uint64) error {
	for len(m.lines) > 0 && m.lines[0].Position < position {
		if err := m.yield(m.lines[0].Line); err != nil {
			return err
		}
		m.lines = m.lines[1:]
	}
	return nil
}

// collapsed stands for n secret lines before position that are gone.
func (m *logMerger) collapsed(position, n uint64, t time.Time) error {
	if n == 0 {
		return nil
	}
	if err := m.upTo(position); err != nil {
		return err
	}
	return m.yield(line(t, "Earlier Secret set entries removed", field{"count", n}))
}

func (m *logMerger) secretLines(position uint64, rec *record, w *secretsWritten) error {
	if err := m.upTo(position); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(w.Secrets)) {
		text := line(rec.Time, "Secret set", field{"user", rec.Actor}, field{"secret", name},
			field{"type", w.Secrets[name].Type})
		if err := m.yield(text); err != nil {
			return err
		}
	}
	return nil
}
