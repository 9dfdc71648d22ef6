// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

func injector(t *testing.T, i installation) *appsv1.Deployment {
	t.Helper()
	return object[appsv1.Deployment](t, i, "Deployment/marble-injector")
}

func webhook(t *testing.T, i installation) admissionv1.MutatingWebhook {
	t.Helper()
	id := "MutatingWebhookConfiguration/marble-injector-" + namespace
	all := object[admissionv1.MutatingWebhookConfiguration](t, i, id).Webhooks
	if len(all) != 1 {
		t.Fatalf("there are %d webhooks", len(all))
	}
	return all[0]
}

func TestInjectorIsOffByDefault(t *testing.T) {
	for id := range sets().objects(t) {
		if strings.Contains(id, "injector") {
			t.Errorf("there is %s", id)
		}
	}
}

func TestInjectorDeployment(t *testing.T) {
	i := sets("marbleInjector.start=true")
	d := injector(t, i)
	equal(t, "selector", map[string]string{
		"app.kubernetes.io/name": "marble-injector", "app.kubernetes.io/part-of": "marblerun",
	}, d.Spec.Selector.MatchLabels)
	equal(t, "labels of the Pod", map[string]string{
		"app.kubernetes.io/component": "admission-controller", "app.kubernetes.io/created-by": "Helm",
		"app.kubernetes.io/name": "marble-injector", "app.kubernetes.io/part-of": "marblerun",
		"app.kubernetes.io/version": "v0.1.0", componentLabel: "admission-controller", namespaceLabel: namespace,
	}, d.Spec.Template.Labels)
	equal(t, "annotation", "disabled", d.Spec.Template.Annotations["openservicemesh.io/sidecar-injection"])
	equal(t, "nodes", map[string]string{"kubernetes.io/os": "linux"}, d.Spec.Template.Spec.NodeSelector)
	equal(t, "grace", int64(30), *d.Spec.Template.Spec.TerminationGracePeriodSeconds)
	c := container(t, d)
	equal(t, "image", "ghcr.io/marblerun/marblerun/marble-injector:v0.1.0", c.Image)
	equal(t, "env", []corev1.EnvVar{{Name: "EDG_HTTP_ERROR_LOG_LEVEL", Value: "error"}}, c.Env)
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		equal(t, "probe", "/healthz HTTPS", probe.HTTPGet.Path+" "+string(probe.HTTPGet.Scheme))
	}
	service := object[corev1.Service](t, i, "Service/marble-injector").Spec
	equal(t, "service selector", map[string]string{"app.kubernetes.io/name": "marble-injector"}, service.Selector)
	equal(t, "service port", []corev1.ServicePort{{Name: "https", Port: 443, TargetPort: port(8443)}}, service.Ports)
}

func TestInjectorArguments(t *testing.T) {
	arguments := func(set ...string) []string {
		return container(t, injector(t, sets(append([]string{"marbleInjector.start=true"}, set...)...))).Args
	}
	equal(t, "managed", []string{
		"-coordAddr=coordinator-mesh-api.marblerun:2001", "-clusterDomain=cluster.local", "-caSecret=marble-injector-ca",
		"-webhookConfig=marble-injector-marblerun", "-sgxResource=sgx.intel.com/epc"}, arguments())
	files := []string{
		"-coordAddr=coordinator-mesh-api.marblerun:2001", "-clusterDomain=cluster.local",
		"-tlsCertFile=/etc/webhook/certs/tls.crt", "-tlsKeyFile=/etc/webhook/certs/tls.key", "-sgxResource=sgx.intel.com/epc"}
	equal(t, "cert-manager", files, arguments("marbleInjector.useCertManager=true"))
	equal(t, "own Secret", files, arguments("marbleInjector.CABundle=QUJD"))
	for want, set := range map[string]string{
		"-coordAddr=coordinator-mesh-api.marblerun:25554": "coordinator.meshServerPort=25554",
		"-clusterDomain=a.b":                              "global.clusterDomain=a.b",
		"-clusterDomain=c.d":                              "marbleInjector.clusterDomain=c.d",
		"-sgxResource=none":                               "coordinator.simulation=1",
		"-sgxResource=x.y/z":                              "marbleInjector.resourceKey=x.y/z",
		"-sgxQuantity=20Mi":                               "marbleInjector.sgxQuantity=20Mi",
		"-metricsAddr=:9945":                              "marbleInjector.metrics.enabled=true",
	} {
		if got := arguments(set); !slices.Contains(got, want) {
			t.Errorf("--set %s has no %s: %q", set, want, got)
		}
	}
	got := arguments("coordinator.simulation=1", "marbleInjector.resourceKey=x.y/z")
	if !slices.Contains(got, "-sgxResource=x.y/z") {
		t.Errorf("simulation overrides the resource that is given: %q", got)
	}
	if got := arguments("coordinator.tee=tdx"); !slices.Contains(got, "-sgxResource=none") {
		t.Errorf("beside a TDX Coordinator SGX is asked for: %q", got)
	}
}

