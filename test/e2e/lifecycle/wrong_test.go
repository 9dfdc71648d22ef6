// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestWrongValues: whoever mistypes a value is told which one, by Helm and by the CLI, and nothing is installed.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "values")
	for _, test := range []struct {
		set  string
		want []string
	}{
		{"coordinator.simulaton=1", []string{"/coordinator", "simulaton"}},
		{"coordinatr.simulation=1", []string{"coordinatr"}},
		{"coordinator.meshServerPort=http", []string{"/coordinator/meshServerPort", "integer"}},
		{"coordinator.readiness=soon", []string{"/coordinator/readiness", "accepting", "serving"}},
		{"coordinator.tee=trustzone", []string{"/coordinator/tee", "sgx", "sev-snp"}},
		{"coordinator.clientService.type=Ingress", []string{"/coordinator/clientService/type", "LoadBalancer"}},
		{"marbleInjector.failurePolicy=Maybe", []string{"/marbleInjector/failurePolicy", "Ignore"}},
		{"coordinator.distributedDeployment=true", []string{"coordinator.distributedDeployment", "not supported yet"}},
		{"coordinator.replicas=3", []string{"replicas"}},
		{"coordinator.azureHSM.keyName=k", []string{"coordinator.azureHSM.keyName", "not supported yet"}},
	} {
		t.Run(test.set, func(t *testing.T) {
			p := p.with(t)
			helm := p.Fails("helm", "install", "marblerun", p.Chart("marblerun"), "-n", p.ns, "--create-namespace",
				"--set", test.set)
			p.has("helm install", helm.Stderr, test.want...)
			cli := p.Fails("marblerun", "install", "-n", p.ns, "--simulation", "--set", test.set)
			p.has("marblerun install", cli.Stderr, append(test.want, "Error: ")...)
		})
	}
	if out := p.Kubectl("get", "deployments", "-n", p.ns, "-o", "name"); out != "" {
		t.Errorf("installed nevertheless: %s", out)
	}
}

// TestCannotStart: what keeps the Coordinator from starting is told while it is waited for, and in the error.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"no such image", []string{"--simulation", "--set", "coordinator.version=v9.9.9", "--timeout", "20s"},
			[]string{"coordinator:v9.9.9", "Pod marblerun-coordinator-", "PullBackOff|ErrImagePull", "coordinator.repository"}},
		{"never pulled", []string{"--simulation", "--set", "coordinator.version=v9.9.9,coordinator.pullPolicy=Never",
			"--timeout", "10s"}, []string{"coordinator:v9.9.9", "ErrImageNeverPull", "coordinator.pullPolicy=IfNotPresent"}},
		{"no SGX", []string{"--timeout", "5s"},
			[]string{"Warning: no node has SGX", "Insufficient sgx.intel.com/epc", "--simulation", "marblerun precheck"}},
		{"no volume", []string{"--simulation", "--set", "coordinator.storageClass=none-such", "--timeout", "5s"},
			[]string{"PersistentVolumeClaim " + claim, `"none-such" not found`, "coordinator.storageClass"}},
		{"no runtime class", []string{"--tee", "tdx", "--timeout", "5s"},
			[]string{"kata-qemu-tdx", "not found", "coordinator.runtimeClassName"}},
		{"Pod Security", []string{"--tee", "tdx", "--set", "coordinator.runtimeClassName=none", "--timeout", "5s"},
			[]string{"violates PodSecurity", "enforce=privileged"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := place(t, "wrong", test.name != "no volume")
			if test.name == "Pod Security" {
				p.restricted(p.ns)
			}
			if test.name == "no SGX" && !strings.Contains(p.Marblerun("precheck").Stdout, "does not support SGX") {
				t.Skip("SKIP: this cluster has SGX")
			}
			install := slices.Concat([]string{"marblerun", "install", "-n", p.ns}, p.ownMarbles(), test.args)
			out := p.Fails(install...)
			for _, want := range append(test.want, "Error: ", "Hint: ", coordinator) {
				if !slices.ContainsFunc(strings.Split(want, "|"), func(s string) bool {
					return strings.Contains(out.Stderr, s)
				}) {
					t.Errorf("no %q in:\n%s", want, out.Stderr)
				}
			}
			check := p.Fails("marblerun", "check", "-n", p.ns, "--timeout", "0")
			p.has("marblerun check", check.Stderr, coordinator, "Hint: ")
			// The way out is to do it again, right.
			if test.name == "never pulled" {
				p.Marblerun(slices.Concat([]string{"install", "-n", p.ns, "--simulation"}, p.ownMarbles())...)
				p.reach(2)
			}
		})
	}
}

