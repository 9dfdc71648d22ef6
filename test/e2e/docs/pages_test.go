// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pageTimeout bounds one page.
const pageTimeout = 10 * time.Minute

const placeholder = "it is a placeholder of the seed guide"

// substitutions is all that is changed in the guides before they are executed.
func (c *cluster) substitutions() []Substitution {
	return []Substitution{
		{Old: "https://helm.edgeless.systems/stable", New: c.repository, Why: "there may be no way to the Internet: " +
			"a loopback server has what `go run ./release` made of this checkout, under the same repository name"},
		{Old: "https://marblerun.github.io/helm/stable", New: c.repository, Why: "it is the same one, as it will be published"},
		{Old: "<image_name>", New: "oe-app", Why: placeholder},
		{Old: "<image_reference>", New: "ghcr.io/marblerun/marblerun/samples/web:v0.1.0", Why: placeholder},
		{Old: "<exec>", New: "[/premain-libos]", Why: placeholder},
	}
}

// root is the root of the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func pages(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root(t), "docs", "howto", "kubernetes", "*.md"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	return found
}

func read(t *testing.T, file string) []Block {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := Parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return blocks
}

// Every page can be read, executes something, and is shell that bash understands: this needs no cluster.
func TestPagesParse(t *testing.T) {
	for _, page := range pages(t) {
		executed := 0
		for _, b := range read(t, page) {
			if b.Lang != "bash" {
				continue
			}
			check := exec.Command("bash", "-n")
			check.Stdin = strings.NewReader(b.Text)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", page, b.Line, err, out)
			}
			if b.NoE2E == "" {
				executed++
			}
		}
		if executed == 0 {
			t.Errorf("%s: no block is executed", page)
		}
	}
}

// TestPages executes every page on the cluster.
func TestPages(t *testing.T) {
	c := newCluster(t)
	c.loadShell(t)
	for _, page := range pages(t) {
		t.Run(filepath.Base(page), func(t *testing.T) {
			c.fresh(t)
			c.execute(t, read(t, page))
		})
	}
}

// execute runs the bash blocks in one session and reports each as a test of its own.
func (c *cluster) execute(t *testing.T, blocks []Block) {
	t.Helper()
	var texts []string
	var run []Block
	for _, b := range blocks {
		if b.Lang != "bash" {
			continue
		}
		if why := c.unfit(b); why != "" {
			t.Run(name(b), func(t *testing.T) { t.Skip("SKIP: " + why) })
			continue
		}
		run = append(run, b)
		texts = append(texts, Substitute(c.substitutions(), b.Text))
	}
	results := c.session(t, texts)
	for i, r := range results {
		t.Run(name(run[i]), func(t *testing.T) { r.judge(t, run[i]) })
	}
	if t.Failed() {
		t.Log(c.state())
	}
}

func (c *cluster) session(t *testing.T, texts []string) []Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pageTimeout)
	defer cancel()
	s := Session{Dir: c.root, Env: c.env, Log: filepath.Join(t.TempDir(), "log")}
	results, err := s.Run(ctx, texts)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func name(b Block) string {
	first, _, _ := strings.Cut(b.Text, "\n")
	return fmt.Sprintf("line %d: %s", b.Line, strings.TrimSuffix(first, ` \`))
}

// unfit says why a block is not executed, or nothing.
func (c *cluster) unfit(b Block) string {
	if b.NoE2E != "" {
		return b.NoE2E
	}
	for _, program := range b.Needs {
		if _, err := exec.LookPath(program); err != nil {
			return program + " is not installed"
		}
	}
	if i := slices.IndexFunc(b.NeedsImage, func(image string) bool { return !c.hasImage(image) }); i >= 0 {
		return "no node has the image " + b.NeedsImage[i]
	}
	return ""
}

// judge fails the test if the block failed, was not reached, or did not print what the page says.
func (r Result) judge(t *testing.T, b Block) {
	t.Helper()
	switch line, missing := b.Missing(r.Printed); {
	case !r.Started:
		t.Error("not reached")
	case r.Err != nil:
		t.Errorf("%v\n%s", r.Err, r.Printed)
	case missing:
		t.Errorf("the page says it prints a line %q (after those before it); it printed\n%s", line, r.Printed)
	default:
		t.Log(r.Printed)
	}
}

// state is what a person would look at when a page failed.
func (c *cluster) state() string {
	var b strings.Builder
	for _, command := range []string{
		"get all,pvc,pv,job -A -o wide", "get events -A --sort-by=.lastTimestamp",
		"-n marblerun logs --tail=30 -l app.kubernetes.io/part-of=marblerun --prefix",
		"-n echo logs --tail=20 -l marblerun/marbletype --prefix",
	} {
		out, err := c.try("kubectl", strings.Fields(command)...)
		fmt.Fprintf(&b, "\n--- kubectl %s (%v)\n%s", command, err, out)
	}
	return b.String()
}
