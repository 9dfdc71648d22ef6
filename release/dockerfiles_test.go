// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// instructions returns the instructions of a Dockerfile's last stage, and the whole text with continued lines joined.
func instructions(t *testing.T, name string) (last map[string]string, text string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../images", name, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(content), "")
	stages := strings.Split(text, "\nFROM ")
	last = map[string]string{}
	for line := range strings.Lines("FROM " + stages[len(stages)-1]) {
		keyword, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		last[keyword] = strings.TrimSpace(rest)
	}
	return last, text
}

// Docker and the release tool make the same of the same source.
func TestDockerfilesAgreeWithTheRelease(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^LDFLAGS := (.*)$`).FindSubmatch(makefile)
	if match == nil {
		t.Fatal("no LDFLAGS in the Makefile")
	}
	flags := strings.NewReplacer("(", "", ")", "").Replace(string(match[1])) // $(VERSION) is $VERSION there
	goMod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	goVersion := regexp.MustCompile(`(?m)^go (1\.[0-9]+)`).FindSubmatch(goMod)
	for _, p := range pictures(nil) {
		name := p.Name
		if strings.HasPrefix(name, "samples/") {
			name = "sample"
		}
		t.Run(p.Name, func(t *testing.T) {
			last, text := instructions(t, name)
			for _, want := range []string{
				"FROM scratch", `-ldflags "` + flags + `"`, "-trimpath", "-buildvcs=false",
				"ENV CGO_ENABLED=0 GOAMD64=v1 GOARM64=v8.0",
				"ARG GO_IMAGE=golang:" + string(goVersion[1]) + "\n",
			} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q", want)
				}
			}
			if last["USER"] != "65532:65532" || last["WORKDIR"] != p.WorkingDir || last["ENV"] != strings.Join(p.Env, " ") {
				t.Errorf("USER %s, WORKDIR %s, ENV %s", last["USER"], last["WORKDIR"], last["ENV"])
			}
			if want := strings.Join(p.Ports, " "); last["EXPOSE"] != want && name != "sample" {
				t.Errorf("EXPOSE %s instead of %s", last["EXPOSE"], want)
			}
			var entrypoint []string
			if err := json.Unmarshal([]byte(last["ENTRYPOINT"]), &entrypoint); err != nil {
				t.Fatal(err)
			}
			want := append([]string{}, p.Entrypoint...)
			if name == "sample" {
				want[1] = "/program" // ENTRYPOINT does not expand arguments
			}
			if diff := cmp.Diff(want, entrypoint); diff != "" {
				t.Error(diff)
			}
			for _, layer := range p.Layers {
				for _, file := range layer {
					at := strings.Replace(file.Path, "/"+path.Base(p.Name), want[len(want)-1], 1)
					if name != "sample" {
						at = file.Path
					}
					copied := regexp.MustCompile(`(?m)^COPY .* ` + regexp.QuoteMeta(at) + `$`).FindString(text)
					if copied == "" {
						t.Errorf("%s is not copied", at)
					}
					if file.Folder && !strings.Contains(copied, "--chown=65532:65532 --chmod=700 /empty ") {
						t.Errorf("%s is not as in the release: %s", at, copied)
					}
				}
			}
		})
	}
}

// What the guide says about the images is what they are.
func TestImagesReadme(t *testing.T) {
	readme, err := os.ReadFile("../images/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pictures(nil) {
		row := "| `" + p.Name + "` | `" + strings.Join(p.Entrypoint, " ") + "` |"
		if strings.HasPrefix(p.Name, "samples/") {
			row = "| `/premain-libos /NAME` | `" + p.WorkingDir + "`"
			if !strings.Contains(string(readme), path.Base(p.Name)) {
				t.Errorf("no %s", p.Name)
			}
		}
		if !strings.Contains(string(readme), row) {
			t.Errorf("no %s", row)
		}
	}
}
