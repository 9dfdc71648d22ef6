// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/marblerun/marblerun/internal/cli"
)

var update = flag.Bool("update", false, "write golden files anew")

// run runs the program in this process and returns its exit code, stdout and stderr.
func run(args ...string) (code int, out, err string) {
	var stdout, stderr bytes.Buffer
	code = cli.Run(context.Background(), cli.Env{
		Args: args, Stdout: &stdout, Stderr: &stderr, Version: "v2.3.4", Commit: "c0ffee",
		ConfigDir: func() (string, error) { return "", errors.New("none") },
	})
	return code, stdout.String(), stderr.String()
}

// commands are the words of all commands that people may use, those of cobra and those of the past excepted.
func commands() [][]string {
	var all [][]string
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		all = append(all, strings.Fields(cmd.CommandPath())[1:])
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				walk(sub)
			}
		}
	}
	walk(cli.Root(cli.Env{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}))
	return all
}

func TestHelp(t *testing.T) {
	var text strings.Builder
	for _, words := range commands() {
		code, out, stderr := run(append(words, "--help")...)
		if code != 0 || stderr != "" {
			t.Fatalf("%v: exit code %d, stderr %q", words, code, stderr)
		}
		// The global flags are those of the root, where they are shown once.
		out, _, _ = strings.Cut(out, "\nGlobal Flags:")
		text.WriteString("$ marblerun " + strings.Join(append(words, "--help"), " ") + "\n" + out + "\n")
	}
	golden := filepath.Join("testdata", "help.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("help changed; if it should, run with -update\n%s", diff)
	}
}

// TestReference: the reference page names every command and every global flag.
func TestReference(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range commands()[1:] {
		if command := "`marblerun " + strings.Join(words, " "); !strings.Contains(string(page), command) {
			t.Errorf("docs/reference/cli.md does not mention %s", command)
		}
	}
	root := cli.Root(cli.Env{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	for line := range strings.Lines(root.PersistentFlags().FlagUsages()) {
		name := strings.Fields(line[strings.Index(line, "--"):])[0]
		if !strings.Contains(string(page), name) {
			t.Errorf("docs/reference/cli.md does not mention %s", name)
		}
	}
}

// TestReadingCommands: every command that reads offers JSON.
func TestReadingCommands(t *testing.T) {
	writing := map[string]bool{
		"manifest set": true, "manifest update apply": true, "manifest update acknowledge": true,
		"manifest update cancel": true, "secret set": true, "recover": true, "recover-with-signature": true,
		"recover-with-signature sign-secret": true, "recover-with-signature encrypt-secret": true,
		"secret rotate": true, "ban add": true, "ban remove": true,
		"collateral export": true, "collateral import": true,
	}
	root := cli.Root(cli.Env{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}})
	for _, words := range commands()[1:] {
		cmd, _, err := root.Find(words)
		if err != nil {
			t.Fatal(err)
		}
		if cmd.HasSubCommands() || writing[strings.Join(words, " ")] {
			continue
		}
		output := cmd.Flags().Lookup("output")
		if output == nil || !strings.Contains(output.Usage+output.Value.Type(), "json") {
			t.Errorf("%v has no JSON output", words)
		}
	}
}

func TestColors(t *testing.T) {
	var stderr bytes.Buffer
	env := cli.Env{Args: []string{"status", "a b"}, Stdout: &bytes.Buffer{}, Stderr: &stderr, ColorErr: true}
	env.Args = append(env.Args, "-i")
	if code := cli.Run(context.Background(), env); code != 1 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"\x1b[33mWarning:\x1b[0m ", "\x1b[31mError:\x1b[0m ", "\x1b[36mHint:\x1b[0m "} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in %q", want, stderr.String())
		}
	}
}

// full is a disk without space.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// What does not arrive on stdout is a failure.
func TestLostOutput(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	env := cli.Env{Args: []string{"manifest", "signature", path}, Stdout: full{}, Stderr: &stderr}
	if code := cli.Run(t.Context(), env); code != 1 || stderr.String() != "Error: no space left on device\n" {
		t.Errorf("exit code %d, %q", code, stderr.String())
	}
}
