// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package harness runs the real Coordinator binary for tests: builds it, starts it on free loopback ports with a state
// directory of its own, talks to it as strangers would, kills it and starts it again.
package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Coordinator is a running Coordinator process.
type Coordinator struct {
	t      testing.TB
	binary string
	prefix []string // e.g. strace and its flags
	env    []string

	Dir        string // state directory
	ClientAddr string
	MeshAddr   string
	Metrics    string

	cmd  *exec.Cmd
	log  *buffer
	done chan struct{}
	err  error
}

// Options for Start. The zero value is a Coordinator in simulation on an empty directory.
type Options struct {
	Dir    string   // default: a new temporary directory
	Env    []string // added to, and overriding, the defaults
	Prefix []string // command to run the Coordinator under
	// Wait says whether to wait for the client API; NoWait for processes that are expected to fail.
	NoWait bool
}

var build struct {
	sync.Mutex
	dir   string
	built map[string]string
}

// Main runs the tests of a package that uses Build, and removes what was built.
func Main(m *testing.M) int {
	code := m.Run()
	if build.dir != "" {
		os.RemoveAll(build.dir)
	}
	return code
}

// Build builds the program in the given folder of the module, e.g. "cmd/coordinator", once per process.
func Build(t testing.TB, folder string) string {
	t.Helper()
	build.Lock()
	defer build.Unlock()
	if path, ok := build.built[folder]; ok {
		return path
	}
	if build.dir == "" {
		dir, err := os.MkdirTemp("", "marblerun-test-")
		if err != nil {
			t.Fatal(err)
		}
		build.dir, build.built = dir, map[string]string{}
	}
	path := filepath.Join(build.dir, filepath.Base(folder))
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./"+folder)
	cmd.Dir = Root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", folder, err, out)
	}
	build.built[folder] = path
	return path
}

// Root returns the module's root folder.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// FreeAddr returns a loopback address that was free a moment ago. Its port lies below the range from which the kernel
// takes ports for outgoing connections: a process that is killed and started again finds it free.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(20_000))
		var l net.Listener
		if l, err = net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal(err)
	return ""
}

// Start starts a Coordinator and waits until it answers.
func Start(t testing.TB, o Options) *Coordinator {
	t.Helper()
	c := &Coordinator{
		t: t, binary: Build(t, "cmd/coordinator"), prefix: o.Prefix, env: o.Env, Dir: o.Dir,
		ClientAddr: FreeAddr(t), MeshAddr: FreeAddr(t), Metrics: FreeAddr(t),
	}
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "state")
	}
	t.Cleanup(c.Kill)
	c.Run()
	if !o.NoWait {
		c.WaitReady()
	}
	return c
}

// Run starts the process again, on the same addresses and directory.
func (c *Coordinator) Run() {
	c.t.Helper()
	args := append(append([]string{}, c.prefix...), c.binary)
	c.cmd = exec.Command(args[0], args[1:]...)
	// No other environment than its own variables: the Coordinator must not need any.
	c.cmd.Env = append([]string{
		"EDG_COORDINATOR_SIMULATION=1", "EDG_COORDINATOR_SEAL_DIR=" + c.Dir,
		"EDG_COORDINATOR_CLIENT_ADDR=" + c.ClientAddr, "EDG_COORDINATOR_MESH_ADDR=" + c.MeshAddr,
		"EDG_COORDINATOR_PROMETHEUS_ADDR=" + c.Metrics,
	}, c.env...)
	if c.log == nil {
		c.log = &buffer{}
	}
	c.cmd.Stderr, c.cmd.Stdout = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	c.done = done
	go func() {
		c.err = c.cmd.Wait()
		close(done)
	}()
}

// WaitReady waits until the client API answers.
func (c *Coordinator) WaitReady() {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err := c.Status(); err == nil {
			return
		} else if time.Now().After(deadline) {
			c.t.Fatalf("the Coordinator does not answer: %v\n%s", err, c.Log())
		}
		select {
		case <-c.done:
			c.t.Fatalf("the Coordinator ended: %v\n%s", c.err, c.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill ends the process with SIGKILL and waits for its end.
func (c *Coordinator) Kill() {
	select {
	case <-c.done:
		return
	default:
	}
	syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
	<-c.done
}

// Stop ends the process with SIGTERM and returns its exit code.
func (c *Coordinator) Stop() int {
	c.cmd.Process.Signal(syscall.SIGTERM)
	return c.Wait()
}

// Wait waits for the process's end and returns its exit code.
func (c *Coordinator) Wait() int {
	c.t.Helper()
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.t.Fatalf("the Coordinator does not end\n%s", c.Log())
	}
	return c.cmd.ProcessState.ExitCode()
}

// Pid returns the process id.
func (c *Coordinator) Pid() int { return c.cmd.Process.Pid }

// Log returns everything that the process has printed, over all its runs.
func (c *Coordinator) Log() string { return c.log.String() }

// buffer is a log that can be read while it is written.
type buffer struct {
	sync.Mutex
	b strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.Lock()
	defer b.Unlock()
	return b.b.String()
}

// Shared returns a path below ../shared, next to the checkout, and skips the test where that folder is missing.
func Shared(t testing.TB, parts ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{Root(t), "..", "shared"}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIP: %s is not here", path)
	}
	return path
}
