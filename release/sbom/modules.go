// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sbom

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"runtime/debug"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// program adds an executable and all modules that are linked into it.
func (l *list) program(p Program) (cdx.Component, error) {
	info, err := buildinfo.ReadFile(p.File)
	if err != nil {
		return cdx.Component{}, fmt.Errorf("reading what %s was built from: %w", p.Name, err)
	}
	digest, err := fileSum(p.File)
	if err != nil {
		return cdx.Component{}, fmt.Errorf("summing up %s: %w", p.Name, err)
	}
	component := cdx.Component{
		BOMRef: "program:" + p.Name + ":" + p.Platform, Type: cdx.ComponentTypeApplication, Name: p.Name,
		Version: "v" + l.Version, PackageURL: purl(info.Main.Path, "v"+l.Version) + "#" + p.Package,
		Hashes: sha256Hash(digest), Licenses: apache(),
		Properties: &[]cdx.Property{{Name: "marblerun:platform", Value: p.Platform}},
	}
	l.add(component)
	l.depend(component.BOMRef, l.standardLibrary(info.GoVersion))
	for _, module := range info.Deps {
		ref, err := l.module(module)
		if err != nil {
			return component, err
		}
		l.depend(component.BOMRef, ref)
	}
	return component, nil
}

func (l *list) standardLibrary(version string) string {
	version = strings.TrimPrefix(version, "go")
	return l.add(cdx.Component{
		BOMRef: "module:std@" + version, Type: cdx.ComponentTypeLibrary, Name: "std", Version: version,
		PackageURL: purl("std", version), Licenses: &cdx.Licenses{{License: &cdx.License{ID: "BSD-3-Clause"}}},
	})
}

// module adds a module, or what replaces it. The hash of a module is that of its list of files ("h1:", see
// golang.org/x/mod/sumdb/dirhash), by which go.sum and the checksum database know it.
func (l *list) module(m *debug.Module) (string, error) {
	for m.Replace != nil {
		m = m.Replace
	}
	component := cdx.Component{
		BOMRef: "module:" + m.Path + "@" + m.Version, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
		PackageURL: purl(m.Path, m.Version),
	}
	if m.Sum != "" { // none for a replacement by a folder
		digest, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
		if err != nil || len(digest) != sha256.Size {
			return "", fmt.Errorf("%s@%s has the sum %q, which is no h1 sum", m.Path, m.Version, m.Sum)
		}
		component.Hashes = sha256Hash(digest)
		component.Properties = &[]cdx.Property{{Name: "marblerun:go.sum", Value: m.Sum}}
	}
	return l.add(component), nil
}

func (l *list) rootCertificates(module string) string {
	name, version, _ := strings.Cut(module, "@")
	return l.add(cdx.Component{
		BOMRef: "data:" + module, Type: cdx.ComponentTypeData, Name: "Mozilla root certificates", Version: version,
		PackageURL: purl(name, version),
	})
}

// purl is the package URL of a Go module (purl-spec, type golang: names in lower case).
func purl(module, version string) string {
	return "pkg:golang/" + strings.ToLower(module) + "@" + escape(version)
}

// ociPURL is the package URL of an image (purl-spec, type oci).
func ociPURL(name, digest, tag string) string {
	return "pkg:oci/" + path.Base(name) + "@" + escape(digest) + "?repository_url=" + escape(name) + "&tag=" + escape(tag)
}

// escape is percent-encoding as purl-spec has it: url.QueryEscape writes "+" for a blank only, which versions do
// not have.
func escape(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "%2F", "/")
}

func sha256Hash(digest []byte) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(digest)}}
}

func fileSum(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}
