// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package premain is the program that runs before a Marble's: it activates the Marble, applies what the manifest
// gives it, and becomes the Marble's program by exec.
//
// What it runs in decides the details (marble-api §10). It is told by uname:
//
//	Gramine   Linux 3.10.0, version 1, x86_64   program: the own argv[0], i.e. loader.argv[0]; evidence: /dev/attestation
//	Occlum    Occlum                            program: Argv[0] of the manifest; evidence: /dev/sgx
//	process   anything else                     program: the first argument, else Argv[0] of the manifest; evidence:
//	                                            configfs-tsm in a confidential VM, none elsewhere
//
// Invariants:
//   - The Marble's arguments come from the manifest alone. Arguments of the host are dropped, with a warning.
//   - The environment is the own one and on top of it the manifest's; nothing is removed.
//   - Any failure before exec ends with a non-zero exit and one line that says what to do. The program never runs
//     half configured.
package premain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/issue/socket"
	"github.com/marblerun/marblerun/marble"
)

// The variables that name a software TEE, for tests and demonstrations (package attest/issue/socket).
const (
	EnvSoftwareTEE     = "EDG_SOFTTEE_SOCKET" // path of its Unix socket
	EnvSoftwareTEEKind = "EDG_SOFTTEE_KIND"   // kind of evidence, e.g. "snp-v3"; empty is the socket's default
)

// Config is the premain's surroundings. Real fills it in.
type Config struct {
	// Args are the own arguments, program name first.
	Args   []string
	Getenv func(string) string
	Stderr io.Writer
	// Uname tells the runtime.
	Uname issue.Uname
	// Detect finds a source of evidence.
	Detect func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error)
	// Apply is where parameters go; Runtime and Log are set by Run.
	Apply marble.ApplyConfig
	// Exec replaces the process. It returns only if it fails.
	Exec func(program string, argv, env []string) error
	// Environ is the environment after Apply.
	Environ func() []string
}

// Real is the Config of this process.
func Real() Config {
	return Config{
		Args: os.Args, Getenv: os.Getenv, Stderr: os.Stderr, Uname: issue.Host(), Detect: issue.Detect,
		Exec: syscall.Exec, Environ: os.Environ,
	}
}

// Main runs the premain and returns the exit code: it returns at all only if something failed.
func Main(ctx context.Context, config Config) int {
	log := logger(config.Stderr, config.Getenv)
	err := Run(ctx, config, log)
	if err == nil {
		return 0 // only with an Exec that returns
	}
	log.Error(err.Error())
	if hint := marble.Hint(err); hint != "" {
		log.Error("hint: " + hint)
	}
	return 1
}

// Run activates, applies and executes.
func Run(ctx context.Context, config Config, log *slog.Logger) error {
	log.Info("starting PreMain")
	runtime := Runtime(config.Uname)
	log.Info("detected runtime", "runtime", runtime)
	log.Info("fetching env variables")
	activation, err := marble.ConfigFromEnv(config.Getenv)
	if err != nil {
		return err
	}
	activation.Log = log
	if activation.Issuer, err = issuer(ctx, config, log); err != nil {
		return err
	}
	params, err := marble.Activate(ctx, activation)
	if err != nil {
		return err
	}
	program, argv := command(runtime, config.Args, params.Args(), log)
	config.Apply.Runtime, config.Apply.Log = runtime, log
	if err := params.Apply(config.Apply); err != nil {
		return err
	}
	return execute(config, runtime, program, argv, log)
}

// Runtime tells the library OS by uname.
func Runtime(u issue.Uname) marble.Runtime {
	switch {
	case u == issue.Uname{Sysname: "Linux", Release: "3.10.0", Version: "1", Machine: "x86_64"}:
		return marble.Gramine
	case u.Sysname == "Occlum":
		return marble.Occlum
	}
	return marble.Process
}

// issuer finds the source of evidence. None is no error: the Coordinator decides whether it admits the Marble
// without. A software TEE is refused where there is a real one: its evidence could only make the Marble look like
// something else.
func issuer(ctx context.Context, config Config, log *slog.Logger) (marble.Issuer, error) {
	found, _, err := config.Detect(ctx, issue.Config{Log: log})
	path := config.Getenv(EnvSoftwareTEE)
	switch {
	case path != "" && err == nil:
		return nil, &marble.Error{Text: EnvSoftwareTEE + " is set, but this process runs in a TEE (" + found.Name() + ")",
			Hint: "unset it"}
	case path != "" && errors.Is(err, issue.ErrNoTEE):
		log.Warn("using SIMULATED evidence of a software TEE", "socket", path)
		return softwareTEE(ctx, path, config.Getenv(EnvSoftwareTEEKind))
	case errors.Is(err, issue.ErrNoTEE):
		return noEvidence{err}, nil
	}
	return found, err
}

func softwareTEE(ctx context.Context, path, kind string) (marble.Issuer, error) {
	found, err := socket.Open(ctx, path, kind)
	if err != nil {
		return nil, &marble.Error{Text: "asking the software TEE for evidence", Err: err, Hint: "check " + EnvSoftwareTEE}
	}
	return found, nil
}

// noEvidence says why there is none where the activation asks for it.
type noEvidence struct{ why error }

func (n noEvidence) Issue(context.Context, [64]byte) ([]byte, error) { return nil, n.why }

// command decides what is executed, with which arguments.
func command(runtime marble.Runtime, own, manifest []string, log *slog.Logger) (program string, argv []string) {
	switch runtime {
	case marble.Gramine:
		return own[0], manifest
	case marble.Occlum:
		return manifest[0], append([]string{filepath.Base(manifest[0])}, manifest[1:]...)
	}
	program = manifest[0]
	if len(own) > 1 {
		program = own[1]
	}
	if len(own) > 2 {
		log.Warn("ignoring arguments of the command line: a Marble's arguments come from the manifest", "ignored", len(own)-2)
	}
	return program, manifest
}

// execute looks for the program after the files were written: it may be one of them.
func execute(config Config, runtime marble.Runtime, program string, argv []string, log *slog.Logger) error {
	path, err := find(runtime, program)
	if err != nil {
		return err
	}
	log.Info("done with PreMain")
	if err := config.Exec(path, argv, config.Environ()); err != nil {
		return &marble.Error{Text: "starting " + path, Err: err, Hint: "is it an executable for this machine?"}
	}
	return nil
}

func find(runtime marble.Runtime, program string) (string, error) {
	if runtime == marble.Occlum {
		if _, err := os.Stat(program); err != nil {
			return "", &marble.Error{Text: "invalid entrypoint definition in argv[0]", Err: err,
				Hint: "under Occlum the first entry of Argv in the manifest is the path of the program"}
		}
	}
	if runtime != marble.Process || strings.ContainsRune(program, filepath.Separator) {
		return program, nil
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", &marble.Error{Text: fmt.Sprintf("finding the program %q", program), Err: err,
			Hint: "start \"premain-libos PROGRAM\", or make the first entry of Argv in the manifest its path"}
	}
	return path, nil
}
