// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"

	"github.com/marblerun/marblerun/internal/kube/cluster"
)

const claimHint = "The Coordinator keeps its sealed state on this volume. Give the cluster a default StorageClass, name " +
	"one with --set coordinator.storageClass=NAME, or create a PersistentVolume."

const sgxHint = "No node has this SGX resource free. Is the SGX device plugin installed ('marblerun precheck')? " +
	"Another plugin's resource: --resource-key. Without SGX: --simulation."

// hints are what to do about texts of Kubernetes. The first that fits is taken.
var hints = []struct {
	parts []string
	hint  string
}{
	{[]string{"Insufficient sgx.intel.com/"}, sgxHint},
	{[]string{"Insufficient kubernetes.azure.com/sgx"}, sgxHint},
	{[]string{"Insufficient alibabacloud.com/sgx"}, sgxHint},
	{[]string{"unbound immediate PersistentVolumeClaims"}, claimHint},
	{[]string{"no persistent volumes available"}, claimHint},
	{[]string{"volume node affinity conflict"},
		"The volume with the sealed state is bound to another node, which cannot take the Pod now."},
	{[]string{"untolerated taint"},
		"If the node is meant for MarbleRun, tolerate its taint with the value 'tolerations' in a file for --values."},
	{[]string{"Insufficient cpu"}, "The nodes are full. 'kubectl describe nodes' shows by what."},
	{[]string{"Insufficient memory"}, "The nodes are full. 'kubectl describe nodes' shows by what."},
	{[]string{"Insufficient "},
		"No node has this resource free. 'kubectl describe nodes' shows what they have; --resource-key names another one."},
	{[]string{"didn't match Pod's node affinity"},
		"The value 'nodeSelector' leaves no node; its default is kubernetes.io/os: linux."},
	{[]string{"ErrImagePull", "/coordinator-sgx:"},
		"The image for SGX contains your signature of the enclave, so you build it (images/README.md) and name its registry: " +
			"--set coordinator.repository=…. Without SGX: --simulation."},
	{[]string{"ImagePullBackOff"}, imageHint}, {[]string{"ErrImagePull"}, imageHint},
	{[]string{"InvalidImageName"}, imageHint},
	{[]string{"ErrImageNeverPull"},
		"Load the image onto the node, or let it be pulled: --set coordinator.pullPolicy=IfNotPresent."},
	{[]string{"CrashLoopBackOff"}, "kubectl -n {namespace} logs {pod} --previous"},
	{[]string{"ended with exit code"}, "kubectl -n {namespace} logs {pod} --previous"},
	{[]string{"RuntimeClass", "not found"},
		"'kubectl get runtimeclasses' lists what --set coordinator.runtimeClassName=NAME can name."},
	{[]string{"exceeded quota"}, "kubectl -n {namespace} describe resourcequota"},
	{[]string{"violates PodSecurity"},
		"The namespace's Pod Security level forbids this Pod: " +
			"kubectl label ns {namespace} pod-security.kubernetes.io/enforce=privileged --overwrite"},
	{[]string{"failed calling webhook"}, cluster.WebhookHint},
}

const imageHint = "The node cannot get the image. Without a way to the registry, load it onto the node; from a registry of " +
	"your own: --set coordinator.repository=…,marbleInjector.repository=…; with credentials: --set global.pullSecret=NAME."

func hint(text, namespace, pod string) string {
	for _, h := range hints {
		if containsAll(text, h.parts) {
			return strings.NewReplacer("{namespace}", namespace, "{pod}", pod).Replace(h.hint)
		}
	}
	return ""
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// maxText is the length of a reason in bytes; Kubernetes can be wordy.
const maxText = 300

// oneLine puts a message into one line of bounded length. What is too long loses its middle: errors begin with what
// was done and end with the cause.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxText {
		return s
	}
	half := maxText / 2
	return strings.ToValidUTF8(s[:half], "") + "…" + strings.ToValidUTF8(s[len(s)-half:], "")
}
