// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is the marblerun command, on top of package api: the root, the small commands, and one package for each
// family of commands.
//
// Invariants: the only anchor of trust is a Coordinator's root certificate, taken from a quote that this very command
// verified, from the cache of earlier verifications (package trust), or, with --insecure, from whoever answers; in each
// case the connection is pinned to it. Nothing is downloaded. Data goes to stdout, everything said about it to stderr,
// but for the lines that scripts for MarbleRun 1.x look for on stdout. The exit code is 0 or 1. Secrets are printed
// only where printing them is the command, and recovery data that cannot be saved is printed rather than lost.
//
// The surroundings (arguments, streams, environment, version) come in through Env, so that tests run the whole program.
package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/attest/collateral/qcnl"
	"github.com/marblerun/marblerun/internal/cli/bancmd"
	"github.com/marblerun/marblerun/internal/cli/collateralcmd"
	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/evidencecmd"
	"github.com/marblerun/marblerun/internal/cli/kubecmd"
	"github.com/marblerun/marblerun/internal/cli/manifestcmd"
	"github.com/marblerun/marblerun/internal/cli/recovercmd"
	"github.com/marblerun/marblerun/internal/cli/secretcmd"
	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/internal/cli/trust"
)

// Env is everything the program takes from its surroundings.
type Env struct {
	// Args are the arguments without the program's name.
	Args           []string
	Stdout, Stderr io.Writer
	// ColorOut and ColorErr: the stream is a terminal that shows colors, and nobody objects.
	ColorOut, ColorErr bool
	// Terminal: stdout is a terminal. What goes there is freed of control characters; stderr always is.
	Terminal bool
	// Live is stderr if it is a terminal on which lines can be rewritten; nil: it is not.
	Live *console.Terminal
	// Stdin is read by commands that are told to, with "-" in place of a file; nil: there is none.
	Stdin io.Reader
	// ConfigDir returns the user's configuration directory. It may fail; only commands that need it do then, too.
	ConfigDir func() (string, error)
	// CacheDir returns the user's cache directory; nil: nothing is cached.
	CacheDir func() (string, error)
	// QCNLPath is where the machine names its service of collateral; empty: nowhere.
	QCNLPath string
	// Version is the program's, e.g. "v2.0.0"; Commit is 40 hex digits.
	Version, Commit string
	// Verifier verifies evidence in place of the real verifier (tests). Nil: the real one.
	Verifier api.Verifier
	// EmbeddedPolicy is the era file that the release was built with; empty: none.
	EmbeddedPolicy []byte
}

// OS returns the surroundings of a real process.
func OS(version, commit string) Env {
	return Env{
		Args: os.Args[1:], Stdout: os.Stdout, Stderr: os.Stderr,
		ColorOut: colors(os.Stdout), ColorErr: colors(os.Stderr), Terminal: term.IsTerminal(int(os.Stdout.Fd())),
		Live: live(os.Stderr), Stdin: os.Stdin,
		ConfigDir: os.UserConfigDir, CacheDir: os.UserCacheDir, QCNLPath: qcnl.DefaultPath,
		Version: version, Commit: commit,
		EmbeddedPolicy: trust.EmbeddedPolicy(),
	}
}

// colors: see https://no-color.org.
func colors(f *os.File) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}

// live is a terminal that understands escape sequences.
func live(f *os.File) *console.Terminal {
	if os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &console.Terminal{Out: f, Width: func() int {
		width, _, err := term.GetSize(int(f.Fd()))
		if err != nil || width < 1 { // 0: nobody has told the terminal
			return 80
		}
		return width
	}}
}

// Run runs the program and returns its exit code: 0, or 1 after any error.
func Run(ctx context.Context, env Env) int {
	env.Stderr = console.Filter(env.Stderr)
	if env.Terminal {
		env.Stdout = console.Filter(env.Stdout)
	}
	out := &sink{Writer: env.Stdout}
	env.Stdout = out
	root := Root(env)
	root.SetArgs(env.Args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil && out.err == nil {
		return 0
	}
	if err == nil { // nobody has noticed
		fmt.Fprintln(env.Stderr, console.Paint(env.ColorErr, console.Red, "Error:"), out.err)
		return 1
	}
	if hint := cmp.Or(api.Hint(err), session.FlagHint(cmd, err), session.ReachHint(err)); hint != "" {
		fmt.Fprintln(env.Stderr, console.Paint(env.ColorErr, console.Cyan, "Hint:"), hint)
	}
	return 1
}

// sink remembers the first failure of a writer: what did not arrive on stdout must not look like success.
type sink struct {
	io.Writer
	err error
}

func (s *sink) Write(data []byte) (int, error) {
	n, err := s.Writer.Write(data)
	if s.err == nil {
		s.err = err
	}
	return n, err
}

// app makes the commands of one run that have no package of their own.
type app struct{ *session.Session }

// Root returns the command tree.
func Root(env Env) *cobra.Command {
	a := &app{&session.Session{
		Console: console.Console{
			Out: env.Stdout, Err: env.Stderr, ColorOut: env.ColorOut, ColorErr: env.ColorErr, Live: env.Live,
		},
		ConfigDir: env.ConfigDir, CacheDir: env.CacheDir, QCNLPath: env.QCNLPath,
		Verifier: env.Verifier, EmbeddedPolicy: env.EmbeddedPolicy,
	}}
	root := &cobra.Command{
		Use:   "marblerun",
		Short: "Manage your confidential computing service mesh with ease",
		Long: "Manage your confidential computing service mesh with ease.\n\n" +
			"marblerun verifies a Coordinator, gives it a manifest and keeps watch over it.",
		// Once the arguments are understood, an error is not one of usage.
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			cmd.SilenceUsage = true
			a.FlagSet = cmd.Flags().Changed
		},
	}
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetErrPrefix(console.Paint(env.ColorErr, console.Red, "Error:"))
	a.AddFlags(root.PersistentFlags())
	kube := kubecmd.Kube{Session: a.Session, Stdin: env.Stdin, Version: env.Version, Commit: env.Commit}
	root.AddCommand(kube.Commands()...)
	root.AddCommand(manifestcmd.Command(a.Session), a.statusCmd(), a.activationsCmd(), a.certificateCmd(),
		secretcmd.Command(a.Session), bancmd.Command(a.Session),
		recovercmd.Command(a.Session), recovercmd.SignedCommand(a.Session),
		evidencecmd.Command(a.Session), collateralcmd.Command(a.Session), packageInfo(&a.Console), kube.VersionCommand())
	before1 := packageInfo(&a.Console) // its name until MarbleRun 0.4
	before1.Use, before1.Hidden = "sgxsdk-package-info <path>", true
	root.AddCommand(before1)
	return root
}
