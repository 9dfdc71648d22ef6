// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marblerun/marblerun/test/e2e/kit"
	"github.com/marblerun/marblerun/test/harness"
)

// issuer stands for cert-manager's CustomResourceDefinition, which is large: this one has the only field that the chart
// uses.
const issuer = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: issuers.cert-manager.io}
spec:
  group: cert-manager.io
  scope: Namespaced
  names: {kind: Issuer, plural: issuers, singular: issuer}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {selfSigned: {type: object}}}
`

// TestObjects has a real API server, with the published schemas of Istio, the Gateway API, the Prometheus operator and
// cert-manager, look at all that the chart can make. It does not create any of it.
func TestObjects(t *testing.T) {
	t.Parallel()
	k := kit.New(t)
	kinds := filepath.Join(harness.Root(k), "charts", "testdata", "crds")
	existing := k.Kubectl("get", "customresourcedefinitions", "-o", "name")
	if strings.Contains(existing, ".istio.io") || strings.Contains(existing, ".cert-manager.io") {
		t.Skip("SKIP: this cluster has such kinds already, which must not be replaced")
	}
	t.Cleanup(func() {
		k.Kubectl("delete", "--ignore-not-found", "--wait=false", "-f", kinds)
		k.Kubectl("delete", "--ignore-not-found", "--wait=false", "customresourcedefinition", "issuers.cert-manager.io")
	})
	k.Kubectl("apply", "--server-side", "-f", kinds)
	k.Apply("", issuer)
	k.Kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", kinds)
	k.Kubectl("wait", "--for=condition=Established", "--timeout=60s", "customresourcedefinition/issuers.cert-manager.io")
	ns := k.Namespace("objects", "pod-security.kubernetes.io/enforce", "restricted")

	renders, err := filepath.Glob(filepath.Join(harness.Root(k), "charts", "testdata", "golden", "*.yaml"))
	if err != nil || len(renders) == 0 {
		t.Fatalf("no renders: %v", err)
	}
	for _, file := range renders {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			here := strings.ReplaceAll(string(text), "namespace: marblerun\n", "namespace: "+ns+"\n")
			if _, err := dryRun(k.With(t), ns, here); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("all ways in, as this cluster has them", func(t *testing.T) { waysIn(k.With(t), ns) })
}

// waysIn renders with what the real API server offers, which decides about versions, and has mistakes refused.
func waysIn(k *kit.Kit, ns string) {
	text := k.Helm("install", "marblerun", k.Chart("marblerun"), "-n", ns, "--dry-run=server",
		"--set", "coordinator.hostname="+domain+",marbleInjector.start=true,coordinator.metrics.enabled=true",
		"--set", "ingress.nginx.enabled=true,ingress.istio.enabled=true,ingress.gatewayAPI.enabled=true",
		"--set", "ingress.gatewayAPI.parentRefs[0].name=my-gateway,coordinator.metrics.serviceMonitor.enabled=true")
	_, text, found := strings.Cut(text, "\nMANIFEST:\n")
	if !found {
		k.Fatalf("helm install --dry-run=server prints no MANIFEST")
	}
	text, _, _ = strings.Cut(text, "\nNOTES:\n")
	out, err := dryRun(k, ns, text)
	if err != nil {
		k.Fatal(err)
	}
	for _, want := range []string{
		"ingress.networking.k8s.io/marblerun-client-api created", "gateway.networking.istio.io/marblerun-gw created",
		"virtualservice.networking.istio.io/marblerun-client-api created",
		"tlsroute.gateway.networking.k8s.io/marblerun-client-api created",
		"servicemonitor.monitoring.coreos.com/coordinator-metrics created",
	} {
		if !strings.Contains(out, want) {
			k.Errorf("no %q in:\n%s", want, out)
		}
	}
	for right, wrong := range map[string]string{
		"mode: PASSTHROUGH": "mode: PASSTHRU", "sniHosts:": "sniHost:", "hostnames:": "hostname:", "endpoints:": "endpoint:",
	} {
		if !strings.Contains(text, right) {
			k.Errorf("no %q in what is rendered", right)
		} else if _, err := dryRun(k, ns, strings.Replace(text, right, wrong, 1)); err == nil {
			k.Errorf("the API server accepts %q", wrong)
		}
	}
}

// dryRun has the API server check objects strictly: unknown fields are errors.
func dryRun(k *kit.Kit, ns, text string) (string, error) {
	out, err := k.Try(kit.Command{Stdin: text, Args: []string{
		"kubectl", "apply", "-n", ns, "--dry-run=server", "--validate=strict", "-f", "-"}})
	return out.Stdout, err
}
