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
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marblerun/marblerun/release/build"
)

// The parts of a release, in the order in which they are made.
var sections = [...]string{"bin", "images", "sbom", "charts"}

const (
	registry   = "ghcr.io/marblerun/marblerun"
	repository = "https://marblerun.github.io/helm/stable"
	source     = "https://github.com/marblerun/marblerun"
)

// options are the flags, and what follows from them and the checkout.
type options struct {
	root, out string // absolute
	version   string // without "v"
	commit    string // 40 hex digits
	only      []string
	platforms []build.Platform // empty: all that a section knows
	push      string           // registry and path; "" is none
	repoURL   string
	chart     string // folder of the chart
	date      time.Time
	dateGiven bool // by SOURCE_DATE_EPOCH
}

func (o options) wants(section string) bool { return slices.Contains(o.only, section) }

// selected returns those of the platforms that -platforms does not exclude.
func (o options) selected(all []build.Platform) []build.Platform {
	if len(o.platforms) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(p build.Platform) bool { return !slices.Contains(o.platforms, p) })
}

func readOptions(ctx context.Context, args []string, getenv func(string) string, usage io.Writer) (options, error) {
	var o options
	var only, platforms string
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&o.version, "version", "", "version without v (that of the Makefile)")
	flags.StringVar(&o.commit, "commit", "", "commit, 40 hex digits (HEAD)")
	flags.StringVar(&o.out, "out", "dist", "folder to write to")
	flags.StringVar(&only, "only", strings.Join(sections[:], ","), "which parts to make")
	flags.StringVar(&platforms, "platforms", "", "comma list, e.g. linux/amd64 (all)")
	flags.StringVar(&o.push, "push", "", "registry and path to push images to, e.g. "+registry)
	flags.StringVar(&o.repoURL, "repo-url", repository, "where the Helm repository will be served")
	flags.StringVar(&o.chart, "chart", "charts/marblerun", "folder of the chart")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("what is %q? There are only flags", flags.Arg(0))
	}
	var err error
	if o.root, err = moduleRoot(); err != nil {
		return o, err
	}
	var problems []error
	for _, resolve := range []func() error{
		func() error { return o.readLists(only, platforms) },
		func() error { return o.readCheckout(ctx) },
		func() error { return o.readDate(ctx, getenv) },
		func() error { return o.readPaths() },
	} {
		problems = append(problems, resolve())
	}
	return o, errors.Join(problems...)
}

func (o *options) readLists(only, platforms string) error {
	var problems []error
	for section := range strings.SplitSeq(only, ",") {
		if !slices.Contains(sections[:], section) {
			problems = append(problems, fmt.Errorf("-only: %q is none of %s", section, strings.Join(sections[:], ", ")))
		}
		o.only = append(o.only, section)
	}
	if platforms == "" {
		return errors.Join(problems...)
	}
	for text := range strings.SplitSeq(platforms, ",") {
		p, err := build.Parse(text)
		if err != nil {
			problems = append(problems, fmt.Errorf("-platforms: %w", err))
		}
		o.platforms = append(o.platforms, p)
	}
	return errors.Join(problems...)
}

var (
	versionForm = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	commitForm  = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

func (o *options) readCheckout(ctx context.Context) error {
	if o.version == "" {
		var err error
		if o.version, err = makefileVersion(o.root); err != nil {
			return err
		}
	}
	if o.commit == "" {
		o.commit = git(ctx, o.root, "rev-parse", "HEAD")
	}
	if o.commit == "" {
		o.commit = strings.Repeat("0", 40) // as the Makefile
	}
	var problems []error
	if !versionForm.MatchString(o.version) {
		problems = append(problems, fmt.Errorf("-version: %q is no version: it looks like 1.2.3 or 1.2.3-rc.1", o.version))
	}
	if !commitForm.MatchString(o.commit) {
		problems = append(problems, fmt.Errorf("-commit: %q is no commit: it has 40 hex digits", o.commit))
	}
	return errors.Join(problems...)
}

// readDate finds the one time that appears in a release (reproducible-builds.org/specs/source-date-epoch).
func (o *options) readDate(ctx context.Context, getenv func(string) string) error {
	text := getenv("SOURCE_DATE_EPOCH")
	o.dateGiven = text != ""
	if text == "" {
		text = git(ctx, o.root, "log", "-1", "--format=%ct", o.commit)
	}
	if text == "" {
		text = "0"
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %q is no number of seconds since 1970", text)
	}
	o.date = time.Unix(seconds, 0).UTC()
	return nil
}

func (o *options) readPaths() (err error) {
	if !filepath.IsAbs(o.chart) {
		o.chart = filepath.Join(o.root, o.chart)
	}
	o.out, err = filepath.Abs(o.out)
	return err
}

// git returns the output of a git command, or nothing where there is no repository.
func git(ctx context.Context, root string, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// moduleRoot walks up to the folder with go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("finding the root of the module: %w", err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no go.mod here or above: start it in the checkout")
}

func makefileVersion(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		return "", fmt.Errorf("reading the version: %w", err)
	}
	match := regexp.MustCompile(`(?m)^VERSION \?= *(\S+)$`).FindSubmatch(text)
	if match == nil {
		return "", errors.New("the Makefile has no line \"VERSION ?= …\"")
	}
	return string(match[1]), nil
}
