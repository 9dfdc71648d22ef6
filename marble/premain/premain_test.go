// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package premain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/api/marblepb"
	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue"
	"github.com/marblerun/marblerun/attest/softtee/issuersock"
	"github.com/marblerun/marblerun/marble"
	"github.com/marblerun/marblerun/marble/internal/coordtest"
	"github.com/marblerun/marblerun/marble/premain"
)

// TestMain lets this program be three: the tests, the premain, and the Marble's program that the premain becomes.
func TestMain(m *testing.M) {
	switch os.Getenv("PREMAIN_TEST_ROLE") {
	case "premain":
		if err := os.Setenv("PREMAIN_TEST_ROLE", "program"); err != nil {
			os.Exit(99)
		}
		os.Exit(premain.Main(context.Background(), premain.Real()))
	case "program":
		report := map[string]any{"args": os.Args, "env": os.Environ(), "pid": os.Getpid()}
		if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
			os.Exit(98)
		}
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// program is what the Marble's program saw.
type program struct {
	Args []string
	Env  []string
	PID  int
}

// start runs this program as premain in an empty folder.
func start(t *testing.T, env []string, args ...string) (saw program, code int, stderr string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PREMAIN_TEST_ROLE=premain", "EDG_MARBLE_ACTIVATION_TIMEOUT=20s"}, env...)
	var stdout, errors bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &errors
	runErr := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(runErr)
	}
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &saw); err != nil {
			t.Fatalf("%v in %q", err, &stdout)
		}
		if saw.PID != cmd.ProcessState.Pid() {
			t.Error("the program is another process")
		}
		files, err := os.ReadFile(filepath.Join(cmd.Dir, "secrets/file"))
		if err != nil || string(files) != "content" {
			t.Errorf("file %q, %v", files, err)
		}
	}
	return saw, cmd.ProcessState.ExitCode(), errors.String()
}

func coordinator(t *testing.T, argv ...string) *coordtest.Server {
	return coordtest.New(t, map[string]coordtest.Marble{"web": {Parameters: &marblepb.Parameters{
		Files: map[string][]byte{"secrets/file": []byte("content")},
		Env:   map[string][]byte{"FROM_MANIFEST": []byte("yes"), "BOTH": []byte("manifest")}, Argv: argv,
	}}})
}

func TestProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name     string
		manifest []string
		args     []string
		wantArgs []string
	}{
		{"program of the command line", []string{"web", "--serve"}, []string{self}, []string{"web", "--serve"}},
		{"program of the manifest", []string{self, "{{ x }}"}, nil, []string{self, "{{ x }}"}},
		{"no Argv", nil, []string{self}, []string{"./marble"}},
		{"arguments of the host", []string{"web"}, []string{self, "--evil"}, []string{"web"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := coordinator(t, test.manifest...)
			env := []string{"EDG_MARBLE_TYPE=web", "EDG_MARBLE_COORDINATOR_ADDR=" + s.Addr, "FROM_HOST=yes", "BOTH=host"}
			saw, code, stderr := start(t, env, test.args...)
			if code != 7 {
				t.Fatalf("exit code %d:\n%s", code, stderr)
			}
			if diff := cmp.Diff(test.wantArgs, saw.Args); diff != "" {
				t.Error(diff)
			}
			for _, want := range []string{"FROM_HOST=yes", "FROM_MANIFEST=yes", "BOTH=manifest", "EDG_MARBLE_TYPE=web"} {
				if !slices.Contains(saw.Env, want) {
					t.Errorf("the environment lacks %s", want)
				}
			}
			checkLog(t, stderr)
			if ignored := strings.Contains(stderr, "ignoring arguments"); ignored != (len(test.args) > 1) {
				t.Errorf("ignored arguments: %v\n%s", ignored, stderr)
			}
		})
	}
}

func checkLog(t *testing.T, stderr string) {
	t.Helper()
	for line := range strings.Lines(stderr) {
		if !regexp.MustCompile(`^\[PreMain\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d .+\n$`).MatchString(line) {
			t.Errorf("odd line %q", line)
		}
	}
	rest := stderr
	for _, want := range []string{
		"starting PreMain", "fetching env variables", "loading TLS Credentials", "loading UUID",
		"UUID not found. Generating and storing a new UUID", "found UUID: ", "generating CSR", "generating quote",
		"failed to get quote: no source of TEE evidence found", "Proceeding in simulation mode",
		"activating marble of type web",
		"Not using TTLS", "creating files from manifest", "setting env vars from manifest", "done with PreMain",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("%q is missing or out of order in\n%s", want, stderr)
			return
		}
		rest = after
	}
}

func TestFailures(t *testing.T) {
	s := coordinator(t, "no-such-program")
	addr := "EDG_MARBLE_COORDINATOR_ADDR=" + s.Addr
	for _, test := range []struct {
		name string
		env  []string
		want []string
	}{
		{"no type", nil, []string{"environment variable not set: EDG_MARBLE_TYPE", "hint: "}},
		{"refused", []string{"EDG_MARBLE_TYPE=nope", addr},
			[]string{"unknown marble type requested", "hint: the manifest has no Marble"}},
		{"no program", []string{"EDG_MARBLE_TYPE=web", addr}, []string{"finding the program \"no-such-program\"", "hint: "}},
		{"nobody there", []string{
			"EDG_MARBLE_TYPE=web", "EDG_MARBLE_COORDINATOR_ADDR=127.0.0.1:1", "EDG_MARBLE_ACTIVATION_TIMEOUT=4s",
		}, []string{
			"Coordinator unavailable, trying again", "cannot reach the Coordinator at 127.0.0.1:1",
			"hint: check EDG_MARBLE_COORDINATOR_ADDR",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			saw, code, stderr := start(t, test.env)
			if code != 1 || saw.Args != nil {
				t.Errorf("exit code %d", code)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q is missing in\n%s", want, stderr)
				}
			}
		})
	}
}

func TestJSONLog(t *testing.T) {
	_, code, stderr := start(t, []string{"EDG_LOG_FORMAT=JSON"})
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(stderr) {
		var object struct{ Level, Msg string }
		if err := json.Unmarshal([]byte(line), &object); err != nil || object.Level == "" || object.Msg == "" {
			t.Errorf("%q: %v", line, err)
		}
	}
}

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
