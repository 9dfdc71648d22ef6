// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// FakeResources pretends that a node has extended resources, as a device plugin would, until the test ends. Resources
// that a node really has stay as they are.
func (k *Kit) FakeResources(resources map[string]string) {
	k.Helper()
	ctx, cancel := k.brief()
	defer cancel()
	nodes, err := k.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		k.Fatal(err)
	}
	node, err := schedulable(nodes.Items)
	if err != nil {
		k.Fatal(err)
	}
	add, remove := map[string]any{}, map[string]any{}
	for name, amount := range resources {
		if _, exists := node.Status.Capacity[corev1.ResourceName(name)]; !exists {
			add[name], remove[name] = amount, nil
		}
	}
	if err := k.patchResources(ctx, node.Name, add); err != nil {
		k.Fatal(err)
	}
	k.Cleanup(func() {
		ctx, cancel := k.brief()
		defer cancel()
		if err := k.patchResources(ctx, node.Name, remove); err != nil {
			k.Errorf("taking the fake resources away: %v", err)
		}
	})
}

// HasResource says whether a node has an extended resource.
func (k *Kit) HasResource(name string) bool {
	k.Helper()
	ctx, cancel := k.brief()
	defer cancel()
	nodes, err := k.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		k.Fatal(err)
	}
	return slices.ContainsFunc(nodes.Items, func(n corev1.Node) bool {
		amount := n.Status.Allocatable[corev1.ResourceName(name)]
		return !amount.IsZero()
	})
}

func schedulable(nodes []corev1.Node) (*corev1.Node, error) {
	for i := range nodes {
		if !nodes[i].Spec.Unschedulable && len(nodes[i].Spec.Taints) == 0 {
			return &nodes[i], nil
		}
	}
	return nil, fmt.Errorf("none of %d nodes takes a plain Pod", len(nodes))
}

func (k *Kit) patchResources(ctx context.Context, node string, resources map[string]any) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"capacity": resources, "allocatable": resources}})
	if err != nil {
		return err
	}
	_, err = k.Kube.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}
