// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package docs executes the command blocks of the documentation, so that it cannot rot.
//
// Every block marked bash in docs/tutorial and docs/howto runs, in order, one shell per page, from the repository's root, in a
// network namespace of its own: the pages can name the default ports.
package docs

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/marblerun/marblerun/test/harness"
)

func TestCommandBlocks(t *testing.T) {
	if err := exec.Command("unshare", "--net", "true").Run(); err != nil {
		t.Skipf("SKIP: no network namespace of its own: %v", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIP: iproute2 is not installed")
	}
	root := harness.Root(t)
	var pages []string
	for _, folder := range []string{"tutorial", "howto"} {
		found, err := filepath.Glob(filepath.Join(root, "docs", folder, "*.md"))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	if len(pages) == 0 {
		t.Fatal("no pages found")
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) { run(t, root, page) })
	}
}

func run(t *testing.T, root, page string) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	script, n := blocks(string(text))
	if n == 0 {
		t.Skip("SKIP: no bash blocks")
	}
	home := t.TempDir()
	cmd := exec.Command("unshare", "--net", "bash", "-c", "ip link set lo up\n"+script)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "GOCACHE="+goEnv(t, "GOCACHE"),
		"GOPATH="+goEnv(t, "GOPATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// To a file: a background process that stays behind would keep a pipe open.
	out, err := os.Create(filepath.Join(home, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what the page left running
	printed, _ := os.ReadFile(out.Name())
	if err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
	t.Logf("%d blocks\n%s", n, printed)
}

// blocks joins the bash blocks of a page, each announced, with a shell that stops at the first failure.
func blocks(page string) (script string, n int) {
	var b bytes.Buffer
	b.WriteString("set -euo pipefail\n")
	inside := false
	for l := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(l, "```bash"):
			inside = true
			n++
			b.WriteString("set -x\n")
		case strings.HasPrefix(l, "```"):
			inside = false
		case inside:
			b.WriteString(l)
		}
	}
	return b.String(), n
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
