// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// domain is that of the seed guide.
const domain = "mycluster.uksouth.cloudapp.azure.com"

// seed is the deployment guide that this project exists to make true.
func seed(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), "..", "shared", "seed", "kubernetes-deployment-guide.md"))
	if err != nil {
		t.Skipf("SKIP: the seed guide is not here: %v", err)
	}
	return string(text)
}

// guide is what the tests below know of the seed: which block is which.
type guide struct {
	deployment                             string // the only YAML
	cliSGX, cliSimulation                  string
	addRepository, helmSGX, helmSimulation string
	portForward                            string
}

// newGuide fails if the seed has a block that no test executes.
func newGuide(t *testing.T, text string) guide {
	t.Helper()
	blocks, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	forward := Inline(text, "kubectl ")
	langs := []string{}
	for _, b := range blocks {
		langs = append(langs, b.Lang)
	}
	if want := []string{"yaml", "bash", "bash", "bash", "bash", "bash"}; !slices.Equal(langs, want) || len(forward) != 1 {
		t.Fatalf("the guide has the blocks %q and the commands %q: which of them is new?", langs, forward)
	}
	return guide{
		deployment: blocks[0].Text, cliSGX: blocks[1].Text, cliSimulation: blocks[2].Text,
		addRepository: blocks[3].Text, helmSGX: blocks[4].Text, helmSimulation: blocks[5].Text, portForward: forward[0],
	}
}

// The extractor finds what the seed has, and the table of substitutions has nothing that nobody needs.
func TestSeedParse(t *testing.T) {
	text := seed(t)
	g := newGuide(t, text)
	for got, want := range map[string]string{
		g.cliSGX:        "marblerun install --domain=" + domain + "\n",
		g.cliSimulation: "marblerun install --domain=" + domain + " --simulation\n",
		g.portForward:   "kubectl -n marblerun port-forward svc/coordinator-client-api 4433:4433 --address localhost",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, page := range pages(t) {
		for _, b := range read(t, page) {
			text += b.Text
		}
	}
	for _, s := range (&cluster{}).substitutions() {
		if !strings.Contains(text, s.Old) {
			t.Errorf("the substitution of %q is needed nowhere", s.Old)
		}
	}
}

// TestSeedGuide executes every command and applies every object of the seed guide, as they stand but for the table.
// With SGX the node has fake resources, and the image that you must sign yourself is missing: the Pod is scheduled and
// waits for it.
func TestSeedGuide(t *testing.T) {
	c := newCluster(t)
	g := newGuide(t, seed(t))
	t.Run("a Deployment that asks for SGX", func(t *testing.T) { c.seedDeployment(t, g) })
	t.Run("CLI, with SGX", func(t *testing.T) {
		c.fresh(t)
		c.fakeSGX(t)
		c.during(t, g.cliSGX, func() { c.hasSGX(t); c.hasDomain(t) })
	})
	t.Run("CLI, simulation", func(t *testing.T) {
		c.fresh(t)
		c.do(t, g.cliSimulation)
		c.serves(t, g)
		c.injectorServes(t)
	})
	t.Run("Helm, with SGX", func(t *testing.T) {
		c.fresh(t)
		c.fakeSGX(t)
		c.do(t, g.addRepository, g.helmSGX)
		c.hasSGX(t)
		c.hasDomain(t)
		c.isLoadBalancer(t)
	})
	t.Run("Helm, simulation", func(t *testing.T) {
		c.fresh(t)
		c.do(t, g.addRepository, g.helmSimulation)
		c.serves(t, g)
		c.isLoadBalancer(t)
	})
}

// do executes texts in one session and fails the test if one of them fails.
func (c *cluster) do(t *testing.T, texts ...string) {
	t.Helper()
	for i := range texts {
		texts[i] = Substitute(c.substitutions(), texts[i])
	}
	for i, r := range c.session(t, texts) {
		t.Logf("%s%s", texts[i], r.Printed)
		if r.Err != nil || !r.Started {
			t.Log(c.state())
			t.Fatalf("%q: %v", texts[i], r.Err)
		}
	}
}

// during runs a check while a text is executed that waits for an image that is missing, and ends it when it has named
// that image.
func (c *cluster) during(t *testing.T, text string, check func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	dir, ended := t.TempDir(), make(chan Result, 1)
	go func() { ended <- c.result(ctx, dir, text) }()
	defer func() {
		stop()
		t.Logf("%s%s", text, (<-ended).Printed)
	}()
	eventually(t, "the Coordinator's Deployment", func() string {
		_, err := c.try("kubectl", "-n", "marblerun", "get", "deployment", "marblerun-coordinator")
		return errorText(err)
	})
	check()
	eventually(t, "the command names the image that is missing", func() string {
		said, err := os.ReadFile(filepath.Join(dir, "log"))
		if strings.Contains(string(said), "/coordinator-sgx:v") {
			return ""
		}
		return string(said) + errorText(err)
	})
}

// result is what became of one text.
func (c *cluster) result(ctx context.Context, dir, text string) Result {
	s := Session{Dir: c.root, Env: c.env, Log: filepath.Join(dir, "log")}
	results, err := s.Run(ctx, []string{Substitute(c.substitutions(), text)})
	if err != nil {
		return Result{Err: err}
	}
	return results[0]
}

// eventually tries until the condition says nothing any more.
func eventually(t *testing.T, what string, condition func() string) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		problem := condition()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s", what, problem)
		}
		time.Sleep(time.Second)
	}
}

// seedDeployment applies the guide's Deployment: a node with SGX takes its Pod, one without does not.
func (c *cluster) seedDeployment(t *testing.T, g guide) {
	object := Substitute(c.substitutions(), g.deployment)
	t.Cleanup(func() { c.kubectl(t, "delete", "deployment", "oe-deployment", "--ignore-not-found") })
	if _, err := c.feed(object, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, object)
	}
	scheduled := func() string { return c.scheduled(t, "default", "app=oe-app") }
	eventually(t, "without SGX", func() string {
		if problem := scheduled(); strings.Contains(problem, "Insufficient sgx.intel.com/epc") {
			return ""
		} else {
			return "want: not enough of the resource. " + problem
		}
	})
	c.fakeSGX(t)
	eventually(t, "with SGX", scheduled)
	var pods corev1.PodList
	c.get(t, &pods, "-n", "default", "pod", "-l", "app=oe-app")
	limit := pods.Items[0].Spec.Containers[0].Resources.Limits["sgx.intel.com/epc"]
	if limit.Value() != 10 {
		t.Errorf("limit %s", limit.String())
	}
}

// scheduled returns why the newest of the Pods is on no node, or nothing.
func (c *cluster) scheduled(t *testing.T, namespace, selector string) string {
	t.Helper()
	var pods corev1.PodList
	c.get(t, &pods, "-n", namespace, "pod", "-l", selector)
	for _, p := range pods.Items {
		for _, condition := range p.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionTrue {
				return ""
			}
			if condition.Type == corev1.PodScheduled {
				return condition.Message
			}
		}
	}
	return "there is no Pod"
}
