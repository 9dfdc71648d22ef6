// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"path/filepath"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
)

// helm lint has nothing to say, under both names and in all modes, and packaging changes nothing.
func TestLint(t *testing.T) {
	for _, name := range []string{"marblerun", "marblerun-coordinator"} {
		dir := t.TempDir()
		archive, err := chartutil.Save(load(t, name), dir)
		if err != nil {
			t.Fatal(err)
		}
		packaged, err := loader.LoadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "name", name, packaged.Name())
		equal(t, "files", len(load(t, name).Raw), len(packaged.Raw))
		equal(t, "archive", name+"-"+packaged.Metadata.Version+".tgz", filepath.Base(archive))
		for mode, i := range installations {
			lint := action.NewLint()
			lint.Strict, lint.Namespace = true, namespace
			result := lint.Run([]string{archive}, i.values(t))
			for _, message := range result.Messages {
				if message.Severity > support.InfoSev {
					t.Errorf("%s, %s: %s", name, mode, message)
				}
			}
			for _, err := range result.Errors {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
}
