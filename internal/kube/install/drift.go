// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"reflect"
	"strings"

	"helm.sh/helm/v4/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// findDrift returns the objects that somebody has changed in what the chart says about them: applying them would change
// them, which the API server tells without doing it.
func (i *Installer) findDrift(p *Plan) ([]Key, error) {
	now, err := i.config.KubeClient.Build(strings.NewReader(p.manifest), false)
	if err != nil {
		return nil, fmt.Errorf("understanding the chart's objects: %w", err)
	}
	applied, err := i.config.KubeClient.Build(strings.NewReader(p.manifest), false)
	if err != nil {
		return nil, fmt.Errorf("understanding the chart's objects: %w", err)
	}
	for _, info := range applied {
		p.own(info.Object)
	}
	_, err = i.config.KubeClient.Create(applied,
		kube.ClientCreateOptionServerSideApply(true, true), kube.ClientCreateOptionDryRun(true))
	if apierrors.IsForbidden(err) {
		return nil, nil // who may only look is not told of drift
	}
	if err != nil {
		return nil, fmt.Errorf("comparing with the cluster: %w", err)
	}
	var drifted []Key
	for n, info := range now {
		if err := info.Get(); err != nil {
			return nil, fmt.Errorf("comparing with the cluster: %w", err)
		}
		if !reflect.DeepEqual(essence(info.Object), essence(applied[n].Object)) {
			drifted = append(drifted, Key{Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name})
		}
	}
	return drifted, nil
}

// own marks an object as the release's, as Helm does.
func (p *Plan) own(object runtime.Object) {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	labels, annotations := o.GetLabels(), o.GetAnnotations()
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels["app.kubernetes.io/managed-by"] = "Helm"
	annotations[releaseAnnotation], annotations[namespaceAnnotation] = p.Release, p.Namespace
	o.SetLabels(labels)
	o.SetAnnotations(annotations)
}

// essence is an object without what changes by itself.
func essence(object runtime.Object) map[string]any {
	o, ok := object.(*unstructured.Unstructured)
	if !ok {
		return nil
	}
	o = o.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(o.Object, "status")
	return o.Object
}