func TestWebhook(t *testing.T) {
	hook := webhook(t, sets("marbleInjector.start=true"))
	equal(t, "name", "marble-injector-marblerun.cluster.local", hook.Name)
	path := "/mutate"
	equal(t, "service", &admissionv1.ServiceReference{Namespace: namespace, Name: "marble-injector", Path: &path},
		hook.ClientConfig.Service)
	scope := admissionv1.NamespacedScope
	equal(t, "rules", []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.Create},
		Rule: admissionv1.Rule{
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}, Scope: &scope},
	}}, hook.Rules)
	equal(t, "versions", []string{"v1", "v1beta1"}, hook.AdmissionReviewVersions)
	equal(t, "failure", "Fail 10 Never None", strings.Join([]string{string(*hook.FailurePolicy),
		"10", string(*hook.ReinvocationPolicy), string(*hook.SideEffects)}, " "))
	equal(t, "timeout", int32(10), *hook.TimeoutSeconds)
	equal(t, "bundle", 0, len(hook.ClientConfig.CABundle))

	hook = webhook(t, sets("marbleInjector.start=true", "marbleInjector.CABundle=UEVN"))
	equal(t, "bundle", "PEM", string(hook.ClientConfig.CABundle))
	wrapped := installation{}
	bundle := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("PEM", 40)))
	files, err := wrapped.renderValues(t, map[string]any{"marbleInjector": map[string]any{"start": true,
		"CABundle": bundle[:76] + "\n" + bundle[76:] + "\n"}})
	if err != nil || !strings.Contains(files["injector-webhook.yaml"], "caBundle: "+bundle+"\n") {
		t.Errorf("base64 in lines is not joined: %v", err)
	}
}

func TestCertManager(t *testing.T) {
	const annotation = "cert-manager.io/inject-ca-from"
	id := "MutatingWebhookConfiguration/marble-injector-" + namespace
	for set, want := range map[string]string{
		"marbleInjector.useCertManager=true": "marblerun/marble-injector-serving-cert",
		"marbleInjector.CABundle=QUJD":       "", "marbleInjector.replicas=2": "",
	} {
		i := sets("marbleInjector.start=true", set)
		got := object[admissionv1.MutatingWebhookConfiguration](t, i, id).Annotations[annotation]
		equal(t, annotation+" with "+set, want, got)
		_, issuer := i.objects(t)["Issuer/marble-injector-selfsigned-issuer"]
		_, certificate := i.objects(t)["Certificate/marble-injector-serving-cert"]
		equal(t, "objects of cert-manager", [2]bool{want != "", want != ""}, [2]bool{issuer, certificate})
	}
}

// Which Pods the webhook sees, asked as the API server does.
func TestSelectors(t *testing.T) {
	matches := func(selector *metav1.LabelSelector, set labels.Set) bool {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		return s.Matches(set)
	}
	hook := webhook(t, sets("marbleInjector.start=true"))
	for _, test := range []struct {
		pod  labels.Set
		want bool
	}{
		{labels.Set{"marblerun/marbletype": "web"}, true},
		{labels.Set{"marblerun/marbletype": ""}, true}, // the webhook refuses it and says why
		{labels.Set{"app": "web"}, false},
		{labels.Set{"marblerun/marbletype": "web", componentLabel: "admission-controller"}, false},
		{labels.Set{"marblerun/marbletype": "web", componentLabel: "coordinator"}, false},
	} {
		equal(t, test.pod.String(), test.want, matches(hook.ObjectSelector, test.pod))
	}
	// Marbles may be in the release's namespace.
	for ns, want := range map[string]bool{"default": true, namespace: true, "kube-system": false} {
		equal(t, ns, want, matches(hook.NamespaceSelector, labels.Set{"kubernetes.io/metadata.name": ns}))
	}
	hook = webhook(t, sets("marbleInjector.start=true", "marbleInjector.namespaceSelector.matchLabels.marbles=yes"))
	equal(t, "unlabelled", false, matches(hook.NamespaceSelector, labels.Set{"kubernetes.io/metadata.name": "default"}))
	labelled := labels.Set{"kubernetes.io/metadata.name": "x", "marbles": "yes"}
	equal(t, "labelled", true, matches(hook.NamespaceSelector, labelled))
	hook = webhook(t, sets("marbleInjector.start=true", "marbleInjector.excludedNamespaces=null"))
	if hook.NamespaceSelector != nil {
		t.Errorf("an empty selector is there: %v", hook.NamespaceSelector)
	}
	own := injector(t, sets("marbleInjector.start=true", "global.podLabels.marblerun/marbletype=x"))
	equal(t, "its own Pods", false, matches(hook.ObjectSelector, own.Spec.Template.Labels))
}
