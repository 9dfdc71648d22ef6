// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package build compiles the programs of a release, each once per platform.
//
// Invariant: the bytes of a program depend on the source, the version, the commit and the Go release only. So cgo
// is off, paths are trimmed, nothing is stamped by the version control system, and variables of the environment
// that change what the compiler does are set here.
package build

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Platform is an operating system and an architecture.
type Platform struct{ OS, Arch string }

func (p Platform) String() string { return p.OS + "/" + p.Arch }

// Parse reads "linux/amd64".
func Parse(text string) (Platform, error) {
	system, arch, ok := strings.Cut(text, "/")
	if !ok || system == "" || arch == "" || strings.Contains(arch, "/") {
		return Platform{}, fmt.Errorf("%q is no platform: it looks like linux/amd64", text)
	}
	return Platform{system, arch}, nil
}

// Compiler compiles packages of the module.
type Compiler struct {
	Root    string    // of the module
	Dir     string    // where programs go
	Version string    // set as main.version
	Commit  string    // set as main.commit
	Log     io.Writer // a line per compilation

	done map[Platform]map[string]string
}

// Programs compiles those of the packages, e.g. "./cmd/coordinator", that were not compiled for p before, and
// returns the paths of all that were by their names.
func (c *Compiler) Programs(ctx context.Context, p Platform, packages ...string) (map[string]string, error) {
	if c.done == nil {
		c.done = map[Platform]map[string]string{}
	}
	if c.done[p] == nil {
		c.done[p] = map[string]string{}
	}
	var missing, names []string
	for _, pkg := range packages {
		if c.done[p][filepath.Base(pkg)] == "" {
			missing, names = append(missing, pkg), append(names, filepath.Base(pkg))
		}
	}
	if len(missing) == 0 {
		return c.done[p], nil
	}
	fmt.Fprintf(c.Log, "  compiling for %s: %s\n", p, strings.Join(names, " "))
	dir := filepath.Join(c.Dir, p.OS+"-"+p.Arch)
	if err := c.compile(ctx, p, dir, missing); err != nil {
		return nil, fmt.Errorf("compiling for %s: %w", p, err)
	}
	for _, name := range names {
		c.done[p][name] = filepath.Join(dir, name+Suffix(p))
	}
	return c.done[p], nil
}

// Suffix is what the names of executables end with.
func Suffix(p Platform) string {
	if p.OS == "windows" {
		return ".exe"
	}
	return ""
}

// linkerFlags are the Makefile's LDFLAGS.
func (c *Compiler) linkerFlags() string {
	return "-s -w -buildid= -X main.version=" + c.Version + " -X main.commit=" + c.Commit
}

func (c *Compiler) compile(ctx context.Context, p Platform, dir string, packages []string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", c.linkerFlags(),
		"-o", dir + string(filepath.Separator)}
	cmd := exec.CommandContext(ctx, "go", append(args, packages...)...)
	cmd.Dir = c.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch,
		"GOFLAGS=-buildvcs=false", "GOEXPERIMENT=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w\n%s", err, output.String())
	}
	return nil
}
