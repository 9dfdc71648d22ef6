// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// kinds are the types of Kubernetes' own objects.
var kinds = map[string]func() any{
	"apps/v1 Deployment": func() any { return new(appsv1.Deployment) },
	"admissionregistration.k8s.io/v1 MutatingWebhookConfiguration": func() any {
		return new(admissionv1.MutatingWebhookConfiguration)
	},
	"networking.k8s.io/v1 Ingress":             func() any { return new(networkingv1.Ingress) },
	"networking.k8s.io/v1 NetworkPolicy":       func() any { return new(networkingv1.NetworkPolicy) },
	"policy/v1 PodDisruptionBudget":            func() any { return new(policyv1.PodDisruptionBudget) },
	"rbac.authorization.k8s.io/v1 ClusterRole": func() any { return new(rbacv1.ClusterRole) },
	"rbac.authorization.k8s.io/v1 ClusterRoleBinding": func() any {
		return new(rbacv1.ClusterRoleBinding)
	},
	"rbac.authorization.k8s.io/v1 Role":        func() any { return new(rbacv1.Role) },
	"rbac.authorization.k8s.io/v1 RoleBinding": func() any { return new(rbacv1.RoleBinding) },
	"v1 ConfigMap":             func() any { return new(corev1.ConfigMap) },
	"v1 PersistentVolumeClaim": func() any { return new(corev1.PersistentVolumeClaim) },
	"v1 Secret":                func() any { return new(corev1.Secret) },
	"v1 Service":               func() any { return new(corev1.Service) },
	"v1 ServiceAccount":        func() any { return new(corev1.ServiceAccount) },
}

// Only cert-manager's Issuer has no schema here: the file is large, and our object is one line.
const withoutSchema = "cert-manager.io/v1 Issuer"

// Every object of every installation has only fields that its kind has. For objects of other projects their published
// schemas are asked; the e2e suite asks a real API server.
func TestObjectsFitTheirSchemas(t *testing.T) {
	crds := readCRDs(t)
	seen := map[string]bool{}
	for name, i := range installations {
		for id, document := range i.objects(t) {
			var head struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal([]byte(document), &head); err != nil {
				t.Fatal(err)
			}
			kind := head.APIVersion + " " + head.Kind
			seen[kind] = true
			for _, problem := range check(t, crds, kind, document) {
				t.Errorf("%s, %s: %s", name, id, problem)
			}
		}
	}
	for kind := range crds {
		if strings.Contains(kind, "/v1 ") && !seen[kind] {
			t.Errorf("no installation has a %s", kind)
		}
	}
}

// The check above finds what is wrong with an object.
func TestSchemasFindMistakes(t *testing.T) {
	crds := readCRDs(t)
	i := installations["ways-in"]
	for _, mistake := range [][3]string{
		{"Gateway/marblerun-gw", "mode: PASSTHROUGH", "mode: PASSTHRU"},
		{"Gateway/marblerun-gw", "selector:", "selectors:"},
		{"VirtualService/marblerun-client-api", "sniHosts:", "hosts:"},
		{"TLSRoute/marblerun-client-api", "port: 4433", "port: 443300"},
		{"TLSRoute/marblerun-client-api", "backendRefs:", "backends:"},
	} {
		document := i.objects(t)[mistake[0]]
		wrong := strings.Replace(document, mistake[1], mistake[2], 1)
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal([]byte(wrong), &head); err != nil || wrong == document {
			t.Fatalf("%q: %v", mistake, err)
		}
		if problems := check(t, crds, head.APIVersion+" "+head.Kind, wrong); len(problems) == 0 {
			t.Errorf("%s may have %s", mistake[0], mistake[2])
		}
	}
}

func check(t *testing.T, crds map[string]map[string]any, kind, document string) []string {
	t.Helper()
	if kind == withoutSchema {
		return nil
	}
	if typed, known := kinds[kind]; known {
		if err := yaml.UnmarshalStrict([]byte(document), typed()); err != nil {
			return []string{err.Error()}
		}
		return nil
	}
	schema, known := crds[kind]
	if !known {
		return []string{"there is no schema of " + kind}
	}
	object := map[string]any{}
	if err := yaml.Unmarshal([]byte(document), &object); err != nil {
		return []string{err.Error()}
	}
	text, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	if err := commonutil.ValidateAgainstSingleSchema(object, text); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// readCRDs returns the schemas in testdata/crds by "apiVersion Kind". Those of OpenAPI 3.0 that occur in
// CustomResourceDefinitions are JSON schemas, but for unknown fields: the API server drops them, here they are errors.
func readCRDs(t *testing.T) map[string]map[string]any {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", "crds", "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no schemas: %v", err)
	}
	all := map[string]map[string]any{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var crd definition
		if err := yaml.Unmarshal(data, &crd); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, version := range crd.Spec.Versions {
			if version.Served {
				root := version.Schema.OpenAPIV3Schema["properties"].(map[string]any)
				for _, implied := range []string{"apiVersion", "kind", "metadata"} {
					root[implied] = map[string]any{}
				}
				forbidUnknown(version.Schema.OpenAPIV3Schema)
				all[crd.Spec.Group+"/"+version.Name+" "+crd.Spec.Names.Kind] = version.Schema.OpenAPIV3Schema
			}
		}
	}
	return all
}

// A definition is what is needed of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group    string
		Names    struct{ Kind string }
		Versions []struct {
			Name   string
			Served bool
			Schema struct{ OpenAPIV3Schema map[string]any }
		}
	}
}

func forbidUnknown(schema map[string]any) {
	inner, structured := schema["properties"].(map[string]any)
	for _, property := range inner {
		forbidUnknown(property.(map[string]any))
	}
	if structured && schema["x-kubernetes-preserve-unknown-fields"] != true {
		schema["additionalProperties"] = false
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if inner, is := schema[key].(map[string]any); is {
			forbidUnknown(inner)
		}
	}
}
