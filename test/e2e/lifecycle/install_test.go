// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestHelm installs both charts with the seed guide's values: they differ in the client Service's type only.
func TestHelm(t *testing.T) {
	t.Parallel()
	for chart, kind := range map[string]corev1.ServiceType{
		"marblerun": corev1.ServiceTypeClusterIP, "marblerun-coordinator": corev1.ServiceTypeLoadBalancer,
	} {
		t.Run(chart, func(t *testing.T) {
			t.Parallel()
			p := newPlane(t, "helm")
			p.restricted(p.ns)
			args := append([]string{"install", chart, p.Chart(chart), "--create-namespace", "-n", p.ns,
				"--set", `coordinator.hostname=` + domain + `\,192.0.2.7`}, simulation()...)
			p.has("helm install", p.Helm(args...), "STATUS: deployed", "NOTHING IS PROTECTED", "port-forward",
				"log", "manifest set")
			var service corev1.Service
			p.get(&service, "-n", p.ns, "service", clientAPI)
			if service.Spec.Type != kind || !service.Spec.PublishNotReadyAddresses {
				t.Errorf("%+v", service.Spec)
			}
			p.reach(2)
			p.isNamed(domain, "192.0.2.7")
			again := p.Fails(append([]string{"helm"}, args...)...)
			p.has("a second helm install", again.Stderr, "cannot")
			p.takesOver(chart, kind)
		})
	}
}

// takesOver: the CLI changes and removes what Helm installed, under the old name of release and chart, too.
func (p *plane) takesOver(release string, kind corev1.ServiceType) {
	p.Helper()
	p.Marblerun("upgrade", "-n", p.ns, "--set", "coordinator.metrics.enabled=true")
	p.reach(2)
	p.isNamed(domain, "192.0.2.7")
	var service corev1.Service
	p.get(&service, "-n", p.ns, "service", clientAPI)
	if service.Spec.Type != kind {
		p.Errorf("the client Service was of type %s and is of type %s", kind, service.Spec.Type)
	}
	if list := p.Helm("list", "-n", p.ns, "--short"); list != release+"\n" {
		p.Errorf("helm list: %q", list)
	}
	p.Marblerun("uninstall", "-n", p.ns, "--delete-state", "--yes")
	if list := p.Helm("list", "-n", p.ns, "--short"); list != "" {
		p.Errorf("helm list after uninstalling: %q", list)
	}
}

// isNamed checks the names in the Coordinator's environment and in the certificate that it serves.
func (p *plane) isNamed(hosts ...string) {
	p.Helper()
	want := append(slices.Clone(hosts), "localhost", meshAPI, clientAPI, meshAPI+"."+p.ns, clientAPI+"."+p.ns,
		meshAPI+"."+p.ns+".svc.cluster.local", clientAPI+"."+p.ns+".svc.cluster.local")
	var d appsv1.Deployment
	p.get(&d, "-n", p.ns, "deployment", coordinator)
	i := slices.IndexFunc(d.Spec.Template.Spec.Containers[0].Env, func(e corev1.EnvVar) bool {
		return e.Name == "EDG_COORDINATOR_DNS_NAMES"
	})
	if i < 0 {
		p.Fatalf("no EDG_COORDINATOR_DNS_NAMES in %+v", d.Spec.Template.Spec.Containers[0].Env)
	}
	if got := d.Spec.Template.Spec.Containers[0].Env[i].Value; got != strings.Join(want, ",") {
		p.Errorf("EDG_COORDINATOR_DNS_NAMES %q, want %q", got, want)
	}
	leaf := p.served("")
	for _, name := range want {
		if err := leaf.VerifyHostname(name); err != nil {
			p.Errorf("the served certificate is not valid for %s: %v", name, err)
		}
	}
	if err := leaf.VerifyHostname("example.com"); err == nil {
		p.Error("the served certificate is valid for any name")
	}
}

// served is the first certificate that the client API shows to those who ask for a name.
func (p *plane) served(name string) *x509.Certificate {
	p.Helper()
	// What is checked is the certificate itself.
	conn, err := tls.DialWithDialer(&net.Dialer{}, "tcp", p.addr, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		p.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}
