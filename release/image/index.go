// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// index is an OCI image index whose entries say what engines need and no more: package mutate gives each the
// artifactType of its configuration, which image-spec v1.1 reserves for what is no image.
type index struct {
	manifest v1.IndexManifest
	images   map[v1.Hash]v1.Image
}

func (i *index) add(img v1.Image, p v1.Platform) error {
	d, err := partial.Descriptor(img)
	if err != nil {
		return err
	}
	i.manifest.Manifests = append(i.manifest.Manifests,
		v1.Descriptor{MediaType: d.MediaType, Size: d.Size, Digest: d.Digest, Platform: &p})
	i.images[d.Digest] = img
	return nil
}

func (i index) MediaType() (types.MediaType, error)       { return i.manifest.MediaType, nil }
func (i index) Digest() (v1.Hash, error)                  { return partial.Digest(i) }
func (i index) Size() (int64, error)                      { return partial.Size(i) }
func (i index) RawManifest() ([]byte, error)              { return json.Marshal(i.manifest) }
func (i index) IndexManifest() (*v1.IndexManifest, error) { return i.manifest.DeepCopy(), nil }
func (i index) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("no index in it: %s", h)
}

func (i index) Image(h v1.Hash) (v1.Image, error) {
	if img, ok := i.images[h]; ok {
		return img, nil
	}
	return nil, fmt.Errorf("no such image: %s", h)
}
