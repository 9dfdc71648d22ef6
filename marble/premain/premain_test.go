// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package premain_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/marblerun/marblerun/api/marblepb"
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
