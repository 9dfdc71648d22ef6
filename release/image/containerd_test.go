// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// containerd imports the archive and finds it under its whole name. It runs in a folder of its own, without network.
func TestContainerdImportsTheArchive(t *testing.T) {
	for _, program := range []string{"containerd", "ctr"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP: %v", err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("SKIP: containerd needs root")
	}
	socket := startContainerd(t)
	archive := filepath.Join(t.TempDir(), "web.tar")
	if err := os.WriteFile(archive, testArchive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	ctr := func(args ...string) string {
		t.Helper()
		args = append([]string{"--address", socket, "--namespace", "k8s.io", "images"}, args...)
		out, err := exec.CommandContext(t.Context(), "ctr", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ctr("import", "--no-unpack", "--all-platforms", archive)
	digest, err := testIndex(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	listed := ctr("ls")
	for _, want := range []string{testRelease().Ref(testSpec()), digest.String(), "linux/amd64", "linux/arm64"} {
		if !strings.Contains(listed, want) {
			t.Errorf("no %s in\n%s", want, listed)
		}
	}
}

// startContainerd starts a content store and what it needs, and returns the address.
func startContainerd(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctr") // short: it has sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, config := filepath.Join(dir, "c.sock"), filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", "+
		"\"io.containerd.internal.v1.opt\"]\n[grpc]\naddress = %q\n[debug]\naddress = %q\n",
		filepath.Join(dir, "root"), filepath.Join(dir, "state"), socket, filepath.Join(dir, "d.sock"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for {
		if exec.CommandContext(t.Context(), "ctr", "--address", socket, "version").Run() == nil {
			return socket
		}
		select {
		case <-ended:
			said, _ := os.ReadFile(log.Name())
			t.Skipf("SKIP: containerd does not run here:\n%s", said)
		case <-t.Context().Done():
			t.Fatal("containerd does not answer")
		case <-time.After(100 * time.Millisecond):
		}
	}
}
