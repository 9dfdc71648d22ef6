// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package charts has the Helm chart of the control plane inside, for programs that install it without a repository.
//
// The chart is the folder marblerun. Under the name marblerun-coordinator it is the same chart: only `name` in its
// Chart.yaml differs, by which the chart chooses the type of the client Service. Its manual is marblerun/README.md.
//
// The package imports nothing outside the standard library, so that importing it costs the files and nothing more. Its
// tests use Helm. `go test ./charts -update` writes what they compare with: the renders in testdata/golden and the
// table of values in the chart's README.md.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed all:marblerun
var files embed.FS

// Files returns the files of the chart: Chart.yaml is at the root.
func Files() fs.FS {
	chart, err := fs.Sub(files, "marblerun")
	if err != nil {
		panic(err) // only for a path that is not valid
	}
	return chart
}
