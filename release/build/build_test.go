// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

func compiler(root, dir string) *Compiler {
	return &Compiler{Root: root, Dir: dir, Version: "1.2.3", Commit: strings.Repeat("ab", 20), Log: io.Discard}
}

// The same source in another folder, without version control, gives the same bytes.
func TestProgramsAreReproducible(t *testing.T) {
	const pkg = "./cmd/marble-injector"
	other := t.TempDir()
	copySource(t, pkg, other)
	t.Setenv("GOFLAGS", "-buildvcs=true") // what users have set must not matter
	t.Setenv("CGO_ENABLED", "1")
	here := Platform{"linux", "amd64"}
	var contents [][]byte
	for _, root := range []string{root, other} {
		programs, err := compiler(root, t.TempDir()).Programs(t.Context(), here, pkg)
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(programs["marble-injector"])
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, content)
	}
	if !bytes.Equal(contents[0], contents[1]) {
		t.Error("the programs differ")
	}
	info, err := buildinfo.Read(bytes.NewReader(contents[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if strings.HasPrefix(s.Key, "vcs") || s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Errorf("built with %s=%s", s.Key, s.Value)
		}
	}
	if strings.Contains(info.GoVersion, "X:") {
		t.Errorf("built with experiments that are not the default: %s", info.GoVersion)
	}
	if !bytes.Contains(contents[0], []byte("1.2.3")) || !bytes.Contains(contents[0], []byte(strings.Repeat("ab", 20))) {
		t.Error("version or commit are missing")
	}
}

// copySource copies what a package is compiled from.
func copySource(t *testing.T, pkg, to string) {
	t.Helper()
	const ours = "{{if .Module}}{{if .Module.Main}}{{.ImportPath}}{{end}}{{end}}"
	list := exec.Command("go", "list", "-deps", "-f", ours, pkg)
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		folder := strings.TrimPrefix(path, "github.com/marblerun/marblerun/")
		if err := os.CopyFS(filepath.Join(to, folder), goFiles{os.DirFS(filepath.Join(root, folder))}); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// goFiles is a folder without those below it.
type goFiles struct{ fs.FS }

func (g goFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	all, err := fs.ReadDir(g.FS, name)
	return slices.DeleteFunc(all, fs.DirEntry.IsDir), err
}

// make build and the release build the same programs.
func TestMakefileHasTheSameFlags(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^LDFLAGS := (.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("no LDFLAGS in the Makefile")
	}
	c := compiler(root, "")
	got := strings.NewReplacer("$(VERSION)", c.Version, "$(COMMIT)", c.Commit).Replace(string(line[1]))
	if want := c.linkerFlags(); got != want {
		t.Errorf("Makefile: %s\nrelease:  %s", got, want)
	}
}

func TestCompilerSaysWhatIsWrong(t *testing.T) {
	_, err := compiler(root, t.TempDir()).Programs(t.Context(), Platform{"linux", "amd64"}, "./cmd/missing")
	if err == nil || !strings.Contains(err.Error(), "linux/amd64") || !strings.Contains(err.Error(), "cmd/missing") {
		t.Errorf("got %v", err)
	}
}

func TestParse(t *testing.T) {
	if p, err := Parse("linux/arm64"); err != nil || p != (Platform{"linux", "arm64"}) || p.String() != "linux/arm64" {
		t.Errorf("got %v, %v", p, err)
	}
	for _, text := range []string{"", "linux", "linux/", "/amd64", "linux/arm64/v8"} {
		if _, err := Parse(text); err == nil {
			t.Errorf("accepted %q", text)
		}
	}
	if Suffix(Platform{"windows", "arm64"}) != ".exe" || Suffix(Platform{"linux", "arm64"}) != "" {
		t.Error("wrong suffix")
	}
}

// The roots verify nothing here, but they are what Go's verifier takes for roots, and the file is what OpenSSL reads.
func TestRoots(t *testing.T) {
	text, err := Roots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pool, n := x509.NewCertPool(), 0
	for rest := text; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if !c.IsCA {
			t.Errorf("%s is no CA", c.Subject)
		}
		pool.AddCert(c)
	}
	if n < 100 {
		t.Errorf("%d root certificates only", n)
	}
	// Those of the servers that the Coordinator asks: Intel's service and AMD's.
	for _, name := range []string{"DigiCert Global Root G2", "ISRG Root X1", "USERTrust RSA Certification Authority"} {
		if !bytes.Contains(text, []byte("CN="+name)) {
			t.Errorf("no %s", name)
		}
	}
	if openssl, err := exec.LookPath("openssl"); err == nil {
		file := filepath.Join(t.TempDir(), "roots.pem")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(openssl, "storeutl", "-noout", "-certs", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
