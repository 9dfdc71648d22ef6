// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const repository = "ghcr.io/marblerun/test/"

// loadImages packs hello in the three ways that archives come in, and loads them: one platform, an index of several
// platforms, and several platforms of one name without an index around them.
func (c cluster) loadImages() {
	c.t.Helper()
	dir := c.t.TempDir()
	hello := filepath.Join(dir, "hello")
	build := exec.Command("go", "build", "-trimpath", "-o", hello, "./hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	command(c.t, build)

	other := "linux/arm64"
	if runtime.GOARCH == "arm64" {
		other = "linux/amd64"
	}
	single, several := filepath.Join(dir, "single.tar"), filepath.Join(dir, "several.tar")
	flat := filepath.Join(dir, "flat.tar")
	c.pack(single, repository+"single:v1", "linux/"+runtime.GOARCH, hello)
	c.pack(several, repository+"hello:v1", other+",linux/"+runtime.GOARCH, hello)
	c.pack(flat+".index", repository+"flat:v1", "linux/"+runtime.GOARCH+","+other, hello)
	if err := flatten(flat+".index", flat, repository+"flat:v1"); err != nil {
		c.t.Fatal(err)
	}
	c.must("load", single, several, flat)
	out, code := c.run(nil, "load", filepath.Join(dir, "none.tar"))
	if code != 1 || !strings.Contains(out, "cannot read") {
		c.t.Errorf("loading a missing archive: exit code %d, %q", code, out)
	}
}

func (c cluster) pack(out, name, platforms, program string) {
	c.t.Helper()
	mkimage := filepath.Join(c.state(), "programs", "mkimage")
	command(c.t, exec.Command(mkimage, "-o", out, "-t", name, "-user", "65532:65532", "-platform", platforms,
		program+":/hello"))
}

func command(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Platform    map[string]string `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// flatten takes the image index out of an archive: its manifests are then in index.json, each with the image's name.
func flatten(from, to, name string) error {
	files, order, err := readArchive(from)
	if err != nil {
		return err
	}
	var top, inner index
	if err := json.Unmarshal(files["index.json"], &top); err != nil {
		return err
	}
	blob := "blobs/sha256/" + strings.TrimPrefix(top.Manifests[0].Digest, "sha256:")
	if err := json.Unmarshal(files[blob], &inner); err != nil {
		return err
	}
	for i := range inner.Manifests {
		inner.Manifests[i].Annotations = map[string]string{"io.containerd.image.name": name}
	}
	if files["index.json"], err = json.Marshal(inner); err != nil {
		return err
	}
	return writeArchive(to, files, order)
}

func readArchive(path string) (files map[string][]byte, order []string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files, order, nil
		} else if err != nil {
			return nil, nil, err
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			return nil, nil, err
		}
		order = append(order, h.Name)
	}
}

func writeArchive(path string, files map[string][]byte, order []string) error {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range order {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := w.Write(files[name]); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o600)
}
