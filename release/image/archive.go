// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes the image as an OCI archive (a tar of an OCI layout, image-spec v1.1). ref becomes its name:
// containerd reads it from one annotation, skopeo looks for the tag in another.
func WriteArchive(w io.Writer, ref string, index v1.ImageIndex) error {
	described, err := partial.Descriptor(index)
	if err != nil {
		return fmt.Errorf("describing the image: %w", err)
	}
	top := v1.Descriptor{MediaType: described.MediaType, Size: described.Size, Digest: described.Digest,
		Annotations: map[string]string{
			"io.containerd.image.name":          ref,
			"org.opencontainers.image.ref.name": ref[strings.LastIndex(ref, ":")+1:],
		}}
	layout, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{top},
	})
	if err != nil {
		return fmt.Errorf("writing index.json: %w", err)
	}
	blobs, err := blobsOf(index)
	if err != nil {
		return fmt.Errorf("collecting the parts of the image: %w", err)
	}
	blobs["oci-layout"] = bytesBlob([]byte(`{"imageLayoutVersion":"1.0.0"}`))
	blobs["index.json"] = bytesBlob(layout)

	tw := tar.NewWriter(w)
	for _, path := range slices.Sorted(maps.Keys(blobs)) {
		if err := blobs[path].write(tw, path); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return tw.Close()
}

// blob is a file of the layout.
type blob struct {
	size int64
	open func() (io.ReadCloser, error)
}

func bytesBlob(content []byte) blob {
	return blob{int64(len(content)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }}
}

func (b blob) write(w *tar.Writer, path string) error {
	header := &tar.Header{
		Typeflag: tar.TypeReg, Name: path, Mode: 0o644, Size: b.size, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	r, err := b.open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

// blobsOf returns all parts of the image by their path in the layout.
func blobsOf(index v1.ImageIndex) (map[string]blob, error) {
	blobs := map[string]blob{}
	add := func(digest v1.Hash, b blob) { blobs["blobs/"+digest.Algorithm+"/"+digest.Hex] = b }
	raw, err := index.RawManifest()
	if err != nil {
		return nil, err
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	add(digest, bytesBlob(raw))
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			return nil, err
		}
		if err := addImage(add, img, child.Digest); err != nil {
			return nil, err
		}
	}
	return blobs, nil
}

func addImage(add func(v1.Hash, blob), img v1.Image, digest v1.Hash) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	add(digest, bytesBlob(manifest))
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	configDigest, err := img.ConfigName()
	if err != nil {
		return err
	}
	add(configDigest, bytesBlob(config))
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		size, err := layer.Size()
		if err != nil {
			return err
		}
		add(digest, blob{size, layer.Compressed})
	}
	return nil
}

// Push writes the image to a registry, with the credentials that "docker login" or "crane auth login" left. Loopback
// registries are spoken to in clear.
func Push(ctx context.Context, ref string, index v1.ImageIndex) error {
	tag, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("pushing: %w", err)
	}
	keys := remote.WithAuthFromKeychain(authn.DefaultKeychain)
	if err := remote.WriteIndex(tag, index, remote.WithContext(ctx), keys); err != nil {
		return fmt.Errorf("pushing %s: %w", ref, err)
	}
	return nil
}
