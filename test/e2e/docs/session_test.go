// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func run(t *testing.T, ctx context.Context, texts ...string) []Result {
	t.Helper()
	dir := t.TempDir()
	results, err := Session{Dir: dir, Env: os.Environ(), Log: filepath.Join(dir, "log")}.Run(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// One shell executes all blocks; each gets what it printed, on both streams.
func TestSession(t *testing.T) {
	r := run(t, t.Context(), "x=5\nsleep 60 &\n", "echo $x; echo err >&2", "printf unfinished", "cat <<'END'\n'%d'\nEND")
	want := []string{"", "5\nerr\n", "unfinished", "'%d'\n"}
	for i := range r {
		if !r[i].Started || r[i].Err != nil || r[i].Printed != want[i] {
			t.Errorf("block %d: %+v", i, r[i])
		}
	}
}

// A failure, also within a pipe or a function, or of an unset variable, ends the session; what follows is not started.
func TestSessionStops(t *testing.T) {
	for _, failing := range []string{
		"false\necho not reached", "false | cat", "f() { false; echo not reached; }; f", "echo $unset",
	} {
		r := run(t, t.Context(), "echo a", failing, "echo b")
		if !r[0].Started || r[0].Err != nil {
			t.Errorf("%q: block 0: %+v", failing, r[0])
		}
		if r[1].Err == nil || strings.Contains(r[1].Printed, "not reached") {
			t.Errorf("%q: block 1: %+v", failing, r[1])
		}
		if r[2].Started {
			t.Errorf("%q: block 2 was started", failing)
		}
	}
	if r := run(t, t.Context(), "ls /nowhere"); !strings.Contains(r[0].Printed, "FAILED with 2: ls /nowhere") {
		t.Errorf("the failed command is not named: %q", r[0].Printed)
	}
}

func TestSessionTimeout(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if r := run(t, ctx, "echo a", "sleep 60"); r[0].Err != nil || r[1].Err == nil {
		t.Errorf("%+v", r)
	}
}

func TestSubstitute(t *testing.T) {
	table := []Substitution{{Old: "https://far/stable", New: "http://near"}, {Old: "<image>", New: "web"}}
	const text = "helm repo add x https://far/stable # <image> <image>"
	if got := Substitute(table, text); got != "helm repo add x http://near # web web" {
		t.Error(got)
	}
}
