// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package sbom lists what is inside programs and images, in CycloneDX 1.6 (ECMA-424), from the list that the Go linker
// leaves in each executable.
//
// Invariants:
//   - What is listed is what was linked, not what go.mod asks for.
//   - The same program gives the same bytes: the serial number follows from the content, and there is no time unless
//     it is given.
package sbom

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"
)

// Program is an executable.
type Program struct {
	Name     string // e.g. "coordinator"
	Package  string // import path within the module, e.g. "cmd/coordinator"
	Platform string // e.g. "linux/amd64"
	File     string // path of the executable
}

// Image is an image and what is in it.
type Image struct {
	Name     string // without tag, e.g. "ghcr.io/marblerun/marblerun/coordinator"
	Digest   string // of the index, "sha256:…"
	Programs []Program
	Roots    string // module and version of the root certificates in it, "path@version", or ""
}

// Source is what all SBOMs of a release share.
type Source struct {
	Version string    // without "v"
	Date    time.Time // zero: no time is written
}

// Program lists what is linked into a program.
func (s Source) Program(p Program) (*cdx.BOM, error) {
	l := s.newList()
	main, err := l.program(p)
	if err != nil {
		return nil, err
	}
	delete(l.components, main.BOMRef)
	return l.bom(main), nil
}

// Image lists the programs of an image, and what is linked into them.
func (s Source) Image(i Image) (*cdx.BOM, error) {
	l := s.newList()
	main := cdx.Component{
		BOMRef: "image", Type: cdx.ComponentTypeContainer, Name: i.Name, Version: "v" + s.Version,
		PackageURL: ociPURL(i.Name, i.Digest, "v"+s.Version), Licenses: apache(),
	}
	for _, p := range i.Programs {
		component, err := l.program(p)
		if err != nil {
			return nil, err
		}
		l.depend(main.BOMRef, component.BOMRef)
	}
	if i.Roots != "" {
		l.depend(main.BOMRef, l.rootCertificates(i.Roots))
	}
	return l.bom(main), nil
}

// Write writes the BOM as JSON.
func Write(w io.Writer, bom *cdx.BOM) error {
	encoder := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true).SetEscapeHTML(false)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("writing an SBOM: %w", err)
	}
	return nil
}

// list collects components by reference, each once, and who depends on which.
type list struct {
	Source
	components map[string]cdx.Component
	needs      map[string][]string
}

func (s Source) newList() *list {
	return &list{Source: s, components: map[string]cdx.Component{}, needs: map[string][]string{}}
}

func (l *list) add(c cdx.Component) string {
	l.components[c.BOMRef] = c
	return c.BOMRef
}

func (l *list) depend(who, on string) { l.needs[who] = append(l.needs[who], on) }

func (l *list) bom(main cdx.Component) *cdx.BOM {
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &main}
	if !l.Date.IsZero() {
		bom.Metadata.Timestamp = l.Date.UTC().Format(time.RFC3339)
	}
	components := slices.SortedFunc(maps.Values(l.components),
		func(a, b cdx.Component) int { return cmp.Compare(a.BOMRef, b.BOMRef) })
	bom.Components = &components
	dependencies := []cdx.Dependency{}
	for _, ref := range append(slices.Sorted(maps.Keys(l.components)), main.BOMRef) {
		needs := slices.Compact(slices.Sorted(slices.Values(l.needs[ref])))
		dependencies = append(dependencies, cdx.Dependency{Ref: ref, Dependencies: &needs})
	}
	bom.Dependencies = &dependencies
	bom.SerialNumber = l.serial(main, components)
	return bom
}

// serial is a version 5 UUID (RFC 9562) of what the BOM is about.
func (l *list) serial(main cdx.Component, components []cdx.Component) string {
	content := sha256.New()
	for _, c := range append([]cdx.Component{main}, components...) {
		fmt.Fprintln(content, c.BOMRef, c.Name, c.Version, c.PackageURL)
		if c.Hashes != nil {
			fmt.Fprintln(content, *c.Hashes)
		}
	}
	name := uuid.NewSHA1(uuid.NameSpaceURL, []byte("https://github.com/marblerun/marblerun"))
	return uuid.NewSHA1(name, []byte(hex.EncodeToString(content.Sum(nil)))).URN()
}

func apache() *cdx.Licenses {
	return &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}}
}
