// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package docs

import (
	"context"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// hasSGX fails unless the Coordinator asks for SGX, a node takes its Pod, and all that is missing is the image.
func (c *cluster) hasSGX(t *testing.T) {
	t.Helper()
	d := c.coordinator(t)
	container := d.Spec.Template.Spec.Containers[0]
	for _, resource := range []string{"epc", "enclave", "provision"} {
		if _, ok := container.Resources.Limits[corev1.ResourceName("sgx.intel.com/"+resource)]; !ok {
			t.Errorf("the Coordinator has no limit sgx.intel.com/%s", resource)
		}
	}
	tolerates := slices.ContainsFunc(d.Spec.Template.Spec.Tolerations, func(o corev1.Toleration) bool {
		return o.Key == "sgx.intel.com/epc" && o.Operator == corev1.TolerationOpExists &&
			o.Effect == corev1.TaintEffectNoSchedule
	})
	if !tolerates {
		t.Error("the Coordinator does not tolerate the taint of nodes with SGX")
	}
	if v := variable(container, "OE_SIMULATION"); v != "0" {
		t.Errorf("OE_SIMULATION is %q", v)
	}
	if !strings.Contains(container.Image, "/coordinator-sgx:v") {
		t.Errorf("image %s", container.Image)
	}
	eventually(t, "the Coordinator is scheduled", func() string {
		return c.scheduled(t, "marblerun", "edgeless.systems/control-plane-component=coordinator")
	})
	eventually(t, "the Coordinator waits for its image", func() string { return c.waits(t) })
}

// waits returns nothing if the Coordinator's container waits for its image.
func (c *cluster) waits(t *testing.T) string {
	t.Helper()
	var pods corev1.PodList
	c.get(t, &pods, "-n", "marblerun", "pod", "-l", "edgeless.systems/control-plane-component=coordinator")
	for _, p := range pods.Items {
		if len(p.Status.ContainerStatuses) == 0 {
			continue
		}
		state := p.Status.ContainerStatuses[0].State
		if state.Waiting != nil && strings.Contains(state.Waiting.Reason, "Image") {
			return ""
		}
		return "state " + state.String()
	}
	return "there is no status"
}

func (c *cluster) coordinator(t *testing.T) appsv1.Deployment {
	t.Helper()
	var d appsv1.Deployment
	c.get(t, &d, "-n", "marblerun", "deployment", "marblerun-coordinator")
	return d
}

func variable(container corev1.Container, name string) string {
	i := slices.IndexFunc(container.Env, func(v corev1.EnvVar) bool { return v.Name == name })
	if i < 0 {
		return ""
	}
	return container.Env[i].Value
}

func (c *cluster) hasDomain(t *testing.T) {
	t.Helper()
	names := variable(c.coordinator(t).Spec.Template.Spec.Containers[0], "EDG_COORDINATOR_DNS_NAMES")
	if !strings.HasPrefix(names, domain+",localhost,coordinator-mesh-api,coordinator-client-api,") {
		t.Errorf("EDG_COORDINATOR_DNS_NAMES is %q", names)
	}
}

// isLoadBalancer fails unless the client API's Service is what the guide says. Nobody here gives it an address.
func (c *cluster) isLoadBalancer(t *testing.T) {
	t.Helper()
	var s corev1.Service
	c.get(t, &s, "-n", "marblerun", "service", "coordinator-client-api")
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Spec.Ports) != 1 || s.Spec.Ports[0].Port != 4433 {
		t.Errorf("type %s, ports %v", s.Spec.Type, s.Spec.Ports)
	}
	t.Logf("external address: %v (pending if empty)", s.Status.LoadBalancer.Ingress)
}

// serves fails unless the Coordinator in simulation waits for a manifest, with the domain in its certificate, and can
// be reached as the guide says.
func (c *cluster) serves(t *testing.T, g guide) {
	t.Helper()
	c.hasDomain(t)
	if v := variable(c.coordinator(t).Spec.Template.Spec.Containers[0], "OE_SIMULATION"); v != "1" {
		t.Errorf("OE_SIMULATION is %q", v)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	forwarding := make(chan struct{})
	go func() {
		defer close(forwarding)
		// Until it is stopped: the Pod may not run yet.
		c.result(ctx, c.home, "until "+g.portForward+"; do sleep 1; done")
	}()
	eventually(t, "the Coordinator answers", func() string {
		out, err := c.try("marblerun", "status", "localhost:4433", "--insecure")
		if err == nil && strings.HasPrefix(out, "2: ") {
			return ""
		}
		return out + errorText(err)
	})
	if err := certified(domain); err != nil {
		t.Error(err)
	}
	stop()
	<-forwarding
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// certified returns an error unless the certificate at the forwarded port has the name.
func certified(name string) error {
	conn, err := tls.Dial("tcp", "localhost:4433", &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].VerifyHostname(name)
}

// injectorServes fails unless the CLI installed the injector and its webhook answers: a Pod becomes a Marble.
func (c *cluster) injectorServes(t *testing.T) {
	t.Helper()
	c.kubectl(t, "-n", "marblerun", "rollout", "status", "deployment/marble-injector", "--timeout=120s")
	pod := `{"apiVersion": "v1", "kind": "Pod",
		"metadata": {"name": "m", "namespace": "default", "labels": {"marblerun/marbletype": "m"}},
		"spec": {"containers": [{"name": "m", "image": "m"}]}}`
	eventually(t, "the webhook", func() string {
		out, err := c.feed(pod, "kubectl", "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		if err == nil && strings.Contains(out, "EDG_MARBLE_TYPE") {
			return ""
		}
		return out + errorText(err)
	})
}
