// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Substitution is a text of a guide that cannot be had where it is tested.
type Substitution struct{ Old, New, Why string }

// Substitute applies a table to a command or an object, in the order of the table.
func Substitute(table []Substitution, text string) string {
	for _, s := range table {
		text = strings.ReplaceAll(text, s.Old, s.New)
	}
	return text
}

// Session is a bash that executes blocks one after the other and stops at the first failure.
type Session struct {
	// Dir is the working directory, Env the environment.
	Dir string
	Env []string
	// Log is a file for everything that is printed.
	Log string
}

// Result is what became of one command text.
type Result struct {
	// Started says that it was reached, Err that it, or what it left in the background at the end of the page, failed.
	Started bool
	Err     error
	// Printed is its standard output and error.
	Printed string
}

// grace is how long what a page left running may take to end.
const grace = 5 * time.Second

// Run executes the texts in one session and returns a result for each. Processes that they leave behind are ended.
func (s Session) Run(ctx context.Context, texts []string) ([]Result, error) {
	script := filepath.Join(filepath.Dir(s.Log), "script")
	if err := os.WriteFile(script, []byte(scriptOf(texts)), 0o600); err != nil {
		return nil, err
	}
	// Output to a file: a background process that stays behind would keep a pipe open.
	log, err := os.Create(s.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, "bash", script)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.Dir, s.Env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	runErr := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the page left running; often nothing
	}
	printed, err := os.ReadFile(s.Log)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		runErr = fmt.Errorf("%w: %w", ctx.Err(), runErr)
	}
	return resultsOf(string(printed), len(texts), runErr), nil
}

// mark separates what blocks print; it is no text that a program prints.
const mark = "\x1e block "

var marks = regexp.MustCompile(`\n` + mark + `(\d+)\n`)

// scriptOf joins the texts. The trap names the command that failed.
func scriptOf(texts []string) string {
	var b strings.Builder
	b.WriteString("set -Eeuo pipefail\n")
	b.WriteString("trap 'printf \"\\nFAILED with %d: %s\\n\" $? \"$BASH_COMMAND\" >&2' ERR\n")
	for i, text := range texts {
		fmt.Fprintf(&b, "printf '\\n%s%%d\\n' %d\n%s\n", `\036 block `, i, text)
	}
	return b.String()
}

// resultsOf cuts what was printed at the marks. The last block that was started gets the session's error.
func resultsOf(printed string, n int, err error) []Result {
	results := make([]Result, n)
	at := marks.FindAllStringSubmatchIndex(printed, -1)
	for i, m := range at {
		end := len(printed)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		k, convErr := strconv.Atoi(printed[m[2]:m[3]])
		if convErr != nil || k >= n {
			continue // no mark of ours
		}
		results[k] = Result{Started: true, Printed: printed[m[1]:end]}
		if i+1 == len(at) {
			results[k].Err = err
		}
	}
	return results
}
