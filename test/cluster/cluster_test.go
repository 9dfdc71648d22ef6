// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const inside = "MARBLERUN_CLUSTER_INSIDE"

// cluster is a cluster of this test's own.
type cluster struct {
	t    *testing.T
	name string
	dir  string // this package's folder
}

func newCluster(t *testing.T, role string) cluster {
	t.Helper()
	if os.Getenv("MARBLERUN_CLUSTER_TEST") != "1" {
		t.Skip("MARBLERUN_CLUSTER_TEST is not 1: no real cluster is started")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{t: t, name: fmt.Sprintf("%s-%d", role, os.Getpid()), dir: dir}
	t.Cleanup(func() { c.must("down") })
	return c
}

func (c cluster) state() string { return filepath.Join(c.dir, ".state", c.name) }

// run returns what "cluster ARGS..." prints, and its exit code.
func (c cluster) run(env []string, args ...string) (string, int) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(c.dir, "cluster"), args...)
	cmd.Env = append(append(os.Environ(), "MARBLERUN_CLUSTER="+c.name), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (c cluster) must(args ...string) string {
	c.t.Helper()
	out, code := c.run(nil, args...)
	if code != 0 {
		c.t.Fatalf("cluster %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func TestCluster(t *testing.T) {
	c := newCluster(t, "selftest")
	c.must("build")
	before := machine(t)
	t.Logf("%s", c.must("up"))
	node := c.processOf("node")
	spaces := namespaces(t, node)

	if out := c.must("up"); !strings.Contains(out, "is up already") {
		t.Errorf("a second up says %q", out)
	}
	if _, code := c.run(nil, "exec", "sh", "-c", "exit 7"); code != 7 {
		t.Errorf("exec passes exit code %d, want 7", code)
	}
	if _, code := c.run(nil, "status"); code != 0 {
		t.Errorf("status of a running cluster: exit code %d", code)
	}
	c.loadImages()
	c.testInside()
	c.must("down")
	c.wantNothing(before, spaces)
	if _, code := c.run(nil, "status"); code != 1 {
		t.Errorf("status after down: exit code %d, want 1", code)
	}
	if _, code := c.run(nil, "exec", "true"); code != 125 {
		t.Errorf("exec after down: exit code %d, want 125", code)
	}
}

// A session that ended left a cluster without processes: the next up clears it away. Another cluster runs beside it.
func TestLeftOver(t *testing.T) {
	c, other := newCluster(t, "left"), newCluster(t, "beside")
	before := machine(t)
	c.must("up")
	other.must("up")
	spaces := namespaces(t, c.processOf("node"))
	if err := syscall.Kill(c.processOf("starter"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the node to end", func() error {
		if _, code := c.run(nil, "status"); code != 1 {
			return fmt.Errorf("status: exit code %d", code)
		}
		return nil
	})
	c.must("up")
	c.must("exec", "kubectl", "get", "nodes")
	c.must("down")
	other.must("exec", "getent", "hosts", "kubernetes.default.svc.cluster.local")
	other.must("down")
	c.wantNothing(before, spaces)
}

// A part that does not start is named, with the reason from its log; nothing goes on running.
func TestFailedUp(t *testing.T) {
	c := newCluster(t, "failed")
	before := machine(t)
	out, code := c.run([]string{"MARBLERUN_CLUSTER_PROXY=pigeons"}, "up")
	if code != 1 || !strings.Contains(out, "proxy says") || !strings.Contains(out, "pigeons") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out := c.must("logs", "proxy"); !strings.Contains(out, "pigeons") {
		t.Errorf("the log is lost: %q", out)
	}
	c.must("down")
	c.wantNothing(before, nil)
}

// testInside runs TestInside as a user of the cluster would run a test.
func (c cluster) testInside() {
	c.t.Helper()
	command := filepath.Join(c.dir, "cluster")
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^TestInside$", "-exec", command+" exec", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", inside+"=1", "MARBLERUN_CLUSTER="+c.name)
	out, err := cmd.CombinedOutput()
	c.t.Logf("inside:\n%s", out)
	if err != nil {
		c.t.Error(err)
	}
}
