// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// TestLife follows one installation, with policies and metrics on, from the first start through crashes.
func TestLife(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "life")
	p.restricted(p.ns)
	p.Helm(append(append([]string{"install", "marblerun", p.Chart("marblerun"), "-n", p.ns,
		"--set", "marbleInjector.start=true,networkPolicy.enabled=true,podDisruptionBudget.enabled=true",
		"--set", "marbleInjector.podDisruptionBudget.enabled=true,coordinator.metrics.enabled=true"},
		simulation()...), p.ownMarbles()...)...)
	p.DeploymentReady(p.ns, injector)
	step := func(name string, do func(*plane)) {
		t.Run(name, func(t *testing.T) { do(p.with(t)) })
	}
	p.reach(2) // the port-forward is to outlive the steps
	step("Service address", (*plane).servedByClusterIP)
	step("waits for a manifest", (*plane).waitsForManifest)
	step("Marbles talk", (*plane).marblesTalk)
	step("stranger", (*plane).strangerIsRefused)
	step("drain", (*plane).isNotDrained)
	survives := func(crash func(*plane)) func(*plane) {
		return func(p *plane) { p.survives(crash) }
	}
	step("Pod deleted", survives((*plane).deletePod))
	step("process killed", survives((*plane).killProcess))
}

// waitsForManifest: the client API can be reached, the mesh API cannot, and a Marble that comes too early waits.
func (p *plane) waitsForManifest() {
	p.ready(clientAPI, true)
	p.ready(meshAPI, false)
	p.deploy("echo.yaml")
	p.logHas(p.marbles, "app=echo-server", "activating marble of type echo-server")
	p.ready(meshAPI, false)
	p.setManifest()
	p.ready(meshAPI, true)
	p.ready(clientAPI, true)
	p.reach(3)
	p.DeploymentReady(p.marbles, "echo-server")
	p.logHas(p.marbles, "app=echo-server", "listening on")
	for pod, restarts := range p.pods(p.marbles, "app=echo-server") {
		if restarts > 0 {
			p.Errorf("Pod %s was restarted %d times, instead of waiting", pod, restarts)
		}
	}
}

// ready waits until a Service has the Coordinator's Pod, as ready or not.
func (p *plane) ready(service string, want bool) {
	p.Helper()
	p.Eventually(fmt.Sprintf("the endpoints of %s have ready=%t", service, want), func(ctx context.Context) error {
		slices, err := p.Kube.DiscoveryV1().EndpointSlices(p.ns).List(ctx,
			metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
		if err != nil {
			return err
		}
		found := 0
		for _, s := range slices.Items {
			for _, e := range s.Endpoints {
				found++
				if e.Conditions.Ready == nil || *e.Conditions.Ready != want {
					return fmt.Errorf("%v: ready=%v", e.Addresses, e.Conditions.Ready)
				}
			}
		}
		if found != 1 {
			return fmt.Errorf("%d endpoints", found)
		}
		return nil
	})
}

// servedByClusterIP asks the Service by its name, from the node. Elsewhere only Pods could.
func (p *plane) servedByClusterIP() {
	p.NodeOnly()
	out := p.Marblerun("status", fmt.Sprintf("%s.%s.svc.cluster.local:%d", clientAPI, p.ns, clientPort), "-i")
	p.has("status", out.Stdout, "2: ")
}

// marblesTalk: mutual TLS between Marbles, who are in the log and in the list of activations.
func (p *plane) marblesTalk() {
	p.DeploymentReady(p.marbles, "echo-client")
	p.logHas(p.marbles, "app=echo-client", "answers \"hello")
	p.logHas(p.marbles, "app=echo-server", "says \"hello")
	p.has("the Coordinator's log", p.log(p.ns, ofCoordinator), "Successfully activated new Marble", "echo-client")
	p.has("activations", p.Marblerun("activations", p.addr, "-i").Stdout, "echo-server", "echo-client")
	addr := p.Forward(p.marbles, "svc/echo-server", 7000)
	if err := readAsStranger(addr); !isAlert(err) {
		p.Errorf("a client without certificate: %v, want that the server refuses it", err)
	}
}

// readAsStranger talks TLS without a certificate. In TLS 1.3 a refusal comes with the first read.
func readAsStranger(addr string) error {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 30 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func isAlert(err error) bool {
	var alert tls.AlertError
	var op *net.OpError
	return errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error"
}

// strangerIsRefused: Kubernetes starts it, the Coordinator does not admit it, and all who ask are told why.
func (p *plane) strangerIsRefused() {
	p.Apply("", p.sample("stranger.yaml"))
	pod := p.PodIs(p.marbles, "stranger", "has failed", func(pod *corev1.Pod) error {
		if pod.Status.Phase != corev1.PodFailed {
			return errors.New(kit.State(pod))
		}
		return nil
	})
	const reason = "unknown marble type requested"
	p.has("the Pod's own log", p.log(p.marbles, "app=stranger"), reason)
	p.has("kubectl describe pod", kit.State(pod), reason)
	p.logHas(p.ns, ofCoordinator, reason)
	if out := p.Marblerun("activations", p.addr, "-i"); strings.Contains(out.Stdout, "stranger") {
		p.Errorf("it was activated:\n%s", out.Stdout)
	}
}

// isNotDrained: with its PodDisruptionBudget nobody takes the Coordinator away by draining its node.
func (p *plane) isNotDrained() {
	p.Eventually("the PodDisruptionBudget knows the Pod", func(ctx context.Context) error {
		budget, err := p.Kube.PolicyV1().PodDisruptionBudgets(p.ns).Get(ctx, coordinator, metav1.GetOptions{})
		if err == nil && budget.Status.CurrentHealthy != 1 {
			err = fmt.Errorf("%+v", budget.Status)
		}
		return err
	})
	err := p.Kube.CoreV1().Pods(p.ns).EvictV1(p.Context(), &policyv1.Eviction{
		ObjectMeta: metav1.ObjectMeta{Name: p.onlyPod(p.ns, ofCoordinator)}})
	if !apierrors.IsTooManyRequests(err) {
		p.Errorf("evicting the Coordinator: %v, want that its budget forbids it", err)
	}
}
