// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

// Package lifecycle tests what happens to an installation in its life: it is installed in every documented way, waits for
// a manifest, admits Marbles and refuses others, crashes, is upgraded from the version before, is made wrong by wrong
// values, is reached by name through a proxy, and goes away, leaving what it says it leaves.
//
// Most tests run side by side. Each has namespaces of its own: one for the control plane, one for its Marbles, both with
// the Pod Security level "restricted"; and its injector looks at its own Marbles only. Tests that look at the whole
// cluster are not parallel, so they run alone.
package lifecycle

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
	"github.com/marblerun/marblerun/test/harness"
)

const (
	coordinator = "marblerun-coordinator"
	injector    = "marble-injector"
	claim       = "coordinator-pv-claim"
	clientAPI   = "coordinator-client-api"
	meshAPI     = "coordinator-mesh-api"
	clientPort  = 4433
	// ofCoordinator is the label that the documentation uses for logs.
	ofCoordinator = "edgeless.systems/control-plane-component=coordinator"
	domain        = "mycluster.example.com"
)

// plane is a control plane, or the place for one.
type plane struct {
	*kit.Kit
	ns      string // of the control plane
	marbles string // of its Marbles; made by deploy
	addr    string // of the client API, forwarded; see reach
}

// newPlane reserves names and a volume. Nothing else is in the cluster yet.
func newPlane(t testing.TB, purpose string) *plane {
	t.Helper()
	return place(t, purpose, true)
}

func place(t testing.TB, purpose string, withVolume bool) *plane {
	t.Helper()
	k := kit.New(t)
	p := &plane{Kit: k, ns: "e2e-" + purpose + "-" + strings.ToLower(rand.Text()[:5])}
	p.marbles = p.ns + "-m"
	if withVolume {
		p.offerVolume()
	}
	k.DeletesNamespace(p.ns)
	k.DeletesNamespace(p.marbles)
	k.Cleanup(p.removeClusterObjects)
	return p
}

// with is the same for a subtest.
func (p *plane) with(t testing.TB) *plane {
	c := *p
	c.Kit = p.With(t)
	return &c
}

// removeClusterObjects removes what does not go with the namespace. A webhook without a server would refuse Marbles.
func (p *plane) removeClusterObjects() {
	_, err := p.Try(kit.Command{Args: []string{"kubectl", "delete", "--ignore-not-found",
		"mutatingwebhookconfiguration,clusterrole,clusterrolebinding", injector + "-" + p.ns}})
	if err != nil {
		p.Error(err)
	}
}

// restricted makes a namespace with the strictest level of Pod Security.
func (p *plane) restricted(name string) {
	p.Helper()
	p.Apply("", fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n"+
		"    pod-security.kubernetes.io/enforce: restricted\n", name))
	p.Eventually("namespace "+name+" is usable", func(ctx context.Context) error {
		_, err := p.Kube.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// ownMarbles are values with which the injector looks at this plane's Marbles only.
func (p *plane) ownMarbles() []string {
	return []string{"--set-json", fmt.Sprintf(
		`marbleInjector.namespaceSelector={"matchLabels":{"kubernetes.io/metadata.name":%q}}`, p.marbles)}
}

// simulation are the seed guide's values for a cluster without SGX.
func simulation() []string {
	return []string{"--set", "coordinator.resources=null", "--set", "coordinator.simulation=1", "--set", "tolerations=null"}
}

// reach waits until the Coordinator answers through a port-forward with a status, and returns that. A port-forward is
// bound to a Pod: after the Pod was replaced, reach it anew.
func (p *plane) reach(code int) {
	p.Helper()
	p.addr = ""
	p.Eventually(fmt.Sprintf("the Coordinator in %s is in state %d", p.ns, code), func(context.Context) error {
		if p.addr == "" {
			p.addr = p.Forward(p.ns, "svc/"+clientAPI, clientPort)
		}
		out, err := p.Try(kit.Command{Args: []string{"marblerun", "status", p.addr, "-i"}})
		if err != nil {
			p.addr = "" // that Pod may be gone
			return err
		}
		if !strings.HasPrefix(out.Stdout, fmt.Sprintf("%d: ", code)) {
			return fmt.Errorf("it says: %s", out.Stdout)
		}
		return nil
	})
}

// sample is a file of samples/kubernetes, for this plane's namespace of Marbles.
func (p *plane) sample(name string) string {
	p.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(p), "samples", "kubernetes", name))
	if err != nil {
		p.Fatal(err)
	}
	changed := strings.NewReplacer("namespace: echo\n", "namespace: "+p.marbles+"\n", `.echo"`, "."+p.marbles+`"`,
		".echo.svc", "."+p.marbles+".svc").Replace(string(text))
	if changed == string(text) {
		p.Fatalf("samples/kubernetes/%s does not name its namespace as this test expects", name)
	}
	return changed
}

