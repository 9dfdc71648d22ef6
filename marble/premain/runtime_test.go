// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package premain_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
	"github.com/marblerun/marblerun/marble"
	"github.com/marblerun/marblerun/marble/internal/coordtest"
	"github.com/marblerun/marblerun/marble/premain"
)

// TestRuntime: only the exact uname of Gramine is Gramine; a real kernel 3.10 is not.
func TestRuntime(t *testing.T) {
	for u, want := range map[issue.Uname]marble.Runtime{
		{Sysname: "Linux", Release: "3.10.0", Version: "1", Machine: "x86_64"}:                      marble.Gramine,
		{Sysname: "Linux", Release: "3.10.0-1160.el7.x86_64", Version: "#1 SMP", Machine: "x86_64"}: marble.Process,
		{Sysname: "Linux", Release: "3.10.0", Version: "1", Machine: "aarch64"}:                     marble.Process,
		{Sysname: "Occlum", Release: "0.1"}:                                                         marble.Occlum,
		{}:                                                                                          marble.Process,
	} {
		if got := premain.Runtime(u); got != want {
			t.Errorf("%+v is %s", u, got)
		}
	}
}

// executed records what would have been executed.
type executed struct {
	Path string
	Argv []string
	Env  map[string]string
}

// fakeIssuer gives what coordtest takes for evidence.
type fakeIssuer struct{}

func (fakeIssuer) Name() string                                           { return "fake" }
func (fakeIssuer) TEE() attest.TEE                                        { return attest.SGX }
func (fakeIssuer) Issue(_ context.Context, data [64]byte) ([]byte, error) { return data[:], nil }

// inside runs the premain in a library OS, as far as it can tell.
func inside(t *testing.T, u issue.Uname, s *coordtest.Server, args ...string,
) (did *executed, root, stderr string, code int) {
	t.Helper()
	root = t.TempDir()
	env := map[string]string{
		"EDG_MARBLE_TYPE": "web", "EDG_MARBLE_COORDINATOR_ADDR": s.Addr, "EDG_MARBLE_UUID_FILE": filepath.Join(root, "uuid"),
	}
	var log bytes.Buffer
	code = premain.Main(t.Context(), premain.Config{
		Args: args, Getenv: func(name string) string { return env[name] }, Stderr: &log, Uname: u,
		Detect: func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) {
			return fakeIssuer{}, nil, nil
		},
		Apply: marble.ApplyConfig{Root: root, Setenv: func(name, value string) error { env[name] = value; return nil }},
		Exec: func(path string, argv, _ []string) error {
			did = &executed{path, argv, maps.Clone(env)}
			return nil
		},
		Environ: func() []string { return nil },
	})
	return did, root, log.String(), code
}

var (
	gramineUname = issue.Uname{Sysname: "Linux", Release: "3.10.0", Version: "1", Machine: "x86_64"}
	occlumUname  = issue.Uname{Sysname: "Occlum"}
)

func TestGramine(t *testing.T) {
	s := coordinator(t, "hello", "from manifest")
	s.Set(func() { s.Simulation = false }) // the evidence is checked
	did, root, stderr, code := inside(t, gramineUname, s, "/bin/hello", "--host")
	if code != 0 || did == nil {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	if did.Path != "/bin/hello" {
		t.Errorf("executed %s instead of loader.argv[0]", did.Path)
	}
	if diff := cmp.Diff([]string{"hello", "from manifest"}, did.Argv); diff != "" {
		t.Error(diff)
	}
	if data, err := os.ReadFile(filepath.Join(root, "secrets/file")); err != nil || string(data) != "content" {
		t.Errorf("file %q, %v", data, err)
	}
}

func TestOcclum(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	did, _, stderr, code := inside(t, occlumUname, coordinator(t, self, "x"), "/premain", "--host")
	if code != 0 || did == nil {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	if diff := cmp.Diff([]string{filepath.Base(self), "x"}, did.Argv); diff != "" || did.Path != self {
		t.Error(did.Path, diff)
	}
	did, _, stderr, code = inside(t, occlumUname, coordinator(t, "/no/such/program"), "/premain")
	if code != 1 || did != nil || !strings.Contains(stderr, "invalid entrypoint definition in argv[0]") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestTTLSRefused(t *testing.T) {
	for _, u := range []issue.Uname{gramineUname, occlumUname} {
		s := coordinator(t, "/bin/hello")
		s.Set(func() { s.Marbles["web"].Parameters.Env["MARBLE_TTLS_CONFIG"] = []byte("{}") })
		did, root, stderr, code := inside(t, u, s, "/bin/hello")
		if code != 1 || did != nil || !strings.Contains(stderr, "TTLS configured, but Marble runtime doesn't support TTLS") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
		if _, err := os.Stat(filepath.Join(root, "secrets")); !errors.Is(err, os.ErrNotExist) {
			t.Error("files were written in spite of it")
		}
	}
}

func TestDetectFails(t *testing.T) {
	var log bytes.Buffer
	env := map[string]string{"EDG_MARBLE_TYPE": "web"}
	code := premain.Main(t.Context(), premain.Config{
		Args: []string{"premain"}, Stderr: &log, Getenv: func(name string) string { return env[name] },
		Detect: func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) {
			return nil, nil, fmt.Errorf("broken")
		},
	})
	if code != 1 || !strings.Contains(log.String(), "broken") {
		t.Errorf("exit code %d:\n%s", code, &log)
	}
}

// TestSoftwareTEE: evidence of the socket is sent; a socket that fails is an error, not simulation; a real TEE
// refuses it.
func TestSoftwareTEE(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, data, err := issuersock.ReadRequest(conn); err == nil {
				_ = issuersock.WriteReply(conn, issuersock.Evidence{Kind: "sgx-v3", Data: data[:]}, nil)
			}
			conn.Close()
		}
	}()
	s := coordinator(t, "web")
	s.Set(func() { s.Simulation = false })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"EDG_MARBLE_TYPE=web", "EDG_MARBLE_COORDINATOR_ADDR=" + s.Addr}
	_, code, stderr := start(t, append(env, "EDG_SOFTTEE_SOCKET="+path), self)
	if code != 7 || !strings.Contains(stderr, "SIMULATED") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	_, code, stderr = start(t, append(env, "EDG_SOFTTEE_SOCKET="+path+".missing"), self)
	if code != 1 || !strings.Contains(stderr, "hint: check EDG_SOFTTEE_SOCKET") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	var log bytes.Buffer
	real := map[string]string{"EDG_MARBLE_TYPE": "web", "EDG_SOFTTEE_SOCKET": path}
	code = premain.Main(t.Context(), premain.Config{
		Args: []string{"premain"}, Stderr: &log, Getenv: func(name string) string { return real[name] },
		Detect: func(context.Context, issue.Config) (issue.Issuer, []issue.Tried, error) {
			return fakeIssuer{}, nil, nil
		},
	})
	if code != 1 || !strings.Contains(log.String(), "this process runs in a TEE (fake)") {
		t.Errorf("exit code %d:\n%s", code, &log)
	}
}
