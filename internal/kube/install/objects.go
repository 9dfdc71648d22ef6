// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"helm.sh/helm/v4/pkg/kube"
)

// Key names an object of a cluster. Namespace is empty where the manifest names none.
type Key struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is the kind and the name.
func (k Key) String() string { return k.Kind + " " + k.Name }

// Objects are what a manifest describes, in its order.
type Objects []*unstructured.Unstructured

// ParseManifest reads a rendered chart: YAML documents.
func ParseManifest(manifest string) (Objects, error) {
	var all Objects
	reader := yamlstream.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		if err := yaml.Unmarshal(document, &object); err != nil {
			return nil, fmt.Errorf("reading a rendered object: %w", err)
		}
		if len(object) > 0 {
			all = append(all, &unstructured.Unstructured{Object: object})
		}
	}
}

func key(o *unstructured.Unstructured) Key {
	return Key{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
}

// find returns the object of that kind and name; nil if there is none.
func (all Objects) find(kind, name string) *unstructured.Unstructured {
	for _, o := range all {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	return nil
}

// same compares what two manifests describe, whatever their order.
func (all Objects) same(others Objects) bool {
	if len(all) != len(others) {
		return false
	}
	for _, o := range all {
		other := others.find(o.GetKind(), o.GetName())
		if other == nil || !reflect.DeepEqual(o.Object, other.Object) {
			return false
		}
	}
	return true
}

// images are the containers' images, by "Deployment/container".
func (all Objects) images() map[string]string {
	found := map[string]string{}
	for _, o := range all {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		for _, c := range containers {
			if c, ok := c.(map[string]any); ok {
				found[fmt.Sprintf("%s/%v", o.GetName(), c["name"])] = fmt.Sprint(c["image"])
			}
		}
	}
	return found
}

// liveObject is an object as it is in the cluster now.
type liveObject struct {
	Key
	found bool
	// ending: it is being deleted.
	ending bool
	// release and namespace are whose it is by its annotations; empty: nobody's.
	release, namespace string
}

// Annotations by which Helm knows its own.
const (
	releaseAnnotation   = "meta.helm.sh/release-name"
	namespaceAnnotation = "meta.helm.sh/release-namespace"
)

// readLive reads the objects of a manifest.
func (i *Installer) readLive(manifest string) ([]liveObject, error) {
	infos, err := i.config.KubeClient.Build(strings.NewReader(manifest), false)
	if err != nil {
		return nil, fmt.Errorf("understanding the chart's objects: %w", err)
	}
	var all []liveObject
	for _, info := range infos {
		object := liveObject{Key: Key{Kind: info.Mapping.GroupVersionKind.Kind, Namespace: info.Namespace, Name: info.Name}}
		err := info.Get()
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, fmt.Errorf("reading %s: %w", object.Key, err)
		default:
			object.found = true
			if o, ok := info.Object.(*unstructured.Unstructured); ok {
				object.ending = o.GetDeletionTimestamp() != nil
				object.release = o.GetAnnotations()[releaseAnnotation]
				object.namespace = o.GetAnnotations()[namespaceAnnotation]
			}
		}
		all = append(all, object)
	}
	return all, nil
}

// dryRun has the API server check the objects: schema, admission, permissions.
func (i *Installer) dryRun(manifest string) error {
	infos, err := i.config.KubeClient.Build(strings.NewReader(manifest), false)
	if err != nil {
		return fmt.Errorf("understanding the chart's objects: %w", err)
	}
	_, err = i.config.KubeClient.Create(infos,
		kube.ClientCreateOptionServerSideApply(true, true), kube.ClientCreateOptionDryRun(true))
	return err
}

// inNamespace returns the objects in another namespace.
func (all Objects) inNamespace(namespace string) Objects {
	var moved Objects
	for _, o := range all {
		o = o.DeepCopy()
		if o.GetNamespace() != "" {
			o.SetNamespace(namespace)
		}
		moved = append(moved, o)
	}
	return moved
}

// manifest is the opposite of ParseManifest.
func (all Objects) manifest() (string, error) {
	var out bytes.Buffer
	for _, o := range all {
		data, err := yaml.Marshal(o.Object)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "---\n%s", data)
	}
	return out.String(), nil
}

func sortKeys(keys []Key) {
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
}
