// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Command is a program to run. Only Args is needed.
type Command struct {
	Args  []string // the program and its arguments
	Stdin string
	Dir   string   // working directory
	Env   []string // added to the environment
	// Within ends it; default 5 minutes.
	Within time.Duration
}

// Output is what a program printed, and its exit code.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Run runs a program, which must succeed.
func (k *Kit) Run(args ...string) Output {
	k.Helper()
	return k.Do(Command{Args: args})
}

// Fails runs a program, which must fail by itself.
func (k *Kit) Fails(args ...string) Output {
	k.Helper()
	return k.DoFails(Command{Args: args})
}

// Do is Run with all options.
func (k *Kit) Do(c Command) Output {
	k.Helper()
	out, err := k.Try(c)
	if err != nil {
		k.Fatal(err)
	}
	return out
}

// DoFails is Fails with all options.
func (k *Kit) DoFails(c Command) Output {
	k.Helper()
	out, err := k.Try(c)
	if err == nil {
		k.Fatalf("%s: success, want a failure\n%s%s", strings.Join(c.Args, " "), out.Stdout, out.Stderr)
	}
	if out.Code <= 0 {
		k.Fatal(err) // not found, or ended by a signal
	}
	return out
}

// Try runs a program. The error of one that fails has everything that it printed.
func (k *Kit) Try(c Command) (Output, error) {
	if c.Within == 0 {
		c.Within = 5 * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.Context()), c.Within)
	defer cancel()
	cmd := k.command(ctx, c)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	out := Output{stdout.String(), stderr.String(), -1}
	if cmd.ProcessState != nil {
		out.Code = cmd.ProcessState.ExitCode()
	}
	if ctx.Err() != nil {
		err = errors.Join(err, fmt.Errorf("it took more than %v", c.Within))
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s%s", strings.Join(c.Args, " "), err, out.Stdout, out.Stderr)
	}
	return out, nil
}

func (k *Kit) command(ctx context.Context, c Command) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir = c.Dir
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Env = append(k.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second // for pipes that a grandchild holds open
	return cmd
}

// Environ is the environment of programs that the test runs: files that helm and marblerun keep for a user are the
// test's own.
func (k *Kit) Environ() []string {
	return append(os.Environ(),
		"HELM_CACHE_HOME="+filepath.Join(k.home, "helm", "cache"), "HELM_CONFIG_HOME="+filepath.Join(k.home, "helm", "config"),
		"HELM_DATA_HOME="+filepath.Join(k.home, "helm", "data"), "XDG_CONFIG_HOME="+filepath.Join(k.home, "config"),
		"XDG_CACHE_HOME="+filepath.Join(k.home, "cache"), "XDG_DATA_HOME="+filepath.Join(k.home, "data"))
}

// Kubectl returns what kubectl printed to standard output.
func (k *Kit) Kubectl(args ...string) string {
	k.Helper()
	return k.Run(append([]string{"kubectl"}, args...)...).Stdout
}

// Helm returns what helm printed to standard output.
func (k *Kit) Helm(args ...string) string {
	k.Helper()
	return k.Run(append([]string{"helm"}, args...)...).Stdout
}

// Marblerun runs the CLI, which must succeed.
func (k *Kit) Marblerun(args ...string) Output {
	k.Helper()
	return k.Run(append([]string{"marblerun"}, args...)...)
}

// Apply applies YAML in a namespace ("" for none) with kubectl.
func (k *Kit) Apply(namespace, text string) Output {
	k.Helper()
	return k.Do(apply(namespace, text))
}

// ApplyFails applies YAML that the API server must refuse.
func (k *Kit) ApplyFails(namespace, text string) Output {
	k.Helper()
	return k.DoFails(apply(namespace, text))
}

func apply(namespace, text string) Command {
	args := []string{"kubectl", "apply", "-f", "-"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	return Command{Args: args, Stdin: text}
}
