// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package sigstruct

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// MaxSection is how much of a file is read into memory, in bytes: a section of an ELF file, or a .sig file.
const MaxSection = 16 << 20

// Kind is the framework that an enclave was built with, as far as its files tell.
type Kind string

// The kinds. An enclave of the SGX SDK outside an Occlum image is SGXSDK.
const (
	OpenEnclave Kind = "Open Enclave"
	Gramine     Kind = "Gramine"
	Occlum      Kind = "Occlum"
	SGXSDK      Kind = "SGX SDK"
)

// occlumLibrary is the enclave in an Occlum image.
const occlumLibrary = "build/lib/libocclum-libos.signed.so"

// Package is what was found in a file or directory.
type Package struct {
	*Structure
	Kind      Kind
	File      string // that has the structure
	Directory bool   // the path was that of a directory
	// Warnings are about what makes the result doubtful, a sentence each.
	Warnings []string
}

// Attempt is a way to find a structure that led to nothing.
type Attempt struct {
	Method string
	Err    error
}

// DetectionError lists every attempt that was made.
type DetectionError []Attempt

// Error says all in one line.
func (e DetectionError) Error() string {
	var parts []string
	for _, a := range e {
		parts = append(parts, a.Method+": "+a.Err.Error())
	}
	return strings.Join(parts, "; ")
}

// Inspect looks for a structure in a file, or in the files of a directory where the frameworks put them. An error is a
// DetectionError unless the path itself cannot be read.
func Inspect(path string) (*Package, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	var tried DetectionError
	for _, m := range methods(path, info.IsDir()) {
		found, err := m.read()
		if err != nil {
			tried = append(tried, Attempt{m.name, err})
			continue
		}
		s := found[0]
		return &Package{
			Structure: s, Kind: m.kind, File: m.file, Directory: info.IsDir(), Warnings: warnings(s, found[1:]),
		}, nil
	}
	return nil, tried
}

// method is one way to find structures.
type method struct {
	name string
	kind Kind
	file string
	read func() ([]*Structure, error)
}

// methods are those for a path, in their order.
func methods(path string, directory bool) []method {
	if directory {
		sig, err := oneSigFile(path)
		library := filepath.Join(path, occlumLibrary)
		return []method{
			{"Gramine", Gramine, sig, func() ([]*Structure, error) {
				if err != nil {
					return nil, err
				}
				return fromSigFile(sig)
			}},
			{"Occlum", Occlum, library, inELF(library, ".note.sgxmeta")},
		}
	}
	return []method{
		{"EGo or Open Enclave", OpenEnclave, path, inELF(path, ".oesign", ".oeinfo")},
		{"Gramine", Gramine, path, func() ([]*Structure, error) { return fromSigFile(path) }},
		{"SGX SDK or Occlum", SGXSDK, path, inELF(path, ".note.sgxmeta")},
	}
}

func oneSigFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".sig") && !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	switch len(names) {
	case 0:
		return "", errors.New("there is no .sig file")
	case 1:
		return filepath.Join(dir, names[0]), nil
	}
	return "", fmt.Errorf("there are several .sig files (%s): name one of them", strings.Join(names, ", "))
}

// fromSigFile reads a file that is a SIGSTRUCT and nothing else.
func fromSigFile(path string) (_ []*Structure, err error) {
	file, err := open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err := io.ReadAll(io.LimitReader(file, Size+1))
	if err != nil {
		return nil, err
	}
	if len(data) > Size {
		return nil, fmt.Errorf("a SIGSTRUCT has %d bytes, this file has more", Size)
	}
	s, err := Parse(data)
	if err != nil {
		return nil, err
	}
	return []*Structure{s}, nil
}

// inELF reads the first of the sections that has a structure.
func inELF(path string, sections ...string) func() ([]*Structure, error) {
	return func() (_ []*Structure, err error) {
		file, err := open(path)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		return findInELF(file, sections...)
	}
}

// open opens regular files only: others have no end, or block.
func open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("this is not a regular file")
	}
	return os.Open(path)
}

func findInELF(r io.ReaderAt, sections ...string) ([]*Structure, error) {
	file, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("this is not an ELF file: %w", err)
	}
	err = fmt.Errorf("the ELF file has no section %s", sections[len(sections)-1])
	for _, name := range sections {
		section := file.Section(name)
		if section == nil {
			continue
		}
		var data []byte
		if data, err = content(section); err != nil {
			continue
		}
		var found []*Structure
		if found, err = Find(data); err == nil {
			return found, nil
		}
		err = fmt.Errorf("section %s: %w", name, err)
	}
	return nil, err
}

// content reads a section as it is in the file.
func content(s *elf.Section) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS || s.Flags&elf.SHF_COMPRESSED != 0 {
		return nil, fmt.Errorf("section %s is empty or compressed", s.Name)
	}
	if s.FileSize > MaxSection {
		return nil, fmt.Errorf("section %s has %d bytes, more than the %d of any enclave", s.Name, s.FileSize, MaxSection)
	}
	data, err := io.ReadAll(io.NewSectionReader(s.ReaderAt, 0, int64(s.FileSize)))
	if err != nil {
		return nil, fmt.Errorf("reading section %s: %w", s.Name, err)
	}
	if uint64(len(data)) < s.FileSize {
		return nil, fmt.Errorf("section %s is cut off", s.Name)
	}
	return data, nil
}

// warnings are about a structure and the others in the same place.
func warnings(s *Structure, others []*Structure) []string {
	var out []string
	if err := s.Verify(); err != nil {
		out = append(out, "The enclave's signature is invalid: "+err.Error()+".")
	}
	for _, o := range others {
		if o.UniqueID != s.UniqueID || o.SignerID != s.SignerID || o.ProductID != s.ProductID ||
			o.SecurityVersion != s.SecurityVersion {
			out = append(out, fmt.Sprintf("The file has another SIGSTRUCT, for MRENCLAVE %x: which of them is used "+
				"depends on the loader.", o.UniqueID))
		}
	}
	if d := s.Debug(); d != DebugForbidden {
		out = append(out, fmt.Sprintf("Debug mode is %s by the signature: whoever starts the enclave in it reads its "+
			"memory. A Coordinator refuses enclaves in debug mode unless the manifest says Debug.", d))
	}
	return out
}
