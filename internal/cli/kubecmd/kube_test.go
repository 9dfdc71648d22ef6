// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kubecmd

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/marblerun/marblerun/internal/cli/console"
	"github.com/marblerun/marblerun/internal/cli/session"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/precheck"
	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

func newKube() (k Kube, out, err *bytes.Buffer) {
	out, err = &bytes.Buffer{}, &bytes.Buffer{}
	return Kube{Session: &session.Session{Console: console.Console{Out: out, Err: err}, Namespace: "mr"}}, out, err
}

// The texts of contract/cli.md §6.
func TestPrecheckText(t *testing.T) {
	node := cluster.SGXNode{Name: "n", Resource: cluster.IntelEPC, Capacity: "10Mi"}
	for name, test := range map[string]struct {
		nodes []cluster.SGXNode
		want  string
	}{
		"none": {nil, "Cluster does not support SGX, you may still run MarbleRun in simulation mode\n" +
			"To install MarbleRun run [marblerun install --simulation]\n" +
			"If your nodes have SGX support you might be missing an SGX device plugin\n"},
		"one": {[]cluster.SGXNode{node}, "Cluster supports SGX on 1 node\nTo install MarbleRun run [marblerun install]\n" +
			"SGX resource: sgx.intel.com/epc\n"},
		"two": {[]cluster.SGXNode{node, node},
			"Cluster supports SGX on 2 nodes\nTo install MarbleRun run [marblerun install]\n"},
	} {
		k, out, _ := newKube()
		k.precheck(&precheck.Report{SGX: cluster.SGX{Nodes: test.nodes}, Checks: []precheck.Check{
			{Name: "Storage", Status: precheck.Problem, Text: "none", Hint: "Create some."},
			{Name: "Kubernetes", Status: precheck.OK, Text: "v1", Hint: "not shown"},
		}})
		rest := "\nproblem  Storage: none\n         Create some.\nok       Kubernetes: v1\n"
		if !strings.HasPrefix(out.String(), test.want) || !strings.HasSuffix(out.String(), rest) {
			t.Errorf("%s: %s", name, out)
		}
	}
	k, out, err := newKube()
	k.precheck(&precheck.Report{SGXError: "no permission"})
	if out.String() != "\n" || err.String() != "Warning: whether nodes support SGX is not known: no permission\n" {
		t.Errorf("%q, %q", out, err)
	}
}

func TestFollow(t *testing.T) {
	statuses := []rollout.Status{
		{Name: "a", Found: true, Done: true},
		{Name: "b", Found: true, Wanted: 1, Reasons: []rollout.Reason{
			{Object: "Pod p", Text: "pending"}, {Object: "x", Text: "y"},
		}},
		{Name: "c"},
	}
	k, _, _ := newKube()
	shown := ""
	k.follow(func(s string) { shown = s })(statuses)
	if want := "b pods ready: 0/1 (Pod p: pending)"; shown != want {
		t.Errorf("got %q", shown)
	}
	k.Live = &console.Terminal{}
	k.follow(func(s string) { shown = s })(statuses)
	if want := "b pods ready: 0/1 (pending)"; shown != want {
		t.Errorf("got %q", shown)
	}
	shown = ""
	if k.follow(func(s string) { shown = s })(statuses[:1]); shown != "" {
		t.Errorf("got %q", shown)
	}
}

func TestRemovedText(t *testing.T) {
	k, out, err := newKube()
	k.removed(&install.Removed{
		Objects: []install.Key{{Kind: "Service", Name: "s"}},
		Left: []install.Left{{Key: install.Key{Kind: "Namespace", Name: "mr"}, Why: "others",
			Command: "kubectl delete namespace mr"}},
	})
	want := "removed Service s\nleft    Namespace mr: others\n          kubectl delete namespace mr\n"
	if out.String() != "" || err.String() != want {
		t.Errorf("%q, %q", out, err)
	}
}

// What comes next depends on the state, the port, and on whether there is a quote.
func TestNext(t *testing.T) {
	service := &unstructured.Unstructured{Object: map[string]any{
		"kind": "Service", "metadata": map[string]any{"name": "coordinator-client-api"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(4444)}}},
	}}
	plan := &install.Plan{Namespace: "mr", Objects: install.Objects{service}}
	for name, test := range map[string]struct {
		state *rollout.State
		want  []string
	}{
		"waits": {&rollout.State{Code: 2}, []string{
			"The Coordinator waits for a manifest (as the API server passed on, unverified).", "Next:",
			"  kubectl -n mr port-forward svc/coordinator-client-api 4444:4444 --address localhost &",
			"  marblerun manifest set manifest.json localhost:4444",
		}},
		"unknown": {nil, []string{
			"Next:",
			"  kubectl -n mr port-forward svc/coordinator-client-api 4444:4444 --address localhost &",
			"  marblerun manifest set manifest.json localhost:4444",
		}},
		"accepts": {&rollout.State{Code: 3}, []string{
			"The Coordinator accepts Marbles (as the API server passed on, unverified).",
		}},
		"recovery": {&rollout.State{Code: 1}, []string{
			"Warning: the Coordinator needs recovery (as the API server passed on, unverified). Next:",
			"  kubectl -n mr port-forward svc/coordinator-client-api 4444:4444 --address localhost &",
			"  marblerun recover RECOVERY_SECRET localhost:4444 -k KEY",
		}},
		"simulation": {nil, []string{
			"Next:",
			"  kubectl -n mr port-forward svc/coordinator-client-api 4444:4444 --address localhost &",
			"  marblerun manifest set manifest.json localhost:4444 --insecure",
		}},
	} {
		k, _, err := newKube()
		plan.Platform = name
		k.next(result{Plan: plan, Coordinator: test.state})
		if diff := cmp.Diff(strings.Join(test.want, "\n")+"\n", err.String()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
