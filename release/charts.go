// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/marblerun/marblerun/release/helmrepo"
)

// chartNames are the names of the chart. The second is that of the first releases of MarbleRun, which guides still
// tell to install.
func chartNames() []string { return []string{"marblerun", "marblerun-coordinator"} }

// makeCharts writes a Helm repository.
func (r *release) makeCharts(_ context.Context, dir string) error {
	files, err := helmrepo.Repository{
		Chart: r.chart, Names: chartNames(), Version: r.version, URL: r.repoURL, Date: r.date,
	}.Make(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := r.note(file); err != nil {
			return err
		}
	}
	return nil
}

// agree compares the versions that the checkout names: in the Makefile and twice in the chart. -version may differ from
// them, for tests of upgrades; then it replaces all of them.
func agree(root, chart string) error {
	makefile, err := makefileVersion(root)
	if err != nil {
		return err
	}
	version, app, err := helmrepo.Versions(chart)
	if err != nil {
		return err
	}
	if version != makefile || app != "v"+makefile {
		return fmt.Errorf("the Makefile says VERSION %s; the chart must say version: %s and appVersion: v%s, not %s and %s",
			makefile, makefile, makefile, version, app)
	}
	return nil
}
