// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package source_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/install/source"
)

func files(version string) fstest.MapFS {
	return fstest.MapFS{
		"Chart.yaml":          {Data: []byte("apiVersion: v2\nname: marblerun\nversion: " + version + "\n")},
		"values.yaml":         {Data: []byte("a: 1\n")},
		"templates/x/y.yaml":  {Data: []byte("kind: X\n")},
		"values.schema.json":  {Data: []byte("{}")},
		"templates/_help.tpl": {Data: []byte("")},
	}
}

// archive is the chart as a .tgz.
func archive(t *testing.T, version string) []byte {
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	w := tar.NewWriter(zipped)
	for name, file := range files(version) {
		err := w.WriteHeader(&tar.Header{Name: "marblerun/" + name, Mode: 0o644, Size: int64(len(file.Data))})
		if err == nil {
			_, err = w.Write(file.Data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEmbedded(t *testing.T) {
	c, err := source.Source{Embedded: files("1.2.3")}.Load()
	if err != nil || c.Metadata.Version != "1.2.3" || len(c.Templates) != 2 || len(c.Schema) == 0 {
		t.Errorf("got %+v, %v", c, err)
	}
	if _, err := (source.Source{Embedded: files("1.2.3"), Version: "v1.2.3"}).Load(); err != nil {
		t.Error(err)
	}
	_, err = source.Source{Embedded: files("1.2.3"), Version: "2.0.0"}.Load()
	if err == nil || !strings.Contains(err.Error(), "the chart has version 1.2.3, not 2.0.0") ||
		!strings.Contains(api.Hint(err), "--repo") {
		t.Errorf("got %v, hint %q", err, api.Hint(err))
	}
}

func TestPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chart.tgz")
	if err := os.WriteFile(path, archive(t, "1.0.0"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := source.Source{Path: path}.Load()
	if err != nil || c.Metadata.Version != "1.0.0" {
		t.Errorf("got %+v, %v", c, err)
	}
	_, err = source.Source{Path: path + "x"}.Load()
	if err == nil || !strings.HasPrefix(err.Error(), "loading MarbleRun helm chart: loading chart from path ") {
		t.Errorf("got %v", err)
	}
}

// A repository is named by its URL, or by the name that Helm knows it by; its index is read each time.
func TestRepository(t *testing.T) {
	versions := []string{"1.0.0"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/index.yaml" {
			version := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/marblerun-"), ".tgz")
			_, _ = w.Write(archive(t, version))
			return
		}
		fmt.Fprint(w, "apiVersion: v1\nentries:\n  marblerun:\n")
		for _, v := range versions {
			fmt.Fprintf(w, "  - {apiVersion: v2, name: marblerun, version: %s, urls: [marblerun-%s.tgz]}\n", v, v)
		}
	}))
	defer server.Close()
	home := t.TempDir()
	t.Setenv("HELM_REPOSITORY_CONFIG", filepath.Join(home, "repositories.yaml"))
	t.Setenv("HELM_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("HELM_REPOSITORY_CACHE", filepath.Join(home, "cache", "repository"))
	t.Setenv("HELM_CONTENT_CACHE", filepath.Join(home, "cache", "content"))

	_, err := source.Source{Repository: "edgeless"}.Load()
	if err == nil || !strings.Contains(err.Error(), `there is no Helm repository "edgeless"`) || api.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
	known := "repositories:\n- name: edgeless\n  url: " + server.URL + "\n"
	if err := os.WriteFile(filepath.Join(home, "repositories.yaml"), []byte(known), 0o600); err != nil {
		t.Fatal(err)
	}
	want := func(s source.Source, version string) {
		t.Helper()
		c, err := s.Load()
		if err != nil || c.Metadata.Version != version {
			t.Errorf("got %+v, %v", c, err)
		}
	}
	want(source.Source{Repository: "edgeless"}, "1.0.0")
	versions = append(versions, "1.1.0")
	want(source.Source{Repository: server.URL}, "1.1.0")
	want(source.Source{Repository: "edgeless", Version: "1.0.0"}, "1.0.0")
	if _, err := (source.Source{Repository: "edgeless", Version: "3.0.0"}).Load(); err == nil {
		t.Error("a version that the repository does not have")
	}
	if _, err := (source.Source{Repository: "oci://example.com/x"}).Load(); err == nil ||
		!strings.Contains(api.Hint(err), "helm pull") {
		t.Errorf("got %v", err)
	}
}