// manifest is the file of the samples' manifest.
func (p *plane) manifest() string {
	p.Helper()
	file := filepath.Join(p.TempDir(), "manifest.json")
	if err := os.WriteFile(file, []byte(p.sample("manifest.json")), 0o600); err != nil {
		p.Fatal(err)
	}
	return file
}

// setManifest sets the samples' manifest and waits until Marbles can reach the Coordinator.
func (p *plane) setManifest() {
	p.Helper()
	p.Marblerun("manifest", "set", p.manifest(), p.addr, "-i")
	p.DeploymentReady(p.ns, coordinator)
}

// deploy applies files of samples/kubernetes in the namespace of Marbles.
func (p *plane) deploy(files ...string) {
	p.Helper()
	p.restricted(p.marbles)
	for _, file := range files {
		p.Apply("", p.sample(file))
	}
}

// root is the mesh's root certificate, as PEM.
func (p *plane) root() string {
	p.Helper()
	return p.rootBy(func(args ...string) kit.Command { return kit.Command{Args: append([]string{"marblerun"}, args...)} },
		p.addr)
}

// rootBy is the root certificate at an address, by a way to run the CLI.
func (p *plane) rootBy(cli func(...string) kit.Command, addr string) string {
	p.Helper()
	file := filepath.Join(p.TempDir(), "root.crt")
	p.Do(cli("certificate", "root", addr, "-i", "-o", file))
	text, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(text), "-----BEGIN CERTIFICATE-----") {
		p.Fatalf("the root certificate of %s: %v: %q", addr, err, text)
	}
	return string(text)
}

// pods are the names of Pods with a label, and how often their containers were started again.
func (p *plane) pods(ns, label string) map[string]int32 {
	p.Helper()
	list, err := p.Kube.CoreV1().Pods(ns).List(p.Context(), metav1.ListOptions{LabelSelector: label})
	if err != nil {
		p.Fatal(err)
	}
	pods := map[string]int32{}
	for _, pod := range list.Items {
		pods[pod.Name] = 0
		for _, c := range pod.Status.ContainerStatuses {
			pods[pod.Name] += c.RestartCount
		}
	}
	return pods
}

// onlyPod is the name of the only Pod with a label.
func (p *plane) onlyPod(ns, label string) string {
	p.Helper()
	pods := p.pods(ns, label)
	if len(pods) != 1 {
		p.Fatalf("%d Pods have the label %s, want 1: %v", len(pods), label, pods)
	}
	for name := range pods {
		return name
	}
	return ""
}

// log is what the Pods with a label have written.
func (p *plane) log(ns, label string) string {
	p.Helper()
	return p.Kubectl("-n", ns, "logs", "--tail=-1", "-l", label)
}

// logHas waits until a text is in the log.
func (p *plane) logHas(ns, label, text string) {
	p.Helper()
	p.Eventually(fmt.Sprintf("the log of %s has %q", label, text), func(context.Context) error {
		out, err := p.Try(kit.Command{Args: []string{"kubectl", "-n", ns, "logs", "--tail=-1", "-l", label}})
		if err == nil && !strings.Contains(out.Stdout, text) {
			err = fmt.Errorf("it has:\n%s", out.Stdout)
		}
		return err
	})
}

// get reads an object.
func (p *plane) get(v any, args ...string) {
	p.Helper()
	text := p.Kubectl(append([]string{"get", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		p.Fatal(err)
	}
}

// has fails the test for each text that is missing.
func (p *plane) has(what, text string, wanted ...string) {
	p.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			p.Errorf("%s: no %q in:\n%s", what, want, text)
		}
	}
}
