// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"path/filepath"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"sigs.k8s.io/yaml"
)

// helm lint has nothing to say, under both names and in all modes, and packaging changes nothing.
func TestLint(t *testing.T) {
	for _, name := range []string{"marblerun", "marblerun-coordinator"} {
		dir := t.TempDir()
		archive, err := chartutil.Save(load(t, name), dir)
		if err != nil {
			t.Fatal(err)
		}
		packaged, err := loader.LoadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "name", name, packaged.Name())
		equal(t, "files", len(load(t, name).Raw), len(packaged.Raw))
		equal(t, "archive", name+"-"+packaged.Metadata.Version+".tgz", filepath.Base(archive))
		for mode, i := range installations {
			lint := action.NewLint()
			lint.Strict, lint.Namespace = true, namespace
			result := lint.Run([]string{archive}, i.values(t))
			for _, message := range result.Messages {
				if message.Severity > support.InfoSev {
					t.Errorf("%s, %s: %s", name, mode, message)
				}
			}
			for _, err := range result.Errors {
				t.Errorf("%s, %s: %v", name, mode, err)
			}
		}
	}
}

// Users may set what the chart sets itself. Helm takes a key that is there twice, kustomize and schema checkers do not.
func TestNoKeyTwice(t *testing.T) {
	const ours = `global.podAnnotations.`
	i := sets("coordinator.hostname=mr.example.com", "marbleInjector.start=true", "ingress.istio.enabled=true",
		`global.podLabels.sidecar\.istio\.io/inject=yes`, ours+`openservicemesh\.io/sidecar-injection=enabled`,
		ours+"checksum/dcap-config=x", ours+`sgx\.intel\.com/quote-provider=y`, "ingress.nginx.enabled=true",
		`ingress.nginx.annotations.nginx\.ingress\.kubernetes\.io/ssl-passthrough=no`)
	for file, stream := range i.mustRender(t) {
		for _, document := range documents(stream) {
			if err := yaml.UnmarshalStrict([]byte(document), &map[string]any{}); err != nil && file != "NOTES.txt" {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	equal(t, "the user's label", "yes", coordinator(t, i).Spec.Template.Labels["sidecar.istio.io/inject"])
	equal(t, "the user's annotation", "enabled",
		injector(t, i).Spec.Template.Annotations["openservicemesh.io/sidecar-injection"])
}

// A namespace may look like a number, and would be one in YAML.
func TestNumericNamespace(t *testing.T) {
	for _, name := range []string{"everything", "ways-in", "metrics", "injector-managed", "injector-cert-manager"} {
		i := installations[name]
		i.in = "123"
		for id := range i.objects(t) {
			metadata := raw(t, i, id)["metadata"].(map[string]any)
			of, namespaced := metadata["namespace"]
			if _, isText := of.(string); namespaced && !isText {
				t.Errorf("%s, %s: namespace %v is no text", name, id, of)
			}
			for key, value := range metadata["labels"].(map[string]any) {
				if _, isText := value.(string); !isText {
					t.Errorf("%s, %s: label %s: %v is no text", name, id, key, value)
				}
			}
		}
	}
	equal(t, "selector", "123", coordinator(t, installation{in: "123"}).Spec.Selector.MatchLabels["edgeless.systems/control-plane-ns"])
}
