// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"path"
	"path/filepath"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/marblerun/marblerun/release/build"
	"github.com/marblerun/marblerun/release/sbom"
)

// makeSBOMs writes an SBOM for each published program and for each image.
func (r *release) makeSBOMs(ctx context.Context, dir string) error {
	lists := sbom.Source{Version: r.version}
	if r.dateGiven {
		lists.Date = r.date
	}
	for _, p := range programs() {
		for _, platform := range r.selected(p.platforms) {
			described, err := r.describe(ctx, platform, p.pkg)
			if err != nil {
				return err
			}
			bom, err := lists.Program(described)
			if err != nil {
				return err
			}
			name := described.Name + "-" + platform.OS + "-" + platform.Arch
			if err := r.writeSBOM(filepath.Join(dir, name+".cdx.json"), bom); err != nil {
				return err
			}
		}
	}
	images, err := r.buildImages(ctx)
	if err != nil {
		return err
	}
	for _, b := range images {
		bom, err := r.imageSBOM(ctx, lists, b)
		if err != nil {
			return err
		}
		if err := r.writeSBOM(filepath.Join(dir, path.Base(b.Name)+".image.cdx.json"), bom); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) imageSBOM(ctx context.Context, lists sbom.Source, b built) (*cdx.BOM, error) {
	name, _, _ := strings.Cut(b.ref, ":v")
	image := sbom.Image{Name: name, Digest: b.digest.String()}
	for _, layer := range b.Layers {
		for _, file := range layer {
			if file.Path == certificates {
				image.Roots = build.RootsModule
			}
		}
	}
	for _, platform := range r.selected(linux()) {
		for _, pkg := range b.packages {
			described, err := r.describe(ctx, platform, pkg)
			if err != nil {
				return nil, err
			}
			image.Programs = append(image.Programs, described)
		}
	}
	return lists.Image(image)
}

func (r *release) describe(ctx context.Context, p build.Platform, pkg string) (sbom.Program, error) {
	file, err := r.program(ctx, p, pkg)
	return sbom.Program{
		Name: path.Base(pkg), Package: strings.TrimPrefix(pkg, "./"), Platform: p.String(), File: file,
	}, err
}

func (r *release) writeSBOM(file string, bom *cdx.BOM) error {
	return r.write(file, func(w io.Writer) error { return sbom.Write(w, bom) })
}
