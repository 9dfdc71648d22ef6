// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// TestUninstall looks at every object of the cluster before and after: what is left is what the documentation says, and
// a new installation goes on with it. It runs alone, because of that.
func TestUninstall(t *testing.T) {
	t.Run("marblerun", func(t *testing.T) {
		p := newPlane(t, "cliun")
		p.uninstalls(
			func() { p.Marblerun("install", "-n", p.ns, "--simulation") },
			func() {
				out := p.Marblerun("uninstall", "-n", p.ns)
				p.has("marblerun uninstall", out.Stdout, "MarbleRun successfully removed from your cluster")
				p.has("marblerun uninstall", out.Stdout+out.Stderr, claim, "kubectl -n "+p.ns+" delete pvc "+claim,
					"kubectl delete namespace "+p.ns)
			},
			func() {
				out := p.Fails("marblerun", "uninstall", "-n", p.ns, "--delete-state")
				p.has("--delete-state alone", out.Stderr, "--yes")
				p.Marblerun("uninstall", "-n", p.ns, "--delete-state", "--yes")
			})
		out := p.Fails("marblerun", "uninstall", "-n", p.ns)
		p.has("one more uninstall", out.Stderr, "release: not found")
	})
	t.Run("helm", func(t *testing.T) {
		p := newPlane(t, "helmun")
		p.uninstalls(
			func() {
				p.Helm(append([]string{"install", "marblerun", p.Chart("marblerun"), "-n", p.ns, "--create-namespace",
					"--set", "marbleInjector.start=true"}, simulation()...)...)
			},
			func() {
				p.has("helm uninstall", p.Helm("uninstall", "marblerun", "-n", p.ns, "--wait"), "kept", claim)
			},
			func() {
				p.Helm("uninstall", "marblerun", "-n", p.ns, "--wait")
				p.Kubectl("-n", p.ns, "delete", "pvc", claim)
			})
	})
}

// TestAnotherName installs in the two ways of the guide, one after the other. They name the release differently, and the
// second goes on with the state that the first has left.
func TestAnotherName(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "names")
	p.Marblerun("install", "-n", p.ns, "--simulation")
	p.reach(2)
	p.setManifest()
	root := p.root()
	p.Marblerun("uninstall", "-n", p.ns)
	const old = "marblerun-coordinator"
	p.Helm(append([]string{"install", old, p.Chart(old), "-n", p.ns}, simulation()...)...)
	p.reach(3)
	if after := p.root(); after != root {
		p.Errorf("the root certificate was\n%s\nand is\n%s", root, after)
	}
	p.Helm("upgrade", old, p.Chart(old), "-n", p.ns, "--reuse-values", "--set", "coordinator.debugLogging=true")
	p.Helm("uninstall", old, "-n", p.ns, "--wait")
	p.Kubectl("-n", p.ns, "get", "pvc", claim)
	p.Marblerun("install", "-n", p.ns, "--simulation")
	p.reach(3)
}

// uninstalls installs and uninstalls twice: the first time the state is left, the second time it is deleted, too.
func (p *plane) uninstalls(install, uninstall, uninstallAll func()) {
	p.Helper()
	before := p.snapshot()
	install()
	p.DeploymentReady(p.ns, injector)
	p.reach(2)
	p.setManifest()
	p.deploy("echo.yaml")
	p.logHas(p.marbles, "app=echo-client", "answers \"hello")
	root, marbles := p.root(), p.pods(p.marbles, "")

	uninstall()
	// Marbles that run do not notice.
	if after := p.pods(p.marbles, ""); !maps.Equal(marbles, after) {
		p.Errorf("the Marbles were %v and are %v", marbles, after)
	}
	p.Kubectl("delete", "namespace", p.marbles, "--timeout=60s")
	namespace := []string{"namespaces " + p.ns, "configmaps " + p.ns + "/kube-root-ca.crt",
		"serviceaccounts " + p.ns + "/default"}
	p.leaves("uninstalling", before, append(namespace, "persistentvolumeclaims "+p.ns+"/"+claim))

	install()
	p.reach(3)
	if after := p.root(); after != root {
		p.Errorf("the root certificate was\n%s\nand is\n%s", root, after)
	}
	p.has("manifest verify", p.Marblerun("manifest", "verify", p.manifest(), p.addr, "-i").Stdout, "OK")
	uninstallAll()
	p.leaves("uninstalling with the state", before, namespace)
	p.Kubectl("delete", "namespace", p.ns, "--timeout=60s")
	p.leaves("deleting the namespace, too,", before, nil)
}

// leaves waits until there are the objects of before, and these. What belongs to others goes a bit later than they.
func (p *plane) leaves(what string, before map[string]bool, want []string) {
	p.Helper()
	slices.Sort(want)
	p.Eventually(fmt.Sprintf("%s leaves what it should", what), func(context.Context) error {
		var got []string
		for object := range p.snapshot() {
			if !before[object] {
				got = append(got, object)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			return fmt.Errorf("it leaves (-want +got):\n%s", diff)
		}
		return nil
	})
}

// passing are kinds whose objects come and go by themselves.
var passing = []string{"events", "events.events.k8s.io", "leases.coordination.k8s.io", "persistentvolumes"}

// snapshot is every object of the cluster, as "resource namespace/name", except passing ones.
func (p *plane) snapshot() map[string]bool {
	p.Helper()
	client, err := dynamic.NewForConfig(p.Config)
	if err != nil {
		p.Fatal(err)
	}
	lists, err := p.Kube.Discovery().ServerPreferredResources()
	if err != nil {
		p.Fatal(err)
	}
	objects := map[string]bool{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			p.Fatal(err)
		}
		for _, resource := range list.APIResources {
			kind := version.WithResource(resource.Name)
			name := strings.TrimSuffix(kind.GroupResource().String(), ".")
			if !slices.Contains(resource.Verbs, "list") || slices.Contains(passing, name) {
				continue
			}
			all, err := client.Resource(kind).List(p.Context(), metav1.ListOptions{})
			if err != nil {
				p.Fatalf("listing %s: %v", name, err)
			}
			for _, o := range all.Items {
				objects[name+" "+strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/")] = true
			}
		}
	}
	if len(objects) < 50 {
		p.Fatalf("only %d objects in the cluster: this cannot be", len(objects))
	}
	return objects
}

// printed reads what a command printed as JSON.
func (p *plane) printed(v any, text string) {
	p.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		p.Fatalf("%v in:\n%s", err, text)
	}
}
