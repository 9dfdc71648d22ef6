// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// TestHelm installs both charts with the seed guide's values: they differ in the client Service's type only.
func TestHelm(t *testing.T) {
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
		})
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

// TestCLI installs with marblerun, which can be run again, and asks what there is.
func TestCLI(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "cli")
	out := p.Marblerun("precheck", "-n", p.ns)
	p.has("marblerun precheck", out.Stdout, "SGX", "To install MarbleRun run [marblerun install", "Permissions: enough")
	var ready struct{ Installable bool }
	p.printed(&ready, p.Marblerun("precheck", "-n", p.ns, "-o", "json").Stdout)
	if !ready.Installable {
		t.Error("precheck says that it cannot be installed")
	}
	p.has("marblerun check", p.Fails("marblerun", "check", "-n", p.ns, "--timeout", "0").Stderr, "is not installed", "Hint: ")

	p.restricted(p.ns)
	install := append([]string{"install", "-n", p.ns, "--simulation", "--domain", domain + ",192.0.2.7"}, p.ownMarbles()...)
	out = p.Marblerun(append(install, "--dry-run")...)
	p.has("marblerun install --dry-run", out.Stdout, "create Deployment "+coordinator, "create PersistentVolumeClaim "+claim)
	if pods := p.pods(p.ns, ""); len(pods) > 0 {
		t.Errorf("--dry-run made Pods: %v", pods)
	}
	out = p.Marblerun(install...)
	p.has("stdout of marblerun install", out.Stdout, "MarbleRun installed successfully")
	p.has("stderr of marblerun install", out.Stderr, coordinator, injector, "waits for a manifest", "manifest set")
	p.reach(2)
	p.isNamed(domain, "192.0.2.7")
	p.installsAgain(install)
	p.isKnown()
	p.has("helm list", p.Helm("list", "-n", p.ns), "marblerun", "deployed", "marblerun-"+p.Version())
}

// installsAgain: the same command changes nothing, another one changes what it says.
func (p *plane) installsAgain(install []string) {
	p.Helper()
	before := p.pods(p.ns, "")
	p.has("a second install", p.Marblerun(install...).Stdout, "nothing to do")
	var result struct {
		Nothing     bool
		Coordinator struct{ Code int }
	}
	p.printed(&result, p.Marblerun(append(install, "-o", "json")...).Stdout)
	if !result.Nothing || result.Coordinator.Code != 2 {
		p.Errorf("%+v", result)
	}
	if after := p.pods(p.ns, ""); !maps.Equal(before, after) {
		p.Errorf("the Pods were %v and are %v", before, after)
	}
	bundle, node := p.bundle(), p.onlyPod(p.ns, "app.kubernetes.io/name="+injector)
	p.Marblerun(append(install, "--set", "coordinator.debugLogging=true")...)
	p.reach(2)
	p.logHas(p.ns, ofCoordinator, `"level":"debug"`)
	if p.bundle() != bundle || p.onlyPod(p.ns, "app.kubernetes.io/name="+injector) != node {
		p.Error("the injector was changed, too")
	}
}

// isKnown asks check and version.
func (p *plane) isKnown() {
	p.Helper()
	p.has("marblerun check", p.Marblerun("check", "-n", p.ns).Stdout, coordinator+" pods ready: 1/1",
		injector+" pods ready: 1/1")
	var checked struct {
		OK         bool
		Components []struct {
			Name          string
			Ready, Wanted int
		}
	}
	p.printed(&checked, p.Marblerun("check", "-n", p.ns, "-o", "json").Stdout)
	if !checked.OK || len(checked.Components) != 2 || checked.Components[0].Ready != 1 {
		p.Errorf("%+v", checked)
	}
	p.has("marblerun version", p.Marblerun("version", "-n", p.ns).Stdout, "CLI Version: ",
		"Coordinator Version: v"+p.Version())
	var version struct{ CoordinatorVersion string }
	p.printed(&version, p.Marblerun("version", "-n", p.ns, "-o", "json").Stdout)
	if version.CoordinatorVersion != "v"+p.Version() {
		p.Errorf("%+v", version)
	}
}
