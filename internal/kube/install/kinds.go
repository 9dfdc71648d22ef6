// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"log/slog"
	"slices"

	"helm.sh/helm/v4/pkg/action"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Render renders a chart without a cluster.
func Render(c *chart.Chart, namespace string, values map[string]any) (Objects, error) {
	run := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
	run.DryRunStrategy, run.WaitStrategy = action.DryRunClient, kube.HookOnlyStrategy
	run.ReleaseName, run.Namespace = ReleaseName, namespace
	rendered, err := run.Run(c, copyValues(values))
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	rel, ok := rendered.(*release.Release)
	if !ok {
		return nil, fmt.Errorf("rendering the chart: Helm returned a %T", rendered)
	}
	return ParseManifest(rel.Manifest)
}

// Kinds are those of a chart's objects, without repetition.
func Kinds(c *chart.Chart, namespace string, values map[string]any) ([]schema.GroupVersionKind, error) {
	objects, err := Render(c, namespace, values)
	if err != nil {
		return nil, err
	}
	var kinds []schema.GroupVersionKind
	for _, o := range objects {
		if kind := o.GroupVersionKind(); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds, nil
}
