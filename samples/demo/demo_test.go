// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the whole demo, as "make demo" does, with real processes.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts eight programs")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	if err := run(ctx, &screen{out: &out}, false); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for n := range steps() {
		if !strings.Contains(out.String(), fmt.Sprintf("[%d/%d] ", n+1, len(steps()))) {
			t.Errorf("step %d was not shown", n+1)
		}
	}
	if strings.Contains(out.String(), "skipping quote verification") {
		t.Error("the CLI did not verify the Coordinator")
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if len([]rune(line)) > width {
			t.Errorf("too wide: %q", line)
		}
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), "marblerun-demo-") {
			t.Errorf("%s is left behind", entry.Name())
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestFailure: a step that fails is shown with the logs of what it started, and everything is cleaned up.
func TestFailure(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	d, err := newDemo(&screen{out: &out}, false)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{}
	err = d.show(t.Context(), 1, 1, step{"Break", func(ctx context.Context, d *demo) (string, error) {
		p, err = d.start("broken", d.dir, nil, "/bin/sh", "-c", "echo the reason; exec sleep 600")
		if err != nil {
			return "", err
		}
		if err := d.await(ctx, p, "it speaks", sees(p, "the reason")); err != nil {
			return "", err
		}
		return "", fmt.Errorf("it is broken")
	}})
	if err == nil {
		t.Error("the failure was not reported")
	}
	d.cleanUp()
	for _, want := range []string{"FAILED: Break", "it is broken", "broken.log", "the reason"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
	if !p.ended() {
		t.Error("the process was left running")
	}
	if _, err := os.Stat(d.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is left behind: %v", err)
	}
}
