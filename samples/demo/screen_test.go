// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestWrap(t *testing.T) {
	for text, want := range map[string][]string{
		"":                       {""},
		"one two":                {"one two"},
		"one two three":          {"one two", "three"},
		"  indented text here":   {"  indented", "  text", "  here"},
		"a verylongwordindeed b": {"a", "verylongwo", "rdindeed b"},
	} {
		if diff := cmp.Diff(want, wrap(text, 10)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// Whatever is shown, no line is wider than the screen and no character gets lost.
func TestWidth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		var out bytes.Buffer
		s := &screen{out: &out}
		s.command(text)
		s.output(text)
		s.line(text)
		s.proof(text, time.Second)
		s.failure("x", errors.New("y"))
		for _, line := range strings.Split(out.String(), "\n") {
			if n := len([]rune(line)); n > width {
				t.Errorf("%d columns: %q", n, line)
			}
		}
		squeeze := func(s string) string { return strings.Join(strings.Fields(s), "") }
		if got := squeeze(strings.Join(wrap(text, 20), " ")); got != squeeze(text) {
			t.Errorf("%q became %q", text, got)
		}
	})
}

func TestWelcome(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	s.welcome()
	for _, line := range strings.Split(out.String(), "\n") {
		if len(line) > width || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
}
