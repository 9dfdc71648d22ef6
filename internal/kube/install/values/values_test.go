// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package values_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/marblerun/marblerun/charts"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/source"
	"github.com/marblerun/marblerun/internal/kube/install/values"
)

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := source.FromFS(charts.Files())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type table = map[string]any

var intelToleration = table{"key": "sgx.intel.com/epc", "operator": "Exists", "effect": "NoSchedule"}

func TestBuild(t *testing.T) {
	tests := map[string]struct {
		wishes values.Wishes
		plugin string
		asks   bool
		want   table
	}{
		"defaults": {asks: true, want: table{"marbleInjector": table{"start": true}}},
		"no injector": {wishes: values.Wishes{NoInjection: true, ResourceQuantity: ""},
			plugin: "alibabacloud.com/sgx_epc_MiB",
			asks:   true, want: table{
				"tolerations": []any{intelToleration, table{"key": "alibabacloud.com/sgx_epc_MiB", "operator": "Exists",
					"effect": "NoSchedule"}},
				"coordinator": table{"resources": table{"limits": table{
					"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil,
					"alibabacloud.com/sgx_epc_MiB": "10",
				}}},
			}},
		// No nodes are listed for a simulation (pains C14).
		"simulation": {wishes: values.Wishes{Simulation: true}, want: table{
			"tolerations": nil, "dcap": nil, "marbleInjector": table{"start": true},
			"coordinator": table{"simulation": true, "resources": table{"limits": table{
				"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil,
			}}},
		}},
		"tdx": {wishes: values.Wishes{TEE: values.TDX}, want: table{
			"tolerations": nil, "marbleInjector": table{"start": true},
			"coordinator": table{"tee": "tdx", "resources": table{"limits": table{
				"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil,
			}}},
		}},
		// A quantity for a plugin of one's own (pains C17).
		"custom resource": {wishes: values.Wishes{ResourceKey: "example.com/sgx", ResourceQuantity: "20Mi"}, want: table{
			"tolerations": []any{intelToleration, table{"key": "example.com/sgx", "operator": "Exists",
				"effect": "NoSchedule"}},
			"marbleInjector": table{"start": true, "resourceKey": "example.com/sgx", "sgxQuantity": "20Mi"},
			"coordinator": table{"resources": table{"limits": table{
				"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil, "example.com/sgx": "20Mi",
			}}},
		}},
		"quantity of Intel's": {wishes: values.Wishes{ResourceQuantity: "32Mi"}, asks: true, want: table{
			"tolerations":    []any{intelToleration},
			"marbleInjector": table{"start": true, "sgxQuantity": "32Mi"},
			"coordinator": table{"resources": table{"limits": table{
				"sgx.intel.com/epc": "32Mi", "sgx.intel.com/enclave": 1, "sgx.intel.com/provision": 1,
			}}},
		}},
		// Nothing of this is read by Helm's rules (pains C15).
		"verbatim": {wishes: values.Wishes{
			Simulation: true, PCCSURL: "https://a,b=c.d/{e}", SecureCert: "FALSE", Domains: []string{"a.example", "10.0.0.1"},
			MeshPort: 1, ClientPort: 2, NoInjection: true,
		}, want: table{
			"tolerations": nil, "dcap": table{"pccsUrl": "https://a,b=c.d/{e}", "useSecureCert": "FALSE"},
			"coordinator": table{"simulation": true, "hostname": "a.example,10.0.0.1", "meshServerPort": 1,
				"clientServerPort": 2,
				"resources": table{"limits": table{
					"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil,
				}}},
		}},
		"given values win": {wishes: values.Wishes{
			Simulation: true, Domains: []string{"a"}, NoInjection: true,
			Given: values.Given{Set: []string{"coordinator.hostname=b", "dcap.pccsUrl=https://x", "tolerations=null"}},
		}, want: table{
			"tolerations": nil, "dcap": table{"pccsUrl": "https://x"},
			"coordinator": table{"simulation": true, "hostname": "b", "resources": table{"limits": table{
				"sgx.intel.com/epc": nil, "sgx.intel.com/enclave": nil, "sgx.intel.com/provision": nil,
			}}},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			asked := false
			got, err := test.wishes.Build(load(t), func() (string, error) { asked = true; return test.plugin, nil })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if asked != test.asks {
				t.Errorf("asked for the plugin: %v", asked)
			}
			if _, err := install.Render(load(t), "v1.35.0", "ns", got); err != nil {
				t.Errorf("the chart does not take it: %v", err)
			}
		})
	}
}

// A chart without tolerations and resources is no reason to panic (pains C15).
func TestBareChart(t *testing.T) {
	bare := &chart.Chart{Metadata: &chart.Metadata{Name: "marblerun"}}
	for _, w := range []values.Wishes{{Simulation: true}, {ResourceKey: "x/y"}, {TEE: values.SEVSNP},
		{Domains: []string{"a"}}} {
		if _, err := w.Build(bare, func() (string, error) { return "", nil }); err != nil {
			t.Errorf("%+v: %v", w, err)
		}
	}
	own := &chart.Chart{Values: table{"coordinator": table{"hostname": "own.example"}}}
	got, err := values.Wishes{Domains: []string{"a"}}.Build(own, func() (string, error) { return "", nil })
	if err != nil || values.Lookup(got, "coordinator", "hostname") != "a,own.example" {
		t.Errorf("got %v, %v", got, err)
	}
	failed := errors.New("no nodes")
	if _, err := (values.Wishes{}).Build(bare, func() (string, error) { return "", failed }); !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
}

func TestGiven(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := write("1.yaml", "a: {b: 1, c: x}\nkeep: true\n")
	second := write("2.yaml", "a: {c: z}\n")
	data := write("data", "raw, text = x\n")
	got, err := values.Given{
		Files: []string{first, second, "-"}, Stdin: strings.NewReader("stdin: 1\n"),
		JSON: []string{`j={"x":[1]}`, `{"k":{"l":null}}`}, Set: []string{`a.b=2,s=a\,b`}, String: []string{"n=1"},
		File: []string{"f=" + data}, Literal: []string{"lit=a,b=c"},
	}.Parse()
	want := table{
		"a": table{"b": int64(2), "c": "z"}, "keep": true, "stdin": 1.0, "j": table{"x": []any{1.0}}, "k": table{"l": nil},
		"s": "a,b", "n": "1", "f": "raw, text = x\n", "lit": "a,b=c",
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

// Errors never show a value.
func TestErrorsAreDiscreet(t *testing.T) {
	for name, g := range map[string]values.Given{
		"--set token":        {Set: []string{"token=s3cret,s3cret"}},
		"--set-string token": {String: []string{"token=s3cret,s3cret"}},
		"--set wants":        {Set: []string{"s3cret"}},
		"--set-json":         {JSON: []string{`{"a":"s3cret`}},
		"--set-json a":       {JSON: []string{`a="s3cret`}},
		"--set-file":         {File: []string{"a=/nonexistent/file"}},
		"reading values":     {Files: []string{"/nonexistent/file"}},
		"no standard input":  {Files: []string{"-"}},
	} {
		_, err := g.Parse()
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add("a.b[0]=x,c=null", `{"a":1}`)
	f.Add("a[99999999]=1", `a[1].b=2`)
	f.Fuzz(func(t *testing.T, set, json string) {
		_, _ = values.Given{Set: []string{set}, JSON: []string{json}}.Parse()
	})
}
