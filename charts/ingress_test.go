// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// raw decodes an object whose Go type is not at hand; its schema is checked elsewhere.
func raw(t *testing.T, i installation, id string) map[string]any {
	t.Helper()
	document, found := i.objects(t)[id]
	if !found {
		t.Fatalf("there is no %s with %q", id, i.set)
	}
	decoded := map[string]any{}
	if err := yaml.Unmarshal([]byte(document), &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// Names in the certificate are host names, addresses and localhost are not.
func TestNGINX(t *testing.T) {
	ingress := object[networkingv1.Ingress](t, sets(hosts, "ingress.nginx.enabled=true",
		`ingress.nginx.annotations.nginx\.ingress\.kubernetes\.io/proxy-read-timeout=1m`), "Ingress/marblerun-client-api")
	equal(t, "annotations", map[string]string{
		"nginx.ingress.kubernetes.io/ssl-passthrough":    "true",
		"nginx.ingress.kubernetes.io/proxy-read-timeout": "1m",
	}, ingress.Annotations)
	equal(t, "class", "nginx", *ingress.Spec.IngressClassName)
	var names []string
	for _, rule := range ingress.Spec.Rules {
		names = append(names, rule.Host)
		backend := rule.HTTP.Paths[0].Backend.Service
		equal(t, "backend", &networkingv1.IngressServiceBackend{Name: "coordinator-client-api",
			Port: networkingv1.ServiceBackendPort{Number: 4433}}, backend)
	}
	equal(t, "hosts", []string{"mr.example.com", "mr.example.org"}, names)
	equal(t, "TLS ends in the enclave", 0, len(ingress.Spec.TLS))
	own := object[networkingv1.Ingress](t, sets(hosts, "ingress.nginx.enabled=true", "ingress.nginx.hosts={a.example}"),
		"Ingress/marblerun-client-api")
	equal(t, "own hosts", "a.example", own.Spec.Rules[0].Host)
}

func TestIstio(t *testing.T) {
	i := sets("coordinator.hostname=mr.example.com", "ingress.istio.enabled=true", "marbleInjector.start=true")
	names := []any{"mr.example.com"}
	equal(t, "Gateway", map[string]any{
		"selector": map[string]any{"istio": "ingressgateway"},
		"servers": []any{map[string]any{
			"port":  map[string]any{"number": 443.0, "name": "tls-marblerun", "protocol": "TLS"},
			"tls":   map[string]any{"mode": "PASSTHROUGH"},
			"hosts": names,
		}},
	}, raw(t, i, "Gateway/marblerun-gw")["spec"].(map[string]any))
	destination := map[string]any{"host": "coordinator-client-api.marblerun.svc.cluster.local",
		"port": map[string]any{"number": 4433.0}}
	service := raw(t, i, "VirtualService/marblerun-client-api")["spec"].(map[string]any)
	equal(t, "VirtualService", map[string]any{
		"hosts": names, "gateways": []any{"marblerun-gw"},
		"tls": []any{map[string]any{
			"match": []any{map[string]any{"port": 443.0, "sniHosts": names}},
			"route": []any{map[string]any{"destination": destination}},
		}},
	}, service)
	// A sidecar would end the TLS that Marbles must see.
	equal(t, "Coordinator", "false", coordinator(t, i).Spec.Template.Labels["sidecar.istio.io/inject"])
	equal(t, "injector", "false", injector(t, i).Spec.Template.Labels["sidecar.istio.io/inject"])

	i.set = append(i.set, "ingress.istio.gateway=infra/public")
	if _, made := i.objects(t)["Gateway/marblerun-gw"]; made {
		t.Error("a Gateway is made beside the given one")
	}
	service = raw(t, i, "VirtualService/marblerun-client-api")["spec"].(map[string]any)
	equal(t, "gateway", []any{"infra/public"}, service["gateways"].([]any))
}

func TestTLSRoute(t *testing.T) {
	i := sets(hosts, "ingress.gatewayAPI.enabled=true", "ingress.gatewayAPI.parentRefs[0].name=public")
	const id = "TLSRoute/marblerun-client-api"
	equal(t, "spec", map[string]any{
		"parentRefs": []any{map[string]any{"name": "public"}},
		"hostnames":  []any{"mr.example.com", "mr.example.org"},
		"rules": []any{map[string]any{"backendRefs": []any{
			map[string]any{"name": "coordinator-client-api", "port": 4433.0}}}},
	}, raw(t, i, id)["spec"].(map[string]any))

	version := func(apis ...string) any {
		i.apis = apis
		return raw(t, i, id)["apiVersion"]
	}
	const group = "gateway.networking.k8s.io/"
	equal(t, "unknown cluster", any(group+"v1"), version())
	equal(t, "old", any(group+"v1alpha2"), version(group+"v1alpha2/TLSRoute"))
	equal(t, "newest", any(group+"v1"), version(group+"v1alpha2/TLSRoute", group+"v1/TLSRoute", group+"v1alpha3/TLSRoute"))
	i.set = append(i.set, "ingress.gatewayAPI.apiVersion="+group+"v1alpha3")
	equal(t, "given", any(group+"v1alpha3"), version(group+"v1/TLSRoute"))
}
