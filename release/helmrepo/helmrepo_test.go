// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package helmrepo

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/repo/v1"
)

const testChart = "testdata/chart"

func testRepository(url string) Repository {
	return Repository{
		Chart: testChart, Names: []string{"marblerun", "marblerun-coordinator"}, Version: "1.2.3", URL: url,
		Date: time.Unix(1700000000, 0).UTC(),
	}
}

// contents returns the files of a directory, or of a chart's archive below its folder.
func contents(t *testing.T, archive string) map[string]string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.ModTime.Unix() != 1700000000 {
			t.Errorf("%s has the time %v", h.Name, h.ModTime)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = string(content)
	}
}

func TestBothChartsHaveTheSameContents(t *testing.T) {
	dir := t.TempDir()
	files, err := testRepository("https://example.org/stable/").Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"marblerun-1.2.3.tgz", "marblerun-coordinator-1.2.3.tgz", "index.yaml"}
	for i := range want {
		want[i] = filepath.Join(dir, want[i])
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Fatal(diff)
	}
	first, second := contents(t, files[0]), contents(t, files[1])
	renamed := strings.Replace(second["Chart.yaml"], "name: marblerun-coordinator", "name: marblerun", 1)
	if renamed == second["Chart.yaml"] || renamed != first["Chart.yaml"] {
		t.Errorf("more than the name differs:\n%s\n%s", first["Chart.yaml"], second["Chart.yaml"])
	}
	delete(first, "Chart.yaml")
	delete(second, "Chart.yaml")
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, name := range []string{"values.yaml", "values.schema.json", "templates/config.yaml"} {
		if first[name] == "" {
			names = append(names, name)
		}
	}
	if len(names) > 0 || first["notes.bak"] != "" {
		t.Errorf("missing %v, ignored file packaged: %t", names, first["notes.bak"] != "")
	}
	wantValues := "# Comments stay.\ncoordinator:\n  repository: ghcr.io/marblerun/marblerun\n" +
		"  version: \"v1.2.3\"  # so does this\n\nmarbleInjector:\n  version: v1.2.3\nother:\n  version: v0.1.0\n"
	if diff := cmp.Diff(wantValues, first["values.yaml"]); diff != "" {
		t.Error(diff)
	}
}

func TestIndex(t *testing.T) {
	dir := t.TempDir()
	files, err := testRepository("https://example.org/stable").Make(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := repo.LoadIndexFile(files[2])
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"marblerun", "marblerun-coordinator"} {
		entry, err := index.Get(name, "1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		archive, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%x", sha256.Sum256(archive)); entry.Digest != want {
			t.Errorf("%s: digest %s, of the archive %s", name, entry.Digest, want)
		}
		if diff := cmp.Diff([]string{"https://example.org/stable/" + filepath.Base(files[i])}, entry.URLs); diff != "" {
			t.Error(diff)
		}
		if entry.Created.Unix() != 1700000000 || entry.AppVersion != "v1.2.3" || entry.Name != name {
			t.Errorf("created %v, appVersion %s, name %s", entry.Created, entry.AppVersion, entry.Name)
		}
	}
}

// Neither the folder nor the times of files matter.
func TestRepositoryIsReproducible(t *testing.T) {
	var made [2][]string
	for i := range made {
		r := testRepository("https://example.org/stable")
		r.Chart = filepath.Join(t.TempDir(), fmt.Sprint("chart", i))
		if err := os.CopyFS(r.Chart, os.DirFS(testChart)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(r.Chart, "values.yaml"), time.Time{}, time.Unix(int64(i)*1e6, 0)); err != nil {
			t.Fatal(err)
		}
		files, err := r.Make(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			made[i] = append(made[i], fmt.Sprintf("%s %x", filepath.Base(file), sha256.Sum256(content)))
		}
	}
	if diff := cmp.Diff(made[0], made[1]); diff != "" {
		t.Error(diff)
	}
}

// What a guide tells to type works with the real Helm.
func TestHelmUsesTheRepository(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	if _, err := testRepository(server.URL).Make(dir); err != nil {
		t.Fatal(err)
	}
	helm := realHelm(t)
	helm("repo", "add", "edgeless", server.URL)
	helm("repo", "update")
	for _, name := range []string{"marblerun", "marblerun-coordinator"} {
		if got := helm("search", "repo", "edgeless/"+name, "--output", "json"); !strings.Contains(got, `"version":"1.2.3"`) {
			t.Errorf("search says %s", got)
		}
		folder := t.TempDir()
		helm("pull", "edgeless/"+name, "--destination", folder)
		helm("lint", filepath.Join(folder, name+"-1.2.3.tgz"))
		rendered := helm("template", "marblerun", "edgeless/"+name)
		if !strings.Contains(rendered, "name: "+name+"\n") || !strings.Contains(rendered, "coordinator:v1.2.3") {
			t.Errorf("rendered:\n%s", rendered)
		}
	}
}

// realHelm runs the Helm of go.mod with a home of its own.
func realHelm(t *testing.T) func(...string) string {
	t.Helper()
	home := t.TempDir()
	return func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "helm"}, args...)...)
		cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home+"/config", "HELM_CACHE_HOME="+home+"/cache",
			"HELM_DATA_HOME="+home+"/data", "KUBECONFIG="+home+"/none")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("helm %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
}

func TestVersions(t *testing.T) {
	version, app, err := Versions(testChart)
	if err != nil || version != "0.1.0" || app != "v0.1.0" {
		t.Errorf("got %s, %s, %v", version, app, err)
	}
	if _, _, err := Versions(t.TempDir()); err == nil {
		t.Error("there is no chart")
	}
}

func TestSetVersions(t *testing.T) {
	for name, tt := range map[string]struct{ values, want string }{
		"nothing":        {"", ""},
		"only a comment": {"# x\n", "# x\n"},
		"empty follows":  {"coordinator:\n  version: \"\"\n", "coordinator:\n  version: \"\"\n"},
		"plain":          {"coordinator: {version: v1}\n", "coordinator: {version: v9}\n"},
		"both, no newline": {"coordinator:\n  version: a\nmarbleInjector:\n  version: 'b' # b",
			"coordinator:\n  version: v9\nmarbleInjector:\n  version: 'v9' # b"},
		"elsewhere": {"version: v1\nx: {version: v1}\n", "version: v1\nx: {version: v1}\n"},
	} {
		got, err := setVersions([]byte(tt.values), "v9")
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %q, error %v", name, got, err)
		}
	}
	for _, bad := range []string{"coordinator:\n  version: [a]\n", "coordinator: {"} {
		if got, err := setVersions([]byte(bad), "v9"); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}
