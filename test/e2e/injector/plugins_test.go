// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// testPlugins: a Pod asks for what each device plugin offers, waits until a node has it, and then runs there.
func testPlugins(intel *installation) {
	installed := func(name string, values ...string) *installation {
		for i := range values {
			values[i] = "marbleInjector." + values[i]
		}
		return install(intel.Kit, name, values...)
	}
	const azureKey, alibabaKey, customKey = "kubernetes.azure.com/sgx_epc_mem_in_MiB", "alibabacloud.com/sgx_epc_MiB",
		"example.com/epc"
	azure := installed("azure", "resourceKey="+azureKey)
	alibaba := installed("alibaba", "resourceKey="+alibabaKey)
	custom := installed("custom", "resourceKey="+customKey, "sgxQuantity=3")
	for _, p := range []plugin{
		{intel, "sgx.intel.com/epc",
			map[string]string{"sgx.intel.com/epc": "10Mi", "sgx.intel.com/enclave": "1", "sgx.intel.com/provision": "1"},
			"32Mi", map[string]string{"sgx.intel.com/epc": "200Mi", "sgx.intel.com/enclave": "20",
				"sgx.intel.com/provision": "20"}},
		{azure, azureKey, map[string]string{azureKey: "10"}, "32", map[string]string{azureKey: "20"}},
		{alibaba, alibabaKey, map[string]string{alibabaKey: "10"}, "32", map[string]string{alibabaKey: "20"}},
		{custom, customKey, map[string]string{customKey: "3"}, "32Mi", map[string]string{customKey: "5"}},
	} {
		name, _, _ := strings.Cut(p.key, "/")
		intel.run(name, func(part *installation) {
			part.ns, part.pods = p.in.ns, p.in.pods
			p.in = part
			p.test()
		})
	}
	testTwoInstallations(intel, custom)
}

// plugin is a device plugin, and the installation for it.
type plugin struct {
	in     *installation
	key    string
	limits map[string]string
	sized  string            // amount of key for the annotation marblerun/sgx-epc: 32Mi
	node   map[string]string // what the node gets
}

func (p plugin) test() {
	p.in.ready()
	pod := p.in.must(runs(p.in.Kit, "waits", "web"), false)
	if diff := cmp.Diff(p.limits, limits(pod.Spec.Containers[0])); diff != "" {
		p.in.Error("limits:", diff)
	}
	if diff := cmp.Diff([]string{p.key + " Exists NoSchedule"}, tolerations(pod)); diff != "" {
		p.in.Error("tolerations:", diff)
	}
	sized := idle("sized-")
	sized.Annotations = map[string]string{"marblerun/sgx-epc": "32Mi"}
	if got := limits(p.in.must(sized, true).Spec.Containers[0])[p.key]; got != p.sized {
		p.in.Errorf("with marblerun/sgx-epc: 32Mi it gets %s of %s, want %s", got, p.key, p.sized)
	}
	if !p.in.HasResource(p.key) {
		refused := p.in.PodIs(p.in.pods, "waits", "finds no node", kit.Unschedulable)
		if state := kit.State(refused); !strings.Contains(state, "Insufficient "+p.key) {
			p.in.Errorf("the scheduler says %s", state)
		}
	}
	p.in.FakeResources(p.node)
	p.in.PodIs(p.in.pods, "waits", "runs", kit.Ready)
}

// testTwoInstallations: two injectors that see the same Pods add up, and nothing is there twice.
func testTwoInstallations(intel, custom *installation) {
	both := &installation{intel.Kit, intel.ns, intel.Namespace("both", intel.ns, "sees", custom.ns, "sees")}
	pod := both.must(idle("both-"), true)
	c := pod.Spec.Containers[0]
	want := map[string]string{"sgx.intel.com/epc": "10Mi", "sgx.intel.com/enclave": "1", "sgx.intel.com/provision": "1",
		"example.com/epc": "3"}
	if diff := cmp.Diff(want, limits(c)); diff != "" {
		both.Error("limits:", diff)
	}
	first := min(intel.hooks(), custom.hooks()) // webhooks are called in the order of their configurations' names
	coordinator := "coordinator-mesh-api." + strings.TrimPrefix(first, "marble-injector-") + ":2001"
	if got := variables(c)["EDG_MARBLE_COORDINATOR_ADDR"]; got != coordinator {
		both.Errorf("the Coordinator is %s, want %s: who comes first decides", got, coordinator)
	}
	if len(c.Env) != 4 || len(mounts(c)) != 1 || len(uuidVolumes(pod)) != 1 || len(tolerations(pod)) != 2 {
		both.Errorf("%d variables, mounts %v, %d UUID volumes, tolerations %v", len(c.Env), mounts(c),
			len(uuidVolumes(pod)), tolerations(pod))
	}
}
