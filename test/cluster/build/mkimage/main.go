// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Command mkimage packs static programs into a container image with a single layer, and writes it as an archive of an OCI
// image layout (OCI image specification v1.1, image-layout.md), which "ctr images import" reads:
//
//	mkimage -o pause.tar -t localhost/pause:1 -user 65535:65535 out/pause:/pause
//
// The first program is the entry point. With several -platform values the archive holds an image index, whose platforms
// all have the same programs: enough to test what reads such archives. Equal inputs give equal bytes.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strings"
	"time"
)

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

type object = map[string]any

// image is what the command line asks for.
type image struct {
	out, name, user string
	platforms       []string // OS/ARCH
	files           []string // SOURCE:/TARGET
}

// layout collects the blobs of an OCI image layout, in the order in which they are added.
type layout struct {
	tar  *tar.Writer
	seen map[string]bool
}

func main() {
	var img image
	var platforms string
	flag.StringVar(&img.out, "o", "", "archive to write")
	flag.StringVar(&img.name, "t", "", "image name, with a tag")
	flag.StringVar(&img.user, "user", "", "user and group that the program runs as")
	flag.StringVar(&platforms, "platform", "linux/"+runtime.GOARCH, "platforms, with commas between")
	flag.Parse()
	img.platforms, img.files = strings.Split(platforms, ","), flag.Args()
	if img.out == "" || img.name == "" || len(img.files) == 0 {
		fmt.Fprintln(os.Stderr, "usage: mkimage -o ARCHIVE -t NAME:TAG [-user UID:GID] [-platform LIST] SOURCE:/TARGET...")
		os.Exit(2)
	}
	if err := img.write(); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func (img image) write() (err error) {
	layer, err := img.layer()
	if err != nil {
		return err
	}
	f, err := os.Create(img.out)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	l := layout{tar: tar.NewWriter(f), seen: map[string]bool{}}
	if err := img.compose(&l, layer); err != nil {
		return fmt.Errorf("writing %s: %w", img.out, err)
	}
	return l.tar.Close()
}

// compose adds the manifest of each platform, and the index that names the image.
func (img image) compose(l *layout, layer []byte) error {
	var manifests []object
	for _, p := range img.platforms {
		m, err := img.manifest(l, layer, p)
		if err != nil {
			return err
		}
		manifests = append(manifests, m)
	}
	named := manifests[0]
	if len(manifests) > 1 {
		var err error
		if named, err = l.addJSON(typeIndex, index(manifests...)); err != nil {
			return err
		}
	}
	named["annotations"] = object{"io.containerd.image.name": img.name}
	top, err := json.Marshal(index(named))
	if err != nil {
		return err
	}
	if err := entry(l.tar, "index.json", 0o644, top); err != nil {
		return err
	}
	return entry(l.tar, "oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

func index(manifests ...object) object {
	return object{"schemaVersion": 2, "mediaType": typeIndex, "manifests": manifests}
}

// manifest adds one platform's blobs, and returns the descriptor of its manifest.
func (img image) manifest(l *layout, layer []byte, platform string) (object, error) {
	operatingSystem, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("%q is no platform like linux/amd64", platform)
	}
	plain, err := gunzip(layer)
	if err != nil {
		return nil, err
	}
	_, target, _ := strings.Cut(img.files[0], ":")
	config, err := l.addJSON(typeConfig, object{
		"architecture": arch, "os": operatingSystem,
		"config": object{"Entrypoint": []string{target}, "Env": []string{"PATH=/"}, "User": img.user, "WorkingDir": "/"},
		"rootfs": object{"type": "layers", "diff_ids": []string{digest(plain)}},
	})
	if err != nil {
		return nil, err
	}
	layerDescriptor, err := l.add(typeLayer, layer)
	if err != nil {
		return nil, err
	}
	m, err := l.addJSON(typeManifest, object{"schemaVersion": 2, "mediaType": typeManifest,
		"config": config, "layers": []object{layerDescriptor}})
	if err == nil {
		m["platform"] = object{"architecture": arch, "os": operatingSystem}
	}
	return m, err
}

// layer returns the compressed layer: the folders above the programs, /tmp, and the programs.
func (img image) layer() ([]byte, error) {
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	if err := entry(t, "tmp/", 0o1777, nil); err != nil {
		return nil, err
	}
	folders := map[string]bool{"tmp": true}
	for _, f := range img.files {
		source, target, ok := strings.Cut(f, ":/")
		if !ok {
			return nil, fmt.Errorf("%q is not SOURCE:/TARGET", f)
		}
		if err := makeFolders(t, path.Dir(target), folders); err != nil {
			return nil, err
		}
		program, err := os.ReadFile(source)
		if err != nil {
			return nil, err
		}
		if err := entry(t, target, 0o755, program); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func makeFolders(t *tar.Writer, folder string, made map[string]bool) error {
	if folder == "." || made[folder] {
		return nil
	}
	if err := makeFolders(t, path.Dir(folder), made); err != nil {
		return err
	}
	made[folder] = true
	return entry(t, folder+"/", 0o755, nil)
}

func (l *layout) addJSON(mediaType string, v any) (object, error) {
	blob, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return l.add(mediaType, blob)
}

// add writes a blob once, and returns its descriptor.
func (l *layout) add(mediaType string, blob []byte) (object, error) {
	d := digest(blob)
	if !l.seen[d] {
		l.seen[d] = true
		if err := entry(l.tar, "blobs/sha256/"+strings.TrimPrefix(d, "sha256:"), 0o644, blob); err != nil {
			return nil, err
		}
	}
	return object{"mediaType": mediaType, "digest": d, "size": len(blob)}, nil
}

// entry writes a file, or with a name that ends in a slash a folder.
func entry(t *tar.Writer, name string, mode int64, content []byte) error {
	kind := byte(tar.TypeReg)
	if strings.HasSuffix(name, "/") {
		kind = tar.TypeDir
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(content)), Typeflag: kind,
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}); err != nil {
		return err
	}
	_, err := t.Write(content)
	return err
}

func digest(blob []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(blob)) }

func gunzip(b []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
