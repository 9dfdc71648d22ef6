// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/attest"
	"github.com/marblerun/marblerun/attest/issue/socket"
	"github.com/marblerun/marblerun/attest/verifier"
	"github.com/marblerun/marblerun/manifest"
)

// start runs the program in a folder until stop is called, which returns what it said.
func start(t *testing.T, dir string, args ...string) (stop func() string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- run(ctx, append([]string{"-dir", dir, "-listen", "127.0.0.1:0"}, args...), &out) }()
	for deadline := time.Now().Add(time.Minute); !exists(dir, "ready"); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-done:
			t.Fatalf("it ended: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("it is not ready")
		}
	}
	return func() string {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return out.String()
	}
}

func exists(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// folder has a short path, as sockets need.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "softtee")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// check verifies a workload's evidence with the files that the program wrote, and holds it against a package of the
// manifest.
func check(t *testing.T, dir, workload, pkg string) attest.Verdict {
	t.Helper()
	flags := map[string]string{}
	for _, flag := range strings.Fields(read(t, dir, "cli.flags")) {
		name, value, _ := strings.Cut(flag, "=")
		flags[name] = value
	}
	roots, err := os.ReadFile(flags["--software-tee-root"])
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifier.New(verifier.Config{SoftwareRoots: roots, PCCS: []string{flags["--pccs-url"]},
		KDS: flags["--kds-url"]})
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := socket.Open(t.Context(), filepath.Join(dir, workload+".sock"), "")
	if err != nil {
		t.Fatal(err)
	}
	evidence, err := issuer.Issue(t.Context(), [64]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	claims, err := v.Verify(t.Context(), evidence)
	if err != nil {
		t.Fatalf("%s: %v", workload, err)
	}
	m, err := manifest.Parse([]byte(read(t, dir, "manifest.json")))
	if err != nil {
		t.Fatal(err)
	}
	return m.Packages[pkg].Policy().Check(claims)
}

// What is written for a manifest accepts exactly the workload that it is for, in each TEE.
func TestPackages(t *testing.T) {
	dir, source := folder(t), filepath.Join("..", "manifest.json")
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-manifest", source, "coordinator=sgx-v4", "echo-server=sgx-v3,product=2,svn=3", "echo-client=tdx-v5",
		"web=snp-v5,program=" + program, "one-time-job=sgx-v5,debug",
		"old=sgx-v3,product=2,svn=2", "other=sgx-v3,signer=x,product=2,svn=3"}
	stop := start(t, dir, args...)
	for _, name := range []string{"echo-server", "echo-client", "web", "one-time-job"} {
		if v := check(t, dir, name, name); !v.Accepted {
			t.Errorf("%s: %v", name, v.Reasons)
		}
	}
	for name, pkg := range map[string]string{"old": "echo-server", "other": "echo-server", "web": "echo-client",
		"coordinator": "one-time-job"} {
		if check(t, dir, name, pkg).Accepted {
			t.Errorf("%s is accepted as %s", name, pkg)
		}
	}
	packages, roots := read(t, dir, "packages.json"), read(t, dir, "roots.pem")
	if said := stop(); !strings.Contains(said, "THIS PROTECTS NOTHING") {
		t.Errorf("it does not warn: %s", said)
	}
	if exists(dir, "ready") || exists(dir, "web.sock") {
		t.Error("stopped, but said to be ready")
	}

	if err := os.WriteFile(program, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir, args...)()
	if read(t, dir, "roots.pem") != roots {
		t.Error("started again it has other keys")
	}
	was, is := decode(t, packages), decode(t, read(t, dir, "packages.json"))
	if cmp.Equal(was["web"], is["web"]) {
		t.Error("another program has the same measurement")
	}
	delete(was, "web")
	delete(is, "web")
	if diff := cmp.Diff(was, is); diff != "" {
		t.Error(diff)
	}
}

func decode(t *testing.T, text string) (v map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A filled manifest differs in packages only, and is a correct one.
func TestFill(t *testing.T) {
	file := filepath.Join("..", "manifest.json")
	packages := map[string]pinned{"extra": {UniqueID: "not used"}}
	for _, name := range []string{"echo-server", "echo-client", "web", "one-time-job"} {
		packages[name] = pinned{UniqueID: strings.Repeat("ab", 32)}
	}
	filled, err := fill(file, packages)
	if err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Parse(filled)
	if err != nil {
		t.Fatal(err)
	}
	noEnv := func(string) string { return "" }
	if problems := manifest.Check(filled, m, noEnv); len(problems) > 0 {
		t.Error(problems)
	}
	was, is := decode(t, read(t, filepath.Dir(file), "manifest.json")), decode(t, string(filled))
	if _, ok := is["Packages"].(map[string]any)["extra"]; ok {
		t.Error("a package that no Marble has is in the manifest")
	}
	for _, m := range []map[string]any{was, is} {
		delete(m, "Packages")
		for _, marble := range m["Marbles"].(map[string]any) {
			delete(marble.(map[string]any), "Package")
		}
	}
	if diff := cmp.Diff(was, is); diff != "" {
		t.Error(diff)
	}
	delete(packages, "web")
	if _, err := fill(file, packages); err == nil || !strings.Contains(err.Error(), `"web" has no workload`) {
		t.Errorf("a Marble without workload: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	for args, want := range map[string][]string{
		"":                                {"no workloads"},
		"../x=sgx-v3":                     {"a workload is NAME=KIND"},
		"a=sgx-v9":                        {"unknown kind \"sgx-v9\""},
		"a=tdx-v4,svn=1":                  {"only SGX has this"},
		"a=sgx-v3,svn=0,product=x,colour": {"svn=0: must be a number", "product=x: must be", "colour: unknown option"},
		"a=sgx-v3,program=/nowhere":       {"/nowhere"},
		"a=sgx-v3 a=sgx-v3 b":             {"this name already", "b: unknown kind"},
		"a=snp-v3,status=Nonsense":        {"no status \"Nonsense\""},
		"-dir /" + strings.Repeat("x", 90) + " long-name=sgx-v3": {"choose a shorter -dir"},
	} {
		all := append([]string{"-listen", "127.0.0.1:0"}, strings.Fields(args)...)
		if !strings.HasPrefix(args, "-dir") {
			all = append([]string{"-dir", folder(t)}, all...)
		}
		err := run(t.Context(), all, &bytes.Buffer{})
		for _, text := range want {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %v, wanted %q", args, err, text)
			}
		}
	}
}
