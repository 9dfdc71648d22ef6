// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marblerun/marblerun/release/image"
)

// shellImage is what state-pod.yaml names.
const shellImage = "docker.io/library/busybox:1.37"

// loadShell gives a node that reaches no registry the image with a shell that a guide names, made of Debian's
// busybox-static. Without that package, or on another cluster, blocks that need the image are skipped, unless it is there.
func (c *cluster) loadShell(t *testing.T) {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	if err != nil || os.Getenv("MARBLERUN_E2E_NODE") != "1" || c.hasImage("busybox:1.37") {
		return
	}
	shell, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	// Its shell finds all other programs in itself.
	spec := image.Spec{Title: "busybox", Layers: [][]image.File{{{Path: "/bin/sh", Mode: 0o755, Content: shell}}},
		Entrypoint: []string{"/bin/sh"}}
	index, err := new(image.Builder).Index(image.Release{}, spec, []v1.Platform{{OS: "linux", Architecture: "amd64"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.Create(filepath.Join(t.TempDir(), "busybox.tar"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if err := image.WriteArchive(archive, shellImage, index); err != nil {
		t.Fatal(err)
	}
	if _, err := c.try("ctr", "-n", "k8s.io", "images", "import", archive.Name()); err != nil {
		t.Fatal(err)
	}
	c.images = append(c.images, shellImage)
}
