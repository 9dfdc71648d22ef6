// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Resources of SGX device plugins. Intel's EPC counts bytes, the others count MiB.
const (
	IntelEPC       = "sgx.intel.com/epc"
	IntelEnclave   = "sgx.intel.com/enclave"
	IntelProvision = "sgx.intel.com/provision"
	AzureEPC       = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
	AlibabaEPC     = "alibabacloud.com/sgx_epc_MiB"
)

// SGXResources are all resources of the known plugins.
func SGXResources() []string {
	return []string{IntelEPC, IntelEnclave, IntelProvision, AzureEPC, AlibabaEPC}
}

// SGXNode is a node with an SGX device plugin.
type SGXNode struct {
	Name string `json:"name"`
	// Resource is the one of its plugin that counts EPC memory.
	Resource string `json:"resource"`
	// Capacity is how much of it the node has.
	Capacity string `json:"capacity"`
}

// SGX is what the nodes of a cluster have.
type SGX struct {
	// Nodes are those with SGX.
	Nodes []SGXNode `json:"nodes"`
	// Total counts all nodes.
	Total int `json:"total"`
}

// SGX reads the nodes, which needs the permission to list them.
func (c *Cluster) SGX(ctx context.Context) (SGX, error) {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return SGX{Nodes: []SGXNode{}}, fmt.Errorf("listing the nodes: %w", err)
	}
	found := SGX{Nodes: []SGXNode{}, Total: len(nodes.Items)}
	for _, node := range nodes.Items {
		if resource := sgxResource(&node); resource != "" {
			capacity := node.Status.Capacity[corev1.ResourceName(resource)]
			found.Nodes = append(found.Nodes, SGXNode{node.Name, resource, capacity.String()})
		}
	}
	return found, nil
}

// sgxResource is the resource of the node's plugin; empty: it has none. Intel's plugin must offer all three of its own.
func sgxResource(node *corev1.Node) string {
	has := func(name string) bool {
		q, found := node.Status.Capacity[corev1.ResourceName(name)]
		return found && !q.IsZero()
	}
	for _, resource := range []string{AlibabaEPC, AzureEPC} {
		if has(resource) {
			return resource
		}
	}
	if has(IntelEPC) && has(IntelEnclave) && has(IntelProvision) {
		return IntelEPC
	}
	return ""
}

// Resource is that of the first node with SGX; empty: there is none.
func (s SGX) Resource() string {
	if len(s.Nodes) == 0 {
		return ""
	}
	return s.Nodes[0].Resource
}

// Resources are all that nodes have, without repetition.
func (s SGX) Resources() []string {
	var all []string
	for _, node := range s.Nodes {
		if !slices.Contains(all, node.Resource) {
			all = append(all, node.Resource)
		}
	}
	return all
}
