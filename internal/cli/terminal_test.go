// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/internal/cli"
	"github.com/marblerun/marblerun/internal/cli/fakecoordinator"
)

// TestTerminal: what an unverified Coordinator says does nothing to a terminal, and is exact in a pipe.
func TestTerminal(t *testing.T) {
	const evil = "\x1b[2J\x1b]0;pwned\x07"
	c, err := fakecoordinator.New()
	if err != nil {
		t.Fatal(err)
	}
	c.Notes = []string{evil}
	c.SetManifest([]byte(`{"Packages":{},"x":"` + evil + `"}`))
	c.Start()
	t.Cleanup(c.Close)
	run := func(terminal bool, args ...string) (string, string) {
		var stdout, stderr bytes.Buffer
		cli.Run(t.Context(), cli.Env{
			Args: append(args, c.Endpoint(), "-i"), Stdout: &stdout, Stderr: &stderr, Terminal: terminal,
			ConfigDir: func() (string, error) { return "", errors.New("none") },
		})
		return stdout.String(), stderr.String()
	}
	if _, stderr := run(false, "status"); strings.ContainsAny(stderr, "\x1b\x07") || !strings.Contains(stderr, `\x1b[2J`) {
		t.Errorf("stderr is %q", stderr)
	}
	if out, _ := run(true, "manifest", "get"); strings.ContainsAny(out, "\x1b\x07") || !strings.Contains(out, `\x1b[2J`) {
		t.Errorf("the terminal gets %q", out)
	}
	if out, _ := run(false, "manifest", "get"); !strings.Contains(out, evil) {
		t.Errorf("the pipe gets %q", out)
	}
}

// reader sees what is printed while the program runs.
type reader struct {
	bytes.Buffer
	saw func(text string)
}

func (r *reader) Write(text []byte) (int, error) {
	n, err := r.Buffer.Write(text)
	r.saw(r.String())
	return n, err
}

// TestLogFollow reads lines as they come, until the user has enough.
func TestLogFollow(t *testing.T) {
	c, err := fakecoordinator.New()
	if err != nil {
		t.Fatal(err)
	}
	c.SetManifest([]byte(`{}`))
	c.Start()
	t.Cleanup(c.Close)
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	added := false
	out := &reader{saw: func(text string) {
		switch {
		case !added:
			added = true
			c.AddLog(`{"update":"later"}`)
		case strings.Contains(text, "later"):
			enough()
		}
	}}
	code := cli.Run(ctx, cli.Env{
		Args: []string{"manifest", "log", c.Endpoint(), "-i", "--follow", "-o", "json"}, Stdout: out, Stderr: &bytes.Buffer{},
		ConfigDir: func() (string, error) { return "", errors.New("none") },
	})
	const want = `{"time":"2026-01-02T03:04:05.000Z","update":"Initial manifest set"}` + "\n" + `{"update":"later"}` + "\n"
	if code != 0 || out.String() != want {
		t.Errorf("exit code %d, got %s", code, out)
	}
}
