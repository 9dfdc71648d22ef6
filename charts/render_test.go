// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"flag"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"

	"github.com/marblerun/marblerun/charts"
)

var update = flag.Bool("update", false, "write golden files and the README's table of values")

// An installation is what a user asks Helm for.
type installation struct {
	chart string   // "" is marblerun
	set   []string // arguments of --set
	kube  string   // "" is v1.35.0
	apis  []string // that the cluster has besides its own, e.g. those of the Gateway API
	in    string   // namespace, "" is marblerun
}

func sets(args ...string) installation { return installation{set: args} }

const namespace = "marblerun"

// load returns the embedded chart under a name, as make release packages it.
func load(t *testing.T, name string) *chart.Chart {
	t.Helper()
	var files []*archive.BufferedFile
	err := fs.WalkDir(charts.Files(), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(charts.Files(), path)
		files = append(files, &archive.BufferedFile{Name: path, Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := loader.LoadFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		loaded.Metadata.Name = name
	}
	return loaded
}

// values parses arguments of --set as Helm does.
func (i installation) values(t *testing.T) map[string]any {
	t.Helper()
	values := map[string]any{}
	for _, arg := range i.set {
		if err := strvals.ParseInto(arg, values); err != nil {
			t.Fatalf("--set %s: %v", arg, err)
		}
	}
	return values
}

// render returns what the templates give, by path in the chart.
func (i installation) render(t *testing.T) (map[string]string, error) {
	t.Helper()
	return i.renderValues(t, i.values(t))
}

func (i installation) renderValues(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	loaded := load(t, i.chart)
	version, err := common.ParseKubeVersion(first(i.kube, "v1.35.0"))
	if err != nil {
		t.Fatal(err)
	}
	capabilities := &common.Capabilities{KubeVersion: *version, APIVersions: i.apis}
	release := common.ReleaseOptions{Name: loaded.Name(), Namespace: first(i.in, namespace), IsInstall: true, Revision: 1}
	all, err := commonutil.ToRenderValues(loaded, values, release, capabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(loaded, all)
	if err != nil {
		return nil, err
	}
	result := map[string]string{}
	for path, text := range rendered {
		if strings.TrimSpace(text) != "" {
			result[strings.TrimPrefix(path, loaded.Name()+"/templates/")] = text
		}
	}
	return result, nil
}

func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func (i installation) mustRender(t *testing.T) map[string]string {
	t.Helper()
	files, err := i.render(t)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// text returns all objects in one stream, in the order of the files' names.
func text(files map[string]string) string {
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".txt") {
			continue
		}
		for _, document := range documents(files[name]) {
			all.WriteString("---\n# " + name + "\n" + document + "\n")
		}
	}
	return all.String()
}

// documents splits a YAML stream.
func documents(stream string) []string {
	var all []string
	for document := range strings.SplitSeq("\n"+stream, "\n---\n") {
		if document = strings.TrimSpace(document); document != "" {
			all = append(all, document)
		}
	}
	return all
}

// objects returns the YAML of all objects by "Kind/name".
func (i installation) objects(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for file, stream := range i.mustRender(t) {
		if strings.HasSuffix(file, ".txt") {
			continue
		}
		for _, document := range documents(stream) {
			var head struct {
				Kind     string
				Metadata struct{ Name string }
			}
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, document)
			}
			id := head.Kind + "/" + head.Metadata.Name
			if _, twice := all[id]; twice || head.Kind == "" {
				t.Fatalf("%s: there are two objects %s", file, id)
			}
			all[id] = document
		}
	}
	return all
}

// object decodes one object; fields that its type does not have are an error.
func object[T any](t *testing.T, i installation, id string) *T {
	t.Helper()
	document, found := i.objects(t)[id]
	if !found {
		t.Fatalf("there is no %s with %q", id, i.set)
	}
	decoded := new(T)
	if err := yaml.UnmarshalStrict([]byte(document), decoded); err != nil {
		t.Fatalf("%s: %v\n%s", id, err, document)
	}
	return decoded
}
