// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package source is where the chart comes from: this program, a folder or archive, or a Helm repository.
//
// Invariant: without being asked for another place, nothing is read but what was built in. A repository is asked anew
// each time: no stale index decides which version is installed.
package source

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/repo/v1"

	"github.com/marblerun/marblerun/api"
)

// Name is the chart's in every repository.
const Name = "marblerun"

// Source says where the chart is.
type Source struct {
	// Embedded is the chart of this program, rooted at its folder.
	Embedded fs.FS
	// Path is a folder or a .tgz; empty: none.
	Path string
	// Repository is the URL of a Helm repository, or the name of one that 'helm repo add' knows; empty: none.
	Repository string
	// Version is the chart's; empty: the embedded one, or the newest of the repository.
	Version string
}

// Load loads the chart.
func (s Source) Load() (*chart.Chart, error) {
	c, err := s.load()
	if err != nil {
		return nil, fmt.Errorf("loading MarbleRun helm chart: %w", err)
	}
	return c, nil
}

func (s Source) load() (*chart.Chart, error) {
	switch {
	case s.Path != "":
		c, err := loader.Load(s.Path)
		if err != nil {
			return nil, fmt.Errorf("loading chart from path %q: %w", s.Path, err)
		}
		return c, s.check(c)
	case s.Repository != "":
		path, err := s.locate(cli.New())
		if err != nil {
			return nil, fmt.Errorf("locating chart: %w", err)
		}
		return loader.Load(path)
	}
	c, err := FromFS(s.Embedded)
	if err != nil {
		return nil, err
	}
	return c, s.check(c)
}

// check compares the version of a chart that is no matter of choice.
func (s Source) check(c *chart.Chart) error {
	if s.Version == "" || strings.TrimPrefix(s.Version, "v") == strings.TrimPrefix(c.Metadata.Version, "v") {
		return nil
	}
	err := fmt.Errorf("the chart has version %s, not %s", c.Metadata.Version, s.Version)
	if s.Path != "" {
		return err
	}
	return api.WithHint(err,
		"This program carries its own chart. Another version comes from a repository: --repo NAME or URL.")
}

// FromFS loads a chart from a file system that is rooted at its folder.
func FromFS(files fs.FS) (*chart.Chart, error) {
	var all []*archive.BufferedFile
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		all = append(all, &archive.BufferedFile{Name: path, Data: data})
		return err
	})
	if err != nil {
		return nil, err
	}
	return loader.LoadFiles(all)
}

// locate downloads the chart into Helm's cache and returns its path.
func (s Source) locate(settings *cli.EnvSettings) (string, error) {
	options := action.ChartPathOptions{RepoURL: s.Repository, Version: s.Version}
	if !strings.Contains(s.Repository, "://") {
		entry, err := known(settings.RepositoryConfig, s.Repository)
		if err != nil {
			return "", err
		}
		options.RepoURL, options.Username, options.Password = entry.URL, entry.Username, entry.Password
		options.CertFile, options.KeyFile, options.CaFile = entry.CertFile, entry.KeyFile, entry.CAFile
		options.InsecureSkipTLSVerify, options.PassCredentialsAll = entry.InsecureSkipTLSVerify, entry.PassCredentialsAll
	}
	if strings.HasPrefix(options.RepoURL, "oci://") {
		return "", api.WithHint(fmt.Errorf("%s is an OCI registry", options.RepoURL),
			"Pull the chart with 'helm pull' and name the file with --marblerun-chart-path.")
	}
	// Helm would look into the index that it keeps of every repository it knows; all that is needed is here.
	settings.RepositoryConfig = ""
	return options.LocateChart(Name, settings)
}

// known looks a repository up in Helm's file.
func known(file, name string) (*repo.Entry, error) {
	repositories, err := repo.LoadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if repositories != nil {
		if entry := repositories.Get(name); entry != nil {
			return entry, nil
		}
	}
	return nil, api.WithHint(fmt.Errorf("there is no Helm repository %q", name),
		"Add it with 'helm repo add', or give its URL.")
}
