// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/release/build"
	"github.com/marblerun/marblerun/release/image"
)

// environment is a getenv of pairs.
func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestOptions(t *testing.T) {
	commit := strings.Repeat("ab", 20)
	args := []string{"-version", "1.2.3-rc.1", "-commit", commit, "-out", "/x",
		"-only", "images,charts", "-platforms", "linux/arm64"}
	o, err := readOptions(t.Context(), args, environment("SOURCE_DATE_EPOCH", "1700000000"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if o.version != "1.2.3-rc.1" || o.commit != commit || o.out != "/x" || o.date.Unix() != 1700000000 || !o.dateGiven {
		t.Errorf("got %+v", o)
	}
	if o.wants("bin") || !o.wants("images") || !o.wants("charts") {
		t.Errorf("wants %v", o.only)
	}
	if diff := cmp.Diff([]build.Platform{{OS: "linux", Arch: "arm64"}}, o.selected(linux())); diff != "" {
		t.Error(diff)
	}
}

func TestOptionsByDefault(t *testing.T) {
	o, err := readOptions(t.Context(), nil, environment(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	version, err := makefileVersion("..")
	if err != nil {
		t.Fatal(err)
	}
	if o.version != version || o.dateGiven || !slices.Equal(o.only, sections[:]) || len(o.selected(linux())) != 2 {
		t.Errorf("got %+v", o)
	}
	head := git(t.Context(), "..", "log", "-1", "--format=%H %ct", o.commit)
	if head != "" && head != fmt.Sprint(o.commit, " ", o.date.Unix()) {
		t.Errorf("commit %s of %d, HEAD is %s", o.commit, o.date.Unix(), head)
	}
}

func TestBadOptionsShowAllProblems(t *testing.T) {
	args := []string{"-version", "v1", "-commit", "HEAD", "-only", "bin,all", "-platforms", "linux"}
	_, err := readOptions(t.Context(), args, environment("SOURCE_DATE_EPOCH", "today"), t.Output())
	want := []string{
		`-only: "all" is none of bin, images, sbom, charts`,
		`-platforms: "linux" is no platform: it looks like linux/amd64`,
		`-version: "v1" is no version: it looks like 1.2.3 or 1.2.3-rc.1`,
		`-commit: "HEAD" is no commit: it has 40 hex digits`,
		`SOURCE_DATE_EPOCH: "today" is no number of seconds since 1970`,
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}

// The whole way, with what needs no compiler: twice, from charts in different folders.
func TestRunMakesTheSameTwice(t *testing.T) {
	var made [2]map[string]string
	for i := range made {
		chart, out := filepath.Join(t.TempDir(), "chart"), filepath.Join(t.TempDir(), "dist")
		if err := os.CopyFS(chart, os.DirFS("helmrepo/testdata/chart")); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		err := run(t.Context(), []string{"-only", "charts", "-chart", chart, "-out", out, "-version", "9.9.9"},
			environment("SOURCE_DATE_EPOCH", "1700000000"), &log)
		if err != nil {
			t.Fatal(err)
		}
		made[i] = files(t, out)
		if !strings.Contains(log.String(), "charts/marblerun-coordinator-9.9.9.tgz") {
			t.Errorf("the table lacks a chart:\n%s", &log)
		}
		check := exec.Command("sha256sum", "--check", "--strict", sumsFile)
		check.Dir = out
		if report, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, report)
		}
	}
	if diff := cmp.Diff(made[0], made[1]); diff != "" {
		t.Error(diff)
	}
	var names []string
	for name := range made[0] {
		names = append(names, name)
	}
	slices.Sort(names)
	want := []string{
		"SHA256SUMS", "charts/index.yaml", "charts/marblerun-9.9.9.tgz", "charts/marblerun-coordinator-9.9.9.tgz",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

// files returns the contents of all files below dir.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		all[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A part that is made again has nothing of the time before; the others keep theirs.
func TestRunReplacesOnlyItsOwn(t *testing.T) {
	out := filepath.Join(t.TempDir(), "dist")
	make := func(version string) error {
		args := []string{"-only", "charts", "-chart", "release/helmrepo/testdata/chart", "-out", out, "-version", version}
		return run(t.Context(), args, environment("SOURCE_DATE_EPOCH", "0"), t.Output())
	}
	if err := make("1.0.0"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(out, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(out, "bin", "program"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := make("1.0.1"); err != nil {
		t.Fatal(err)
	}
	now := files(t, out)
	if now["bin/program"] != "x" || now["charts/marblerun-1.0.1.tgz"] == "" || now["charts/marblerun-1.0.0.tgz"] != "" {
		t.Errorf("there are %d files: %v", len(now), now[sumsFile])
	}
	if !strings.Contains(now[sumsFile], "bin/program") {
		t.Errorf("sums:\n%s", now[sumsFile])
	}
}

// -out / must not empty /bin.
func TestForeignFoldersAreLeftAlone(t *testing.T) {
	out := t.TempDir()
	foreign := filepath.Join(out, "charts", "mine")
	if err := os.MkdirAll(foreign, 0o700); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-only", "charts", "-chart", "release/helmrepo/testdata/chart", "-out", out},
		environment("SOURCE_DATE_EPOCH", "0"), t.Output())
	if err == nil || !strings.Contains(err.Error(), "-out") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Error(err)
	}
}

func TestVersionsMustAgree(t *testing.T) {
	root, chart := t.TempDir(), t.TempDir()
	write := func(file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(root, "Makefile"), "# x\nVERSION ?= 1.2.3\n")
	for text, fine := range map[string]bool{
		"version: 1.2.3\nappVersion: v1.2.3\n": true,
		"version: 1.2.4\nappVersion: v1.2.3\n": false,
		"version: 1.2.3\nappVersion: 1.2.3\n":  false,
		"version: 1.2.3\n":                     false,
	} {
		write(filepath.Join(chart, "Chart.yaml"), text)
		if err := agree(root, chart); (err == nil) != fine {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := agree(t.TempDir(), chart); err == nil {
		t.Error("there is no Makefile")
	}
}

// The checkout's own.
func TestChartAgreesWithTheMakefile(t *testing.T) {
	if err := agree("..", "../charts/marblerun"); err != nil {
		t.Error(err)
	}
}

func TestPictures(t *testing.T) {
	var names []string
	for _, p := range pictures([]byte("roots")) {
		names = append(names, p.Name)
		var inside, writable []string
		for _, f := range slices.Concat(p.Layers...) {
			inside = append(inside, f.Path)
			if f.Owner == image.ID {
				writable = append(writable, f.Path)
			}
			isProgram := func(pkg string) bool { return path.Base(pkg) == f.Program }
			if f.Program != "" && !slices.ContainsFunc(p.packages, isProgram) {
				t.Errorf("%s: %s is not compiled for it", p.Name, f.Program)
			}
			if f.Program != "" && (f.Owner == image.ID || f.Mode != 0o755) {
				t.Errorf("%s: %s can be changed by who runs it", p.Name, f.Path)
			}
		}
		for _, entry := range p.Entrypoint {
			if !path.IsAbs(entry) || !slices.Contains(inside, entry) {
				t.Errorf("%s starts %s, which is not in it", p.Name, entry)
			}
		}
		if has := slices.Contains(inside, certificates); has != (p.Name == "coordinator") {
			t.Errorf("%s has root certificates: %t", p.Name, has)
		}
		if len(writable) > 1 || len(writable) == 1 && writable[0] != coordinatorState && writable[0] != p.WorkingDir {
			t.Errorf("%s: may write to %v", p.Name, writable)
		}
	}
	want := []string{
		"coordinator", "marble-injector", "samples/echo-server", "samples/echo-client", "samples/web", "samples/one-time-job",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestImagesNeedAPlatform(t *testing.T) {
	r := release{options: options{platforms: []build.Platform{{OS: "windows", Arch: "amd64"}}}}
	if _, err := r.buildImages(t.Context()); err == nil || !strings.Contains(err.Error(), "linux/amd64") {
		t.Errorf("got %v", err)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s", bytes, got)
		}
	}
}
