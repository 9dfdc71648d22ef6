// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestUpgrade goes from the version before to this one.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	t.Run("helm", func(t *testing.T) {
		t.Parallel()
		p, old := newPlane(t, "helmup"), olderChart(t)
		p.restricted(p.ns)
		p.Helm(slices.Concat([]string{"install", "marblerun", old, "-n", p.ns, "--set", "marbleInjector.start=true"},
			simulation(), p.ownMarbles())...)
		p.upgrade(func() {
			p.Helm("upgrade", "marblerun", p.Chart("marblerun"), "-n", p.ns, "--reset-then-reuse-values")
		})
		p.has("helm history", p.Helm("history", "marblerun", "-n", p.ns), "superseded", "deployed", "marblerun-"+p.Version())
	})
	t.Run("marblerun", func(t *testing.T) {
		t.Parallel()
		p, old := newPlane(t, "cliup"), olderChart(t)
		p.restricted(p.ns)
		p.Marblerun(slices.Concat([]string{"install", "-n", p.ns, "--simulation", "--marblerun-chart-path", old},
			p.ownMarbles())...)
		p.has("marblerun version", p.Marblerun("version", "-n", p.ns).Stdout, "Coordinator Version: v"+olderVersion(old))
		p.upgrade(func() {
			before := p.pods(p.ns, "")
			out := p.Marblerun("upgrade", "-n", p.ns, "--dry-run")
			p.has("marblerun upgrade --dry-run", out.Stdout+out.Stderr, p.Version())
			if after := p.pods(p.ns, ""); !maps.Equal(before, after) {
				p.Errorf("--dry-run changed Pods: %v, %v", before, after)
			}
			out = p.Marblerun("upgrade", "-n", p.ns)
			p.has("marblerun upgrade", out.Stdout, "MarbleRun upgraded successfully")
		})
		p.has("marblerun version", p.Marblerun("version", "-n", p.ns).Stdout, "Coordinator Version: v"+p.Version())
		out := p.Marblerun("upgrade", "-n", p.ns)
		p.has("a second upgrade", out.Stdout, "nothing to do")
		// What would lose the state is refused.
		out = p.Fails("marblerun", "upgrade", "-n", p.ns, "--marblerun-chart-path", old)
		p.has("a downgrade", out.Stderr, "older", "--force")
		out = p.Fails("marblerun", "upgrade", "-n", p.ns, "--set", "coordinator.simulation=false")
		p.has("from simulation to SGX", out.Stderr, "cannot open its state", "--force")
	})
}

var chartArchive = regexp.MustCompile(`/marblerun-([0-9][^/]*)\.tgz$`)

// olderChart is the chart of the version before, which is made by the release tool, like this one.
func olderChart(t *testing.T) string {
	t.Helper()
	dist := os.Getenv("MARBLERUN_DIST_OLD")
	if dist == "" {
		t.Skip("SKIP: no version to upgrade from: MARBLERUN_DIST_OLD")
	}
	charts, err := filepath.Glob(filepath.Join(dist, "charts", "marblerun-[0-9]*.tgz"))
	if err != nil || len(charts) != 1 {
		t.Fatalf("MARBLERUN_DIST_OLD=%s: charts %v, %v", dist, charts, err)
	}
	return charts[0]
}

func olderVersion(chart string) string { return chartArchive.FindStringSubmatch(chart)[1] }

// upgrade has something to lose, upgrades, and loses nothing.
func (p *plane) upgrade(do func()) {
	p.Helper()
	p.DeploymentReady(p.ns, injector)
	p.reach(2)
	p.setManifest()
	p.deploy("echo.yaml")
	p.logHas(p.marbles, "app=echo-client", "answers \"hello")
	root, images, marbles, bundle := p.root(), p.images(), p.pods(p.marbles, ""), p.bundle()

	refused := p.createPodsDuring(func() {
		do()
		p.newMarble() // at once: the webhook's certificate is believed
		p.DeploymentReady(p.ns, injector)
		p.DeploymentReady(p.ns, coordinator)
	})
	for _, err := range refused {
		p.Errorf("while the injector was replaced: %v", err)
	}
	p.reach(3)
	if after := p.root(); after != root {
		p.Errorf("the root certificate was\n%s\nand is\n%s", root, after)
	}
	if after := p.pods(p.marbles, ""); !maps.Equal(marbles, after) {
		p.Errorf("the Marbles were %v and are %v", marbles, after)
	}
	if after := p.bundle(); after != bundle {
		p.Errorf("the webhook's CA bundle was\n%s\nand is\n%s", bundle, after)
	}
	after := p.images()
	for name, image := range after {
		if image == images[name] || !strings.HasSuffix(image, ":v"+p.Version()) {
			p.Errorf("%s has the image %s, and had %s", name, image, images[name])
		}
	}
	p.has("manifest verify", p.Marblerun("manifest", "verify", p.manifest(), p.addr, "-i").Stdout, "OK")
	p.goOnTalking()
}

// images are those of the control plane's Deployments.
func (p *plane) images() map[string]string {
	p.Helper()
	var list appsv1.DeploymentList
	p.get(&list, "-n", p.ns, "deployments")
	images := map[string]string{}
	for _, d := range list.Items {
		images[d.Name] = d.Spec.Template.Spec.Containers[0].Image
	}
	if len(images) != 2 {
		p.Fatalf("%d Deployments, want 2: %v", len(images), images)
	}
	return images
}

// bundle is the CA that the API server believes the injector with.
func (p *plane) bundle() string {
	p.Helper()
	var c admissionv1.MutatingWebhookConfiguration
	p.get(&c, "mutatingwebhookconfiguration", injector+"-"+p.ns)
	bundle := string(c.Webhooks[0].ClientConfig.CABundle)
	if !strings.HasPrefix(bundle, "-----BEGIN CERTIFICATE-----") {
		p.Fatalf("caBundle %q", bundle)
	}
	return bundle
}

// createPodsDuring creates Marbles (dry run, which asks the webhook, too) as long as something is being done, and
// returns what went wrong.
func (p *plane) createPodsDuring(do func()) []error {
	p.Helper()
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(p.sample("stranger.yaml")), &pod); err != nil {
		p.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.Context())
	defer cancel()
	var creating sync.WaitGroup
	var wrong []error
	created := 0
	creating.Go(func() {
		for ctx.Err() == nil {
			if err := p.createDry(context.WithoutCancel(ctx), &pod); err != nil {
				wrong = append(wrong, err)
			}
			created++
			time.Sleep(50 * time.Millisecond)
		}
	})
	do()
	cancel()
	creating.Wait()
	p.Figure("%d Marbles created while upgrading, %d refused", created, len(wrong))
	return wrong
}

func (p *plane) createDry(ctx context.Context, pod *corev1.Pod) error {
	made, err := p.Kube.CoreV1().Pods(p.marbles).Create(ctx, pod.DeepCopy(),
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	injected := slices.ContainsFunc(made.Spec.Containers[0].Env, func(e corev1.EnvVar) bool {
		return e.Name == "EDG_MARBLE_COORDINATOR_ADDR"
	})
	if !injected {
		return fmt.Errorf("a Marble was created without injection: %+v", made.Spec.Containers[0].Env)
	}
	return nil
}
