// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/marblerun/marblerun/release/build"
)

// premain compiles a program with dependencies.
func premain(t *testing.T) Program {
	t.Helper()
	compiler := build.Compiler{
		Root: "../..", Dir: t.TempDir(), Version: "1.2.3", Commit: strings.Repeat("0", 40), Log: io.Discard,
	}
	programs, err := compiler.Programs(t.Context(), build.Platform{OS: "linux", Arch: "amd64"}, "./cmd/premain-libos")
	if err != nil {
		t.Fatal(err)
	}
	return Program{
		Name: "premain-libos", Package: "cmd/premain-libos", Platform: "linux/amd64", File: programs["premain-libos"],
	}
}

func text(t *testing.T, bom *cdx.BOM) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, bom); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestProgram(t *testing.T) {
	program := premain(t)
	bom, err := Source{Version: "1.2.3"}.Program(program)
	if err != nil {
		t.Fatal(err)
	}
	validate(t, text(t, bom))

	// "go version -m" is the second opinion.
	out, err := exec.Command("go", "version", "-m", program.File).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range regexp.MustCompile(`(?m)^\tdep\t(\S+)\t(\S+)\t(\S+)$`).FindAllSubmatch(out, -1) {
		want = append(want, string(m[1])+" "+string(m[2])+" "+string(m[3]))
	}
	goVersion := regexp.MustCompile(`go(1\.\S+)\n`).FindSubmatch(out)
	want = append(want, "std "+string(goVersion[1])+" ")
	slices.Sort(want)
	var got []string
	for _, c := range *bom.Components {
		sum := ""
		if c.Properties != nil {
			sum = (*c.Properties)[0].Value
		}
		got = append(got, c.Name+" "+c.Version+" "+sum)
		if wantPURL := "pkg:golang/" + strings.ToLower(c.Name) + "@" + c.Version; c.PackageURL != wantPURL {
			t.Errorf("%s instead of %s", c.PackageURL, wantPURL)
		}
	}
	slices.Sort(got)
	if len(want) < 5 {
		t.Fatalf("go version -m lists %v only", want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	main := bom.Metadata.Component
	content, err := os.ReadFile(program.File)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := (*main.Hashes)[0].Value, fmt.Sprintf("%x", sha256.Sum256(content)); got != want {
		t.Errorf("hash %s instead of %s", got, want)
	}
	const wantPURL = "pkg:golang/github.com/marblerun/marblerun@v1.2.3#cmd/premain-libos"
	if main.Version != "v1.2.3" || main.PackageURL != wantPURL {
		t.Errorf("%s %s", main.Version, main.PackageURL)
	}
}

func TestImage(t *testing.T) {
	program := premain(t)
	second := program
	second.Name = "other"
	digest := "sha256:" + strings.Repeat("ab", 32)
	bom, err := Source{Version: "1.2.3"}.Image(Image{
		Name: "ghcr.io/marblerun/x", Digest: digest, Programs: []Program{program, second}, Roots: "example.org/roots@v0.0.1",
	})
	if err != nil {
		t.Fatal(err)
	}
	validate(t, text(t, bom))
	var kinds []string
	for _, c := range *bom.Components {
		kinds = append(kinds, string(c.Type)+" "+c.Name)
	}
	for _, want := range []string{
		"application premain-libos", "application other", "data Mozilla root certificates", "library std",
	} {
		if !slices.Contains(kinds, want) {
			t.Errorf("no %s in %q", want, kinds)
		}
	}
	if slices.Sort(kinds); len(slices.Compact(slices.Clone(kinds))) != len(kinds) {
		t.Errorf("listed twice: %q", kinds)
	}
	want := "pkg:oci/x@sha256%3A" + strings.Repeat("ab", 32) + "?repository_url=ghcr.io/marblerun/x&tag=v1.2.3"
	if got := bom.Metadata.Component.PackageURL; got != want {
		t.Errorf("%s instead of %s", got, want)
	}
	dependencies := map[string]int{}
	for _, d := range *bom.Dependencies {
		dependencies[d.Ref] = len(*d.Dependencies)
	}
	if dependencies["image"] != 3 {
		t.Errorf("the image depends on %d components", dependencies["image"])
	}
}

func TestOneContentOneText(t *testing.T) {
	program := premain(t)
	write := func(s Source) []byte {
		bom, err := s.Program(program)
		if err != nil {
			t.Fatal(err)
		}
		return text(t, bom)
	}
	plain := write(Source{Version: "1.2.3"})
	if !bytes.Equal(plain, write(Source{Version: "1.2.3"})) {
		t.Error("the same program has two SBOMs")
	}
	if bytes.Contains(plain, []byte("timestamp")) {
		t.Error("there is a time that nobody gave")
	}
	dated := write(Source{Version: "1.2.3", Date: time.Unix(1700000000, 0)})
	validate(t, dated)
	if !bytes.Contains(dated, []byte(`"timestamp": "2023-11-14T22:13:20Z"`)) {
		t.Error("the time is missing")
	}
	if serial(t, plain) == serial(t, write(Source{Version: "1.2.4"})) {
		t.Error("another version has the same serial number")
	}
	if serial(t, plain) != serial(t, dated) {
		t.Error("the serial number depends on the time")
	}
}

func TestNoProgram(t *testing.T) {
	if _, err := (Source{}).Program(Program{Name: "x", File: "sbom_test.go"}); err == nil {
		t.Error("listed a text file")
	}
}

func serial(t *testing.T, bom []byte) string {
	t.Helper()
	var s struct{ SerialNumber string }
	if err := json.Unmarshal(bom, &s); err != nil || !strings.HasPrefix(s.SerialNumber, "urn:uuid:") {
		t.Fatalf("serial number %q, error %v", s.SerialNumber, err)
	}
	return s.SerialNumber
}

// validate checks against the schema of the standard, which comes with the library's module.
func validate(t *testing.T, bom []byte) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	for _, file := range []string{"bom-1.6.schema.json", "spdx.schema.json", "jsf-0.82.schemax.json"} {
		f, err := os.Open(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		document, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		url := "http://cyclonedx.org/schema/" + strings.Replace(file, "schemax", "schema", 1)
		if err := compiler.AddResource(url, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(bom))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(document); err != nil {
		t.Error(err)
	}
}
