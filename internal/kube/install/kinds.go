// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"log/slog"
	"slices"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/kube"
	release "helm.sh/helm/v4/pkg/release/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Render renders a chart without a cluster, as if for a version of Kubernetes, e.g. v1.35.0.
func Render(c *chart.Chart, kubernetes, namespace string, values map[string]any) (Objects, error) {
	version, err := common.ParseKubeVersion(kubernetes)
	if err != nil {
		return nil, fmt.Errorf("rendering the chart: %w", err)
	}
	run := action.NewInstall(action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler)))
	run.DryRunStrategy, run.WaitStrategy = action.DryRunClient, kube.HookOnlyStrategy
	run.ReleaseName, run.Namespace, run.KubeVersion = ReleaseName, namespace, version
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
func Kinds(c *chart.Chart, kubernetes, namespace string, values map[string]any) ([]schema.GroupVersionKind, error) {
	objects, err := Render(c, kubernetes, namespace, values)
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
