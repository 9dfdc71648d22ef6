// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package values turns what a person asks for into values of the chart.
//
// Invariants: what a flag says goes into the values as it is, commas, dots and equals signs included; only --set and
// its like are read by Helm's rules. Values that the person gave in a file or with --set win over those that flags
// imply. No error shows a value: it may be secret.
package values

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
)

// TEEs that a Coordinator can run in.
const (
	SGX    = "sgx"
	TDX    = "tdx"
	SEVSNP = "sev-snp"
)

// Wishes are what a person asks for. The zero value asks for the chart's defaults with the injector.
type Wishes struct {
	// Domains are names and addresses at which clients reach the Coordinator.
	Domains []string
	// Simulation: no TEE. TEE is one of the constants; empty: the chart's default.
	Simulation bool
	TEE        string
	// ResourceKey is the SGX plugin's resource; empty: as Plugin says. ResourceQuantity is how much of it the Coordinator
	// and each Marble get; empty: 10Mi with Intel's plugin, else 10.
	ResourceKey, ResourceQuantity string
	// NoInjection leaves the injector out.
	NoInjection bool
	// MeshPort and ClientPort are TCP ports; 0: the chart's default.
	MeshPort, ClientPort int
	// QCNLConfig is a whole sgx_default_qcnl.conf; PCCSURL and SecureCert ("TRUE", "FALSE") are for the one that the chart
	// writes. Empty: the chart's defaults.
	QCNLConfig, PCCSURL, SecureCert string
	// Given are values in Helm's notation.
	Given Given
}

// Given are values in Helm's notation, in the order in which later ones win.
type Given struct {
	// Files are YAML files; "-" is Stdin.
	Files []string
	// JSON, Set, String, File and Literal are as for --set-json, --set, --set-string, --set-file, --set-literal.
	JSON, Set, String, File, Literal []string
	// Stdin is read for "-".
	Stdin io.Reader
}

// Values of a chart.
type Values = map[string]any

// Build returns the values. plugin tells the resource of the cluster's SGX plugin; it is asked only if that matters.
func (w Wishes) Build(c *chart.Chart, plugin func() (string, error)) (Values, error) {
	given, err := w.Given.Parse()
	if err != nil {
		return nil, err
	}
	coordinator, injector := Values{}, Values{}
	out := Values{}
	if len(w.Domains) > 0 {
		coordinator["hostname"] = hostnames(w.Domains, c)
	}
	setPort(coordinator, "meshServerPort", w.MeshPort)
	setPort(coordinator, "clientServerPort", w.ClientPort)
	if !w.NoInjection {
		injector["start"] = true
	}
	if w.TEE != "" {
		coordinator["tee"] = w.TEE
	}
	if err := w.tee(c, plugin, out, coordinator, injector); err != nil {
		return nil, err
	}
	w.dcap(out)
	for name, part := range map[string]Values{"coordinator": coordinator, "marbleInjector": injector} {
		if len(part) > 0 {
			out[name] = part
		}
	}
	return loader.MergeMaps(out, given), nil
}

func setPort(part Values, name string, port int) {
	if port != 0 {
		part[name] = port
	}
}

// hostnames joins the domains and those that the chart has anyway.
func hostnames(domains []string, c *chart.Chart) string {
	own, _ := lookup(c.Values, "coordinator", "hostname").(string)
	if own != "" {
		domains = append(append([]string{}, domains...), own)
	}
	return strings.Join(domains, ",")
}

// dcap sets what is said about the collateral service. Without SGX it does not matter, and is not there.
func (w Wishes) dcap(out Values) {
	dcap := Values{}
	for name, value := range map[string]string{
		"qcnlConfig": w.QCNLConfig, "pccsUrl": w.PCCSURL, "useSecureCert": w.SecureCert,
	} {
		if value != "" {
			dcap[name] = value
		}
	}
	if len(dcap) > 0 {
		out["dcap"] = dcap
	}
}

