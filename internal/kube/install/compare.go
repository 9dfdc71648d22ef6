// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common/util"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/marblerun/marblerun/api"
)

// guard refuses what would hurt, and returns the chart to use. The two charts of a repository differ in their name
// only, which decides over defaults: the name stays what it was.
func (i *Installer) guard(before *release.Release, p *Plan, r Request) (*chart.Chart, error) {
	if before == nil || before.Chart == nil || before.Chart.Metadata == nil {
		return r.Chart, nil
	}
	to := *r.Chart
	metadata := *r.Chart.Metadata
	to.Metadata = &metadata
	if name := chartName(before); name == ReleaseName || name == OldReleaseName {
		metadata.Name = name
	}
	if r.Force {
		return &to, nil
	}
	from := before.Chart.Metadata.Version
	if older(metadata.Version, from) {
		return nil, api.WithHint(fmt.Errorf("chart %s is older than the installed %s", metadata.Version, from),
			"An older Coordinator may not understand the newer state. If you are sure, add --force.")
	}
	was, err := platform(before.Chart, before.Config)
	if err != nil {
		return nil, err
	}
	will, err := platform(&to, p.values)
	if err != nil {
		return nil, err
	}
	if was != will {
		return nil, api.WithHint(
			fmt.Errorf("the Coordinator would change from %s to %s, where it cannot open its state", was, will),
			"Its state would need recovery, or to be deleted first: 'marblerun uninstall --delete-state'. To do it all "+
				"the same, add --force.")
	}
	return &to, nil
}

func chartName(r *release.Release) string {
	if r.Chart == nil || r.Chart.Metadata == nil {
		return ""
	}
	return r.Chart.Metadata.Name
}

// older compares versions; what is no version is older than nothing.
func older(a, b string) bool {
	first, err1 := version.ParseSemantic(a)
	second, err2 := version.ParseSemantic(b)
	return err1 == nil && err2 == nil && first.LessThan(second)
}

// Simulation is the platform without a TEE.
const Simulation = "simulation"

// platform is what the Coordinator runs on, as the chart decides it: Simulation or the kind of TEE.
func platform(c *chart.Chart, config map[string]any) (string, error) {
	values, err := util.CoalesceValues(c, copyValues(config))
	if err != nil {
		return "", fmt.Errorf("generating helm values: %w", err)
	}
	coordinator, _ := values["coordinator"].(map[string]any)
	switch strings.ToLower(fmt.Sprint(coordinator["simulation"])) {
	case "1", "true":
		return Simulation, nil
	}
	if tee, _ := coordinator["tee"].(string); tee != "" {
		return tee, nil
	}
	return "sgx", nil
}

// compare fills in what will differ.
func (i *Installer) compare(p *Plan, before *release.Release) error {
	was := Objects{}
	if before != nil {
		var err error
		if was, err = ParseManifest(before.Manifest); err != nil {
			return err
		}
	}
	live, err := i.live(p.manifest)
	if err != nil {
		return i.cluster.Explain(err)
	}
	if err := i.ownership(p, live); err != nil {
		return err
	}
	var missing []Key
	for _, object := range live {
		o := p.Objects.find(object.Kind, object.Name)
		old := was.find(object.Kind, object.Name)
		switch {
		case !object.found:
			p.Create = append(p.Create, object.Key)
			if old != nil {
				missing = append(missing, object.Key)
			}
		case o == nil || old == nil || !reflect.DeepEqual(o.Object, old.Object):
			p.Change = append(p.Change, object.Key)
		}
	}
	for _, old := range was {
		if p.Objects.find(old.GetKind(), old.GetName()) == nil {
			p.Delete = append(p.Delete, key(old))
		}
	}
	for _, keys := range [][]Key{p.Create, p.Change, p.Delete} {
		sortKeys(keys)
	}
	if before != nil {
		p.Changes = changes(before, p.chart, p.values, was, p.Objects)
		p.repair("missing in the cluster", missing)
	}
	if before == nil || p.Repair != "" || len(p.Changes) > 0 || !p.Objects.same(was) || p.adopt {
		return nil
	}
	drifted, err := i.drift(p)
	if err != nil {
		return i.cluster.Explain(err)
	}
	p.Change = append(p.Change, drifted...)
	p.repair("changed in the cluster", drifted)
	p.Nothing = p.Repair == ""
	return nil
}

// repair notes objects that somebody else has deleted or changed.
func (p *Plan) repair(why string, keys []Key) {
	if len(keys) == 0 || p.Repair != "" {
		return
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.String())
	}
	p.Repair = why + ": " + strings.Join(names, ", ")
}

// changes says in words what differs between two revisions.
func changes(before *release.Release, to *chart.Chart, values map[string]any, was, will Objects) []string {
	var out []string
	if before.Chart != nil && before.Chart.Metadata != nil && before.Chart.Metadata.Version != to.Metadata.Version {
		out = append(out, fmt.Sprintf("chart %s → %s", before.Chart.Metadata.Version, to.Metadata.Version))
	}
	old := was.images()
	images := will.images()
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if from := old[name]; from != "" && from != images[name] {
			out = append(out, fmt.Sprintf("image of %s: %s → %s", name, from, images[name]))
		}
	}
	if names := changedValues("", normal(before.Config), normal(values)); len(names) > 0 {
		out = append(out, "values: "+strings.Join(names, ", "))
	}
	return out
}

// normal has the types that values have after being stored as JSON.
func normal(values map[string]any) map[string]any {
	out := map[string]any{}
	if data, err := json.Marshal(values); err == nil {
		_ = json.Unmarshal(data, &out) // what was marshaled can be unmarshaled
	}
	return out
}

// changedValues are the sorted names of values that differ.
func changedValues(prefix string, a, b map[string]any) []string {
	all := map[string]any{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		inA, okA := a[name].(map[string]any)
		inB, okB := b[name].(map[string]any)
		_, hasA := a[name]
		_, hasB := b[name]
		switch {
		case okA && okB, okA && !hasB, okB && !hasA:
			names = append(names, changedValues(prefix+name+".", inA, inB)...)
		case hasA != hasB || !reflect.DeepEqual(a[name], b[name]):
			names = append(names, prefix+name)
		}
	}
	return names
}

// ownership refuses to take over objects of others. Objects of a release that is gone are nobody's, and the claim of
// the state is taken over if it is nobody's.
func (i *Installer) ownership(p *Plan, live []liveObject) error {
	var errs []error
	for _, object := range live {
		switch {
		case !object.found, object.release == p.Release && object.namespace == p.Namespace:
		case object.release == "" && object.Kind == "PersistentVolumeClaim", i.orphan(object):
			p.adopt = true
		case object.release == "":
			errs = append(errs, fmt.Errorf("%s exists and was not made by Helm", object.Key))
		default:
			errs = append(errs, fmt.Errorf("%s exists and belongs to Helm release %s in namespace %s",
				object.Key, object.release, object.namespace))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return api.WithHint(errors.Join(errs...),
		fmt.Sprintf("MarbleRun does not touch what is not its own. Uninstall the other installation, "+
			"delete these objects, or install into another namespace than %s.", p.Namespace))
}

// orphan: the object's release was in this namespace, and no record of it is left.
func (i *Installer) orphan(object liveObject) bool {
	if object.release == "" || object.namespace != i.cluster.Namespace {
		return false
	}
	history, err := i.config.Releases.History(object.release)
	return len(history) == 0 && err != nil && isNotFound(err)
}
