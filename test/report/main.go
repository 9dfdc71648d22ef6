// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Program report runs `go test -json` with the given arguments and prints what a person wants to see: a line per package
// as it finishes, the output of failed tests, skipped tests with their reason, and the counts.
//
// If MARBLERUN_TEST_COUNTS names a file, "PASSED FAILED" is written there.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

func main() {
	failed, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

// line is one event of test2json.
type line struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// tally collects the events.
type tally struct {
	out                     io.Writer
	passed, failed, skipped int
	output                  map[string][]string // by package and test
	failures                []string
}

func run(args []string, out io.Writer) (bool, error) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	started := time.Now()
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return true, err
	}
	if err := cmd.Start(); err != nil {
		return true, err
	}
	t := &tally{out: out, output: map[string][]string{}}
	t.read(pipe)
	waitErr := cmd.Wait()
	if waitErr != nil && t.failed == 0 {
		t.failed++ // a package that did not build
	}
	for _, f := range t.failures {
		fmt.Fprintf(out, "\n--- FAIL %s\n%s", f, strings.Join(t.output[f], ""))
	}
	fmt.Fprintf(out, "\n%s\n%d passed, %d failed, %d skipped\n", time.Since(started).Round(time.Second), t.passed, t.failed,
		t.skipped)
	return t.failed > 0, writeCounts(t)
}

func writeCounts(t *tally) error {
	file := os.Getenv("MARBLERUN_TEST_COUNTS")
	if file == "" {
		return nil
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%d %d\n", t.passed, t.failed), 0o644)
}

func (t *tally) read(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		var l line
		if json.Unmarshal(s.Bytes(), &l) != nil {
			fmt.Fprintln(t.out, s.Text()) // not an event: the build's own words
			continue
		}
		t.event(l)
	}
}

func (t *tally) event(l line) {
	name := strings.TrimSuffix(l.Package+" "+l.Test, " ")
	switch l.Action {
	case "output", "build-output":
		t.output[name] = append(t.output[name], l.Output)
	case "build-fail":
		t.failures = append(t.failures, name)
	case "pass", "fail", "skip":
		t.finished(l, name)
	}
}

func (t *tally) finished(l line, name string) {
	if l.Test == "" {
		t.packageFinished(l, name)
		return
	}
	switch l.Action {
	case "pass":
		t.passed++
		delete(t.output, name)
	case "skip":
		t.skipped++
		fmt.Fprintf(t.out, "SKIP %s: %s\n", name, skipReason(t.output[name]))
	case "fail":
		t.failed++
		t.failures = append(t.failures, name)
	}
}

func (t *tally) packageFinished(l line, name string) {
	mark := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "-   "}[l.Action]
	fmt.Fprintf(t.out, "%s %-60s %6.1fs\n", mark, strings.TrimPrefix(l.Package, "github.com/marblerun/marblerun/"), l.Elapsed)
	failedTest := slices.ContainsFunc(t.failures, func(f string) bool { return strings.HasPrefix(f, name) })
	if l.Action == "fail" && !failedTest {
		t.failed++
		t.failures = append(t.failures, name)
	}
}

// skipReason is the last line that the test printed before it was skipped.
func skipReason(output []string) string {
	for _, o := range slices.Backward(output) {
		o = strings.TrimSpace(o)
		if o != "" && !strings.HasPrefix(o, "---") && !strings.HasPrefix(o, "===") {
			return o
		}
	}
	return "no reason given"
}