// tee sets what differs between SGX, other TEEs and simulation: the resources of the SGX plugin.
func (w Wishes) tee(c *chart.Chart, plugin func() (string, error), out, coordinator, injector Values) error {
	key := w.ResourceKey
	sgx := !w.Simulation && (w.TEE == "" || w.TEE == SGX)
	if w.Simulation {
		coordinator["simulation"] = true
	}
	if !sgx {
		out["tolerations"] = nil
		if without, _ := withoutSGX(c); len(without) > 0 {
			coordinator["resources"] = without
		}
	}
	if w.Simulation {
		out["dcap"] = nil
	}
	if key == "" && sgx {
		found, err := plugin()
		if err != nil {
			return err
		}
		key = found
	}
	if sgx && (key != "" || w.ResourceQuantity != "") {
		resource(c, orDefault(key, cluster.IntelEPC), w.ResourceQuantity, out, coordinator)
	}
	if key != "" && !w.NoInjection {
		injector["resourceKey"] = key
	}
	if w.ResourceQuantity != "" && !w.NoInjection {
		injector["sgxQuantity"] = w.ResourceQuantity
	}
	return nil
}

func orDefault(s, byDefault string) string {
	if s == "" {
		return byDefault
	}
	return s
}

// resource makes the Coordinator ask for an SGX plugin's resource in place of the chart's.
func resource(c *chart.Chart, key, quantity string, out, coordinator Values) {
	out["tolerations"] = tolerations(c, key)
	resources, removed := withoutSGX(c)
	limits, _ := resources["limits"].(Values)
	if limits == nil {
		limits = Values{}
		resources["limits"] = limits
	}
	if key == cluster.IntelEPC {
		limits[cluster.IntelProvision], limits[cluster.IntelEnclave] = 1, 1
		quantity = orDefault(quantity, "10Mi")
	}
	if removed || quantity != "" {
		limits[key] = orDefault(quantity, "10")
	}
	coordinator["resources"] = resources
}

// tolerations are the chart's, and one for the resource's taint.
func tolerations(c *chart.Chart, key string) []any {
	all, _ := c.Values["tolerations"].([]any)
	for _, t := range all {
		if t, ok := t.(Values); ok && t["key"] == key {
			return all
		}
	}
	return append(append([]any{}, all...), Values{"key": key, "operator": "Exists", "effect": "NoSchedule"})
}

// withoutSGX returns values that remove the SGX resources from the chart's requests and limits, and whether there were
// any: null removes a default.
func withoutSGX(c *chart.Chart) (resources Values, removed bool) {
	resources = Values{}
	for _, kind := range []string{"limits", "requests"} {
		from, _ := lookup(c.Values, "coordinator", "resources", kind).(Values)
		nulls := Values{}
		for _, name := range cluster.SGXResources() {
			if _, found := from[name]; found {
				nulls[name] = nil
			}
		}
		if len(nulls) > 0 {
			resources[kind], removed = nulls, true
		}
	}
	return resources, removed
}

func lookup(from any, path ...string) any {
	for _, name := range path {
		table, _ := from.(Values)
		from = table[name]
	}
	return from
}

// Lookup returns the value at a path of names; nil if there is none.
func Lookup(v Values, path ...string) any { return lookup(v, path...) }

// Parse reads the values.
func (g Given) Parse() (Values, error) {
	out := Values{}
	for _, path := range g.Files {
		values, err := g.file(path)
		if err != nil {
			return nil, err
		}
		out = loader.MergeMaps(out, values)
	}
	return g.expressions(out)
}

func (g Given) file(path string) (Values, error) {
	data, err := g.read(path)
	if err != nil {
		return nil, fmt.Errorf("reading values: %w", err)
	}
	values, err := loader.LoadValues(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading values from %s: %w", path, err)
	}
	return maps.Clone(values), nil
}

func (g Given) read(path string) ([]byte, error) {
	if path != "-" {
		return os.ReadFile(path)
	}
	if g.Stdin == nil {
		return nil, errors.New("there is no standard input")
	}
	return io.ReadAll(g.Stdin)
}

// commaHint is about the mistake that nearly everybody makes once.
func commaHint(err error) error {
	return api.WithHint(err, `A comma separates values: write \, for one inside a value, and \. for a dot inside a name. `+
		"Or put the values into a file for --values.")
}
