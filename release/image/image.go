// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package image makes OCI images without a container engine: a few files on an empty base, for several platforms, in
// one archive per image.
//
// Invariants:
//   - The bytes of an archive depend on the files, the Spec and the Release and on nothing else: not on the clock, the
//     folder, the user or the order in which things were built. (And on the Go release, whose gzip compresses them.)
//   - An image is empty but for what its Spec lists: no shell, no package manager, no files of the build machine.
//   - It runs as User, which may not change its programs, with a read-only root: all that it writes is in folders that
//     a Spec names and that a volume may replace.
package image

import (
	"fmt"
	"path"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ID is user and group of the processes in an image; User is how the image says so.
const (
	ID   = 65532
	User = "65532:65532"
)

// Release is what all images of a release share.
type Release struct {
	Registry string // what image names begin with, e.g. "ghcr.io/marblerun/marblerun"
	Version  string // without "v"; the tag has it
	Revision string // commit, 40 hex digits
	Source   string // URL of the source
	Created  time.Time
}

// Spec describes an image, for all platforms.
type Spec struct {
	Name       string // below the registry, e.g. "samples/web"
	Title      string
	Layers     [][]File
	Entrypoint []string // absolute
	Env        []string // NAME=VALUE
	WorkingDir string
	Ports      []string // e.g. "4433/tcp"; documentation only
}

// File is a file or a folder of an image. Folders above it are made as needed.
type File struct {
	Path    string // absolute
	Folder  bool
	Mode    int64  // permissions
	Owner   int    // user and group
	Program string // name of a program, whose executable for the platform is the content
	Content []byte // if there is no Program
}

// Ref is the name under which the image is found: registry, name and tag.
func (r Release) Ref(s Spec) string { return path.Join(r.Registry, s.Name) + ":v" + r.Version }

// Index builds the image for the platforms, in their order. executable returns the path of a program on this machine.
func (b *Builder) Index(r Release, s Spec, platforms []v1.Platform,
	executable func(program string, p v1.Platform) (string, error),
) (v1.ImageIndex, error) {
	all := index{images: map[v1.Hash]v1.Image{}, manifest: v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Annotations: labels(r, s),
	}}
	for _, p := range platforms {
		img, err := b.image(r, s, p, func(program string) (string, error) { return executable(program, p) })
		if err == nil {
			err = all.add(img, p)
		}
		if err != nil {
			return nil, fmt.Errorf("image %s for %s: %w", s.Name, p, err)
		}
	}
	return all, nil
}

func (b *Builder) image(r Release, s Spec, p v1.Platform, executable func(string) (string, error)) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, files := range s.Layers {
		layer, err := b.layer(files, executable)
		if err != nil {
			return nil, err
		}
		history := v1.History{Created: v1.Time{Time: r.Created}, CreatedBy: "marblerun release: " + names(files)}
		if img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: history}); err != nil {
			return nil, err
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Variant = p.OS, p.Architecture, p.Variant
	file.Created = v1.Time{Time: r.Created}
	file.Config = v1.Config{
		User: User, Entrypoint: s.Entrypoint, Env: s.Env, WorkingDir: s.WorkingDir, Labels: labels(r, s),
		ExposedPorts: map[string]struct{}{},
	}
	for _, port := range s.Ports {
		file.Config.ExposedPorts[port] = struct{}{}
	}
	return mutate.ConfigFile(img, file)
}

func labels(r Release, s Spec) map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title":    s.Title,
		prefix + "version":  r.Version,
		prefix + "revision": r.Revision,
		prefix + "licenses": "Apache-2.0",
		prefix + "source":   r.Source,
		prefix + "created":  r.Created.UTC().Format(time.RFC3339),
	}
}

func names(files []File) string {
	var all []string
	for _, f := range files {
		all = append(all, f.Path)
	}
	return strings.Join(all, " ")
}
