// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func testRelease() Release {
	return Release{
		Registry: "registry.example/marblerun", Version: "1.2.3", Revision: strings.Repeat("ab", 20),
		Source: "https://source.example", Created: time.Unix(1700000000, 0).UTC(),
	}
}

func testSpec() Spec {
	return Spec{
		Name: "samples/web", Title: "A sample",
		Layers: [][]File{
			{
				{Path: "/marble", Folder: true, Mode: 0o700, Owner: ID},
				{Path: "/etc/ssl/certs/x.crt", Mode: 0o644, Content: []byte("x")},
			},
			{{Path: "/web", Mode: 0o755, Program: "web"}},
		},
		Entrypoint: []string{"/web"}, Env: []string{"A=b"}, WorkingDir: "/marble", Ports: []string{"8443/tcp"},
	}
}

func testPlatforms() []v1.Platform {
	return []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}
}

// programIn writes a pretended program for each platform below a folder of its own.
func programIn(t *testing.T) func(string, v1.Platform) (string, error) {
	t.Helper()
	dir := t.TempDir()
	return func(program string, p v1.Platform) (string, error) {
		file := filepath.Join(dir, program+"-"+p.Architecture)
		return file, os.WriteFile(file, []byte("program "+program+" for "+p.String()), 0o600)
	}
}

func testIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	var b Builder
	index, err := b.Index(testRelease(), testSpec(), testPlatforms(), programIn(t))
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func testArchive(t *testing.T) []byte {
	t.Helper()
	var archive bytes.Buffer
	if err := WriteArchive(&archive, testRelease().Ref(testSpec()), testIndex(t)); err != nil {
		t.Fatal(err)
	}
	return archive.Bytes()
}

// unpack extracts an OCI layout.
func unpack(t *testing.T, archive []byte) layout.Path {
	t.Helper()
	dir := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return layout.Path(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, h.Name)
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestArchiveIsReproducible(t *testing.T) {
	first, second := testArchive(t), testArchive(t) // programs in different folders, with different times
	if !bytes.Equal(first, second) {
		t.Error("two archives of the same programs differ")
	}
}

// An independent reader finds one valid image index under the names that containerd and skopeo look for.
func TestArchiveIsAValidLayout(t *testing.T) {
	index, err := unpack(t, testArchive(t)).ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("%d entries in index.json", len(manifest.Manifests))
	}
	want := map[string]string{
		"io.containerd.image.name":          "registry.example/marblerun/samples/web:v1.2.3",
		"org.opencontainers.image.ref.name": "v1.2.3",
	}
	if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
		t.Error(diff)
	}
	inner, err := index.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	innerManifest, err := inner.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, d := range innerManifest.Manifests {
		if d.ArtifactType != "" {
			t.Errorf("the image claims to be an artifact of type %s", d.ArtifactType)
		}
		platforms = append(platforms, d.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Error(diff)
	}
}

func TestImageHasWhatItsSpecSays(t *testing.T) {
	index := testIndex(t)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{
		User: "65532:65532", Entrypoint: []string{"/web"}, Env: []string{"A=b"}, WorkingDir: "/marble",
		ExposedPorts: map[string]struct{}{"8443/tcp": {}},
		Labels: map[string]string{
			"org.opencontainers.image.title":    "A sample",
			"org.opencontainers.image.version":  "1.2.3",
			"org.opencontainers.image.revision": strings.Repeat("ab", 20),
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://source.example",
			"org.opencontainers.image.created":  "2023-11-14T22:13:20Z",
		},
	}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Error(diff)
	}
	if config.Architecture != "arm64" || config.OS != "linux" || config.Created.Unix() != 1700000000 {
		t.Errorf("%s/%s created %v", config.OS, config.Architecture, config.Created)
	}
	files := []string{
		"drwxr-xr-x 0:0 etc/ 0", "drwxr-xr-x 0:0 etc/ssl/ 0", "drwxr-xr-x 0:0 etc/ssl/certs/ 0",
		"-rw-r--r-- 0:0 etc/ssl/certs/x.crt 1", "drwx------ 65532:65532 marble/ 0", "-rwxr-xr-x 0:0 web 27",
	}
	if diff := cmp.Diff(files, list(t, img)); diff != "" {
		t.Error(diff)
	}
}

// list describes all files of all layers, and checks that their times are fixed.
func list(t *testing.T, img v1.Image) (files []string) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		var inLayer []string
		for r := tar.NewReader(content); ; {
			h, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.ModTime.Unix() != 0 || h.Uname+h.Gname != "" {
				t.Errorf("%s has time %v and owner %q", h.Name, h.ModTime, h.Uname)
			}
			inLayer = append(inLayer, fmt.Sprintf("%v %d:%d %s %d", h.FileInfo().Mode(), h.Uid, h.Gid, h.Name, h.Size))
		}
		files = append(files, inLayer...)
	}
	return files
}

func TestParentsComeBeforeChildren(t *testing.T) {
	var paths []string
	for _, f := range withParents([]File{{Path: "/a/b/c"}, {Path: "/a/b-d"}, {Path: "/a/b", Folder: true, Mode: 0o700}}) {
		paths = append(paths, f.Path)
	}
	if diff := cmp.Diff([]string{"/a", "/a/b", "/a/b-d", "/a/b/c"}, paths); diff != "" {
		t.Error(diff)
	}
}

func TestMissingProgram(t *testing.T) {
	var b Builder
	_, err := b.Index(testRelease(), testSpec(), testPlatforms(), func(string, v1.Platform) (string, error) {
		return filepath.Join(t.TempDir(), "missing"), nil
	})
	if err == nil || !strings.Contains(err.Error(), "samples/web for linux/amd64") {
		t.Errorf("got %v", err)
	}
}

// Layers that images share are one object, which is compressed once.
func TestSharedLayersAreBuiltOnce(t *testing.T) {
	var b Builder
	program := programIn(t)
	for _, entry := range []string{"/web", "/other"} {
		spec := testSpec()
		spec.Entrypoint = []string{entry}
		if _, err := b.Index(testRelease(), spec, testPlatforms(), program); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.layers) != 3 { // the base, and a program per platform
		t.Errorf("%d layers built", len(b.layers))
	}
}

func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	index := testIndex(t)
	ref := strings.TrimPrefix(server.URL, "http://") + "/marblerun/samples/web:v1.2.3"
	if err := Push(t.Context(), ref, index); err != nil {
		t.Fatal(err)
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Index(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(pulled); err != nil {
		t.Error(err)
	}
	want, _ := index.Digest()
	if got, err := pulled.Digest(); err != nil || got != want {
		t.Errorf("pulled %v, error %v, pushed %v", got, err, want)
	}
}

func TestPushNeedsAWholeName(t *testing.T) {
	if err := Push(t.Context(), "web", testIndex(t)); err == nil {
		t.Error("accepted a name without registry and tag")
	}
}