// TestNobody: who may do little is told what is missing, by precheck and by install; so is who has no cluster.
func TestNobody(t *testing.T) {
	t.Parallel()
	p := newPlane(t, "nobody")
	p.restricted(p.ns)
	p.Kubectl("-n", p.ns, "create", "serviceaccount", "nobody")
	// In the namespace everything, in the cluster nothing: the webhook configuration cannot be made.
	p.Kubectl("-n", p.ns, "create", "rolebinding", "nobody", "--clusterrole=admin", "--serviceaccount="+p.ns+":nobody")
	token := strings.TrimSpace(p.Kubectl("-n", p.ns, "create", "token", "nobody"))
	nobody := p.kubeconfig(p.Config.Host, token)

	out := p.Fails("marblerun", "precheck", "-n", p.ns, "--kubeconfig", nobody)
	p.has("marblerun precheck", out.Stdout+out.Stderr, "mutatingwebhookconfigurations", "cannot be installed")
	out = p.Fails("marblerun", "install", "-n", p.ns, "--simulation", "--kubeconfig", nobody)
	p.has("marblerun install", out.Stderr, "clusterroles", "forbidden", "Hint: ", "precheck -n "+p.ns)
	kinds := "deployments,services,persistentvolumeclaims,secrets"
	if half := p.Kubectl("get", kinds, "-n", p.ns, "-o", "name"); half != "" {
		t.Errorf("half of it was installed: %s", half)
	}
	// Without the injector these rights are enough.
	p.Marblerun("install", "-n", p.ns, "--simulation", "--disable-auto-injection", "--kubeconfig", nobody)
	p.reach(2)

	for name, test := range map[string]struct {
		config string
		want   []string
	}{
		"nothing there":   {p.kubeconfig("https://127.0.0.1:9", token), []string{"refused", "127.0.0.1:9"}},
		"not known":       {p.kubeconfig(p.Config.Host, "not-a-token"), []string{"nauthorized", "credentials"}},
		"no such file":    {filepath.Join(t.TempDir(), "none"), []string{"no such file"}},
		"no such context": {"", []string{"none-such", "get-contexts"}},
	} {
		args := []string{"marblerun", "install", "-n", p.ns, "--simulation", "--kubeconfig", test.config}
		if test.config == "" {
			args = []string{"marblerun", "install", "-n", p.ns, "--simulation", "--context", "none-such"}
		}
		p.has(name, p.Fails(args...).Stderr, append(test.want, "Error: ", "Hint: ")...)
	}
}

// kubeconfig writes one for the test's cluster, with another address and token.
func (p *plane) kubeconfig(server, token string) string {
	p.Helper()
	file := filepath.Join(p.TempDir(), "kubeconfig")
	ca, err := json.Marshal(p.Config.TLSClientConfig.CAData)
	if err != nil {
		p.Fatal(err)
	}
	if len(p.Config.TLSClientConfig.CAData) == 0 {
		p.Skip("SKIP: the kubeconfig has no certificate-authority-data")
	}
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
  "clusters": [{"name": "c", "cluster": {"server": %q, "certificate-authority-data": %s}}],
  "users": [{"name": "u", "user": {"token": %q}}],
  "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}`, server, ca, token)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.Fatal(err)
	}
	return file
}
