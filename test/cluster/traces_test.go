// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is what a cluster could leave behind on the machine.
func machine(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Split(strings.TrimSpace(string(mounts)), "\n")
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(home, ".kube", "cache"), "/var/lib/kubelet", "/var/lib/cni",
		"/usr/libexec/kubernetes", "/run/containerd", "/var/log/pods", "/var/log/containers", "/run/cni", "/etc/cni"} {
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// wantNothing compares the machine with what it was, and looks for anything with the cluster's name or namespaces.
func (c cluster) wantNothing(before []string, spaces []string) {
	c.t.Helper()
	for _, m := range machine(c.t) {
		if !slices.Contains(before, m) {
			c.t.Errorf("left on the machine: %s", m)
		}
	}
	if _, err := os.Lstat(c.state()); err == nil {
		c.t.Errorf("left: %s", c.state())
	}
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "marblerun-"+c.name+"-") {
			c.t.Errorf("left: %s", path)
		}
		return nil // cgroups of others come and go
	})
	if err != nil {
		c.t.Error(err)
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	if err != nil {
		c.t.Error(err)
	}
	for _, link := range links {
		if space, err := os.Readlink(link); err == nil && slices.Contains(spaces, space) {
			c.t.Errorf("left: the process with %s is in %s", link, space)
		}
	}
}

// processOf returns the PID of one of the cluster's two processes that have their identity in the state folder.
func (c cluster) processOf(file string) int {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.state(), file))
	if err != nil {
		c.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(string(b))[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return pid
}

// namespaces returns those of a process that are not the test's own.
func namespaces(t *testing.T, pid int) []string {
	t.Helper()
	var spaces []string
	for _, kind := range []string{"mnt", "net", "pid", "uts", "ipc", "cgroup"} {
		theirs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		if theirs == ours {
			t.Errorf("the node has no %s namespace of its own", kind)
			continue
		}
		spaces = append(spaces, theirs)
	}
	return spaces
}

// waitFor tries for up to 60 s.
func waitFor(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("waiting for %s: %v", what, err)
}
