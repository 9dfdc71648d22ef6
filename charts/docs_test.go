// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/marblerun/marblerun/charts"
)

// The table in the README is values.yaml: names, defaults, and the comments.
func TestREADMEHasAllValues(t *testing.T) {
	const start, end = "<!-- values: go test ./charts -update -->\n", "<!-- end of values -->"
	path := filepath.Join("marblerun", "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(readme), start)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for values", path)
	}
	want := before + start + valuesTable(t) + end + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	equal(t, path+": go test ./charts -update writes it", want, string(readme))
}

func valuesTable(t *testing.T) string {
	t.Helper()
	data, err := fs.ReadFile(charts.Files(), "values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| Value | Default | |\n|---|---|---|\n")
	writeValues(t, &table, "", document.Content[0])
	return table.String()
}

// writeValues writes a line for each key with a comment. Below a key whose children have none, all is one value.
func writeValues(t *testing.T, table *strings.Builder, path string, mapping *yaml.Node) {
	for at := 0; at < len(mapping.Content); at += 2 {
		key, value := mapping.Content[at], mapping.Content[at+1]
		name := path + key.Value
		comment := strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(key.HeadComment, "#"), "\n#", ""))
		if inner := value.Kind == yaml.MappingNode && commented(value); inner {
			if comment != "" {
				fmt.Fprintf(table, "| **`%s`** | | %s |\n", name, comment)
			}
			writeValues(t, table, name+".", value)
			continue
		}
		if comment == "" {
			t.Errorf("values.yaml: %s has no comment", name)
		}
		var decoded any
		if err := value.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(decoded)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", name, text, strings.ReplaceAll(comment, "|", "\\|"))
	}
}

func commented(mapping *yaml.Node) bool {
	for at := 0; at < len(mapping.Content); at += 2 {
		key, value := mapping.Content[at], mapping.Content[at+1]
		if key.HeadComment != "" || value.Kind == yaml.MappingNode && commented(value) {
			return true
		}
	}
	return false
}

// Each metric that the dashboard asks for is one of ours.
func TestDashboardMetricsExist(t *testing.T) {
	known := map[string]bool{}
	names := regexp.MustCompile("`([a-z]+(?:_[a-z]+)+)`")
	for _, file := range []string{"metrics.md", "injector.md"} {
		text, err := os.ReadFile(filepath.Join("..", "docs", "reference", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range names.FindAllStringSubmatch(string(text), -1) {
			known[match[1]] = true
		}
	}
	dashboard := decode[struct {
		Title, UID string
		Panels     []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}](t, "dashboards/marblerun.json")
	if dashboard.Title == "" || dashboard.UID == "" || len(dashboard.Panels) < 10 {
		t.Fatalf("this is no dashboard: %+v", dashboard)
	}
	metrics := regexp.MustCompile(`([a-z_]+)\{`)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			found := metrics.FindAllStringSubmatch(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s asks for no metric: %s", panel.Title, target.Expr)
			}
			for _, match := range found {
				if !known[strings.TrimSuffix(match[1], "_bucket")] {
					t.Errorf("%s asks for %s, which docs/reference does not have", panel.Title, match[1])
				}
			}
			if strings.Count(target.Expr, "(") != strings.Count(target.Expr, ")") {
				t.Errorf("%s: parentheses of %s", panel.Title, target.Expr)
			}
		}
	}
}

// The dashboard in the ConfigMap is the file, untouched by the template language.
func TestDashboardIsUntouched(t *testing.T) {
	file, err := fs.ReadFile(charts.Files(), "dashboards/marblerun.json")
	if err != nil {
		t.Fatal(err)
	}
	data := raw(t, installations["metrics"], "ConfigMap/marblerun-dashboard")["data"].(map[string]any)
	equal(t, "dashboard", any(string(file)), data["marblerun.json"])
}

// Chart and program have the version of the Makefile.
func TestVersions(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join("..", "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(`(?m)^VERSION \?= (\S+)$`).FindStringSubmatch(string(makefile))
	if match == nil {
		t.Fatal("the Makefile has no VERSION")
	}
	metadata := load(t, "").Metadata
	equal(t, "name", "marblerun", metadata.Name)
	equal(t, "version", match[1], metadata.Version)
	equal(t, "appVersion", "v"+match[1], metadata.AppVersion)
}
