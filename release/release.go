// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/marblerun/marblerun/release/build"
	"github.com/marblerun/marblerun/release/image"
)

// release is one run.
type release struct {
	options
	compiler build.Compiler
	log      io.Writer
	made     []string // paths below out
	images   []built
}

// built is an image that was made.
type built struct {
	picture
	ref    string
	digest v1.Hash
	index  v1.ImageIndex
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	o, err := readOptions(ctx, args, getenv, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if o.wants("charts") {
		if err := agree(o.root, o.chart); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp("", "marblerun-release-")
	if err != nil {
		return fmt.Errorf("making a working folder: %w", err)
	}
	defer os.RemoveAll(work)
	r := &release{options: o, log: out, compiler: compilerFor(o, work, out)}
	if err := r.claim(); err != nil {
		return err
	}
	fmt.Fprintf(out, "Marblerun %s, commit %.12s, dated %s, into %s\n",
		o.version, o.commit, o.date.Format("2006-01-02 15:04:05Z"), o.out)
	return r.make(ctx)
}

func compilerFor(o options, dir string, log io.Writer) build.Compiler {
	return build.Compiler{Root: o.root, Dir: dir, Version: o.version, Commit: o.commit, Log: log}
}

func (r *release) make(ctx context.Context) error {
	steps := map[string]func(context.Context, string) error{
		"bin": r.makePrograms, "images": r.makeImages, "sbom": r.makeSBOMs, "charts": r.makeCharts,
	}
	for _, section := range sections {
		if !r.wants(section) {
			continue
		}
		fmt.Fprintf(r.log, "==> %s\n", section)
		dir := filepath.Join(r.out, section)
		if err := os.RemoveAll(dir); err != nil { // nothing of an earlier run is published by mistake
			return fmt.Errorf("emptying %s: %w", dir, err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making %s: %w", dir, err)
		}
		if err := steps[section](ctx, dir); err != nil {
			return err
		}
	}
	return r.finish()
}

// makePrograms writes NAME-OS-ARCH, and premain-libos for linux/amd64 under its plain name, by which Dockerfiles
// of users download it from the latest release.
func (r *release) makePrograms(ctx context.Context, dir string) error {
	for _, p := range programs() {
		name := path.Base(p.pkg)
		for _, platform := range r.selected(p.platforms) {
			file, err := r.program(ctx, platform, p.pkg)
			if err != nil {
				return err
			}
			names := []string{name + "-" + platform.OS + "-" + platform.Arch + build.Suffix(platform)}
			if name == "premain-libos" && platform == linux()[0] {
				names = append(names, name)
			}
			for _, name := range names {
				if err := r.copy(file, filepath.Join(dir, name)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// program returns the path of a compiled program. All that is wanted for the platform is compiled at once.
func (r *release) program(ctx context.Context, p build.Platform, pkg string) (string, error) {
	packages := []string{pkg}
	if r.wants("bin") {
		for _, published := range programs() {
			if slices.Contains(r.selected(published.platforms), p) {
				packages = append(packages, published.pkg)
			}
		}
	}
	if r.wants("images") && p.OS == "linux" {
		for _, picture := range pictures(nil) {
			packages = append(packages, picture.packages...)
		}
	}
	slices.Sort(packages)
	all, err := r.compiler.Programs(ctx, p, slices.Compact(packages)...)
	return all[path.Base(pkg)], err
}

// makeImages writes an archive per image, and digests.txt, by which a deployment can pin them.
func (r *release) makeImages(ctx context.Context, dir string) error {
	images, err := r.buildImages(ctx)
	if err != nil {
		return err
	}
	var digests strings.Builder
	for _, b := range images {
		file := filepath.Join(dir, path.Base(b.Name)+".tar")
		if err := r.write(file, func(w io.Writer) error { return image.WriteArchive(w, b.ref, b.index) }); err != nil {
			return err
		}
		fmt.Fprintf(r.log, "  %s@%s\n", b.ref, b.digest)
		fmt.Fprintf(&digests, "%s@%s\n", b.ref, b.digest)
	}
	file := filepath.Join(dir, "digests.txt")
	text := func(w io.Writer) error { _, err := io.WriteString(w, digests.String()); return err }
	if err := r.write(file, text); err != nil {
		return err
	}
	return r.pushImages(ctx, images)
}

// buildImages builds each image once.
func (r *release) buildImages(ctx context.Context) ([]built, error) {
	if r.images != nil {
		return r.images, nil
	}
	roots, err := build.Roots(ctx)
	if err != nil {
		return nil, err
	}
	var platforms []v1.Platform
	for _, p := range r.selected(linux()) {
		platforms = append(platforms, v1.Platform{OS: p.OS, Architecture: p.Arch})
	}
	if len(platforms) == 0 {
		return nil, errors.New("-platforms leaves no platform for images: they are made for linux/amd64 and linux/arm64")
	}
	var builder image.Builder
	for _, p := range pictures(roots) {
		find := func(program string, on v1.Platform) (string, error) {
			i := slices.IndexFunc(p.packages, func(pkg string) bool { return path.Base(pkg) == program })
			return r.program(ctx, build.Platform{OS: on.OS, Arch: on.Architecture}, p.packages[i])
		}
		index, err := builder.Index(r.imageRelease(registry), p.Spec, platforms, find)
		if err != nil {
			return nil, err
		}
		digest, err := index.Digest()
		if err != nil {
			return nil, err
		}
		r.images = append(r.images, built{p, r.imageRelease(registry).Ref(p.Spec), digest, index})
	}
	return r.images, nil
}

func (r *release) imageRelease(registry string) image.Release {
	return image.Release{Registry: registry, Version: r.version, Revision: r.commit, Source: source, Created: r.date}
}

func (r *release) pushImages(ctx context.Context, images []built) error {
	if r.push == "" {
		return nil
	}
	for _, b := range images {
		ref := r.imageRelease(r.push).Ref(b.Spec)
		fmt.Fprintf(r.log, "  pushing %s\n", ref)
		if err := image.Push(ctx, ref, b.index); err != nil {
			return err
		}
	}
	return nil
}
