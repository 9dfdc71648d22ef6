// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package helmrepo makes a Helm repository of one chart: archives and an index.yaml, for any web server of files.
//
// Invariants:
//   - All archives have the same contents, but for the name in Chart.yaml: users who know the chart by an older name
//     get the same chart.
//   - The bytes depend on the chart, the version and the date only.
package helmrepo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/provenance"
	"helm.sh/helm/v4/pkg/repo/v1"
	"sigs.k8s.io/yaml"
)

// Repository says what to make.
type Repository struct {
	Chart   string   // folder
	Names   []string // of the archives
	Version string   // of chart and, with "v", of the program; without "v"
	URL     string   // where the repository will be served
	Date    time.Time
}

// Make writes the archives and index.yaml into dir, and returns their paths.
func (r Repository) Make(dir string) (files []string, err error) {
	index := repo.NewIndexFile()
	for _, name := range r.Names {
		c, err := r.load(name)
		if err != nil {
			return nil, err
		}
		file, err := util.Save(c, dir)
		if err != nil {
			return nil, fmt.Errorf("packaging the chart %s: %w", name, err)
		}
		digest, err := provenance.DigestFile(file)
		if err != nil {
			return nil, fmt.Errorf("packaging the chart %s: %w", name, err)
		}
		if err := index.MustAdd(c.Metadata, filepath.Base(file), strings.TrimSuffix(r.URL, "/"), digest); err != nil {
			return nil, fmt.Errorf("indexing the chart %s: %w", name, err)
		}
		files = append(files, file)
	}
	index.Generated = r.Date
	for _, versions := range index.Entries {
		for _, v := range versions {
			v.Created = r.Date
		}
	}
	file := filepath.Join(dir, "index.yaml")
	if err := index.WriteFile(file, 0o644); err != nil {
		return nil, fmt.Errorf("writing the index of the charts: %w", err)
	}
	return append(files, file), nil
}

// load reads the chart and makes it the named one, of the version and the date.
func (r Repository) load(name string) (*chart.Chart, error) {
	c, err := loader.LoadDir(r.Chart)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	if len(c.Dependencies()) > 0 {
		return nil, errors.New("the chart has subcharts, whose times are not made reproducible yet")
	}
	c.Metadata.Name, c.Metadata.Version, c.Metadata.AppVersion = name, r.Version, "v"+r.Version
	c.ModTime, c.SchemaModTime = r.Date, r.Date
	for _, file := range c.Templates {
		file.ModTime = r.Date
	}
	for _, file := range c.Files {
		file.ModTime = r.Date
	}
	for _, file := range c.Raw {
		file.ModTime = r.Date
		if file.Name == util.ValuesfileName {
			if file.Data, err = setVersions(file.Data, "v"+r.Version); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// Versions returns version and appVersion of a chart.
func Versions(folder string) (version, app string, err error) {
	text, err := os.ReadFile(filepath.Join(folder, util.ChartfileName))
	if err != nil {
		return "", "", fmt.Errorf("reading the chart's version: %w", err)
	}
	var metadata chart.Metadata
	if err := yaml.Unmarshal(text, &metadata); err != nil {
		return "", "", fmt.Errorf("reading the chart's version: %w", err)
	}
	return metadata.Version, metadata.AppVersion, nil
}
