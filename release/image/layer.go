// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Builder builds images. Layers that several of them share are compressed once.
type Builder struct {
	layers map[[sha256.Size]byte]v1.Layer
}

// layer is a gzipped tar archive of the files.
func (b *Builder) layer(files []File, executable func(string) (string, error)) (v1.Layer, error) {
	content, err := archive(files, executable)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(content)
	if known, ok := b.layers[digest]; ok {
		return known, nil
	}
	opener := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	layer, err := tarball.LayerFromOpener(opener, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching,
		tarball.WithCompressionLevel(6))
	if err != nil {
		return nil, fmt.Errorf("compressing a layer: %w", err)
	}
	if b.layers == nil {
		b.layers = map[[sha256.Size]byte]v1.Layer{}
	}
	b.layers[digest] = layer
	return layer, nil
}

// archive returns the files as a tar archive: sorted, all times at zero, numeric owners only, parents before children.
func archive(files []File, executable func(string) (string, error)) ([]byte, error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	for _, f := range withParents(files) {
		content := f.Content
		if f.Program != "" {
			file, err := executable(f.Program)
			if err != nil {
				return nil, err
			}
			if content, err = os.ReadFile(file); err != nil {
				return nil, fmt.Errorf("reading the program of an image: %w", err)
			}
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg, Name: strings.TrimPrefix(f.Path, "/"), Mode: f.Mode, Size: int64(len(content)),
			Uid: f.Owner, Gid: f.Owner, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if f.Folder {
			header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", f.Path, err)
		}
		if _, err := w.Write(content); err != nil {
			return nil, fmt.Errorf("archiving %s: %w", f.Path, err)
		}
	}
	err := w.Close()
	return buffer.Bytes(), err
}

// withParents adds the folders above the files, root's and open to all, and sorts by path.
func withParents(files []File) []File {
	all := slices.Clone(files)
	has := map[string]bool{"/": true}
	for _, f := range files {
		has[f.Path] = true
	}
	for _, f := range files {
		for dir := path.Dir(f.Path); !has[dir]; dir = path.Dir(dir) {
			has[dir] = true
			all = append(all, File{Path: dir, Folder: true, Mode: 0o755})
		}
	}
	slices.SortFunc(all, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return all
}
