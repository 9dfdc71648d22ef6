// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	registration "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testReinvocation: a webhook that comes after the injector adds a container, as service meshes do. The API server asks
// the injector again, and the late container becomes part of the Marble, while nothing is there twice.
func testReinvocation(in *installation) {
	in.NodeOnly() // the API server must reach a webhook in this process, on loopback
	calls := in.lateWebhook()
	in.Eventually("the late webhook is called", func(ctx context.Context) error {
		_, err := in.create(ctx, late(), true)
		if err == nil && calls.Load() == 0 {
			return errors.New("not yet")
		}
		return err
	})
	pod := in.must(late(), true)
	if len(pod.Spec.Containers) != 2 {
		in.Fatalf("%d containers", len(pod.Spec.Containers))
	}
	main, sidecar := pod.Spec.Containers[0], pod.Spec.Containers[1]
	if err := injected(pod); err != nil {
		in.Error(err)
	}
	if len(main.Env) != 4 || len(mounts(main)) != 1 || len(uuidVolumes(pod)) != 1 || len(tolerations(pod)) != 1 {
		in.Errorf("something is there twice: variables %v, mounts %v, UUID volumes %v, tolerations %v", main.Env, mounts(main),
			uuidVolumes(pod), tolerations(pod))
	}
	if diff := cmp.Diff(mounts(main), mounts(sidecar)); diff != "" {
		in.Error(diff)
	}
	if diff := cmp.Diff(limits(main), limits(sidecar)); diff != "" {
		in.Error(diff)
	}
}

func late() *corev1.Pod {
	pod := idle("late-")
	pod.Labels["late"] = "yes"
	return pod
}

// lateWebhook registers a webhook that is called after the injector, for Pods with the label late.
func (in *installation) lateWebhook() (calls *atomic.Int32) {
	in.Helper()
	calls = &atomic.Int32{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		addContainer(w, r)
	}))
	in.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	none, url, path := registration.SideEffectClassNone, server.URL, registration.NamespacedScope
	hooks := in.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	// Webhooks are called in the order of their configurations' names.
	created, err := hooks.Create(in.Context(), &registration.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "zz-" + in.ns},
		Webhooks: []registration.MutatingWebhook{{
			Name: "late.e2e.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig:      registration.WebhookClientConfig{URL: &url, CABundle: ca},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{in.ns: "sees"}},
			ObjectSelector:    &metav1.LabelSelector{MatchLabels: map[string]string{"late": "yes"}},
			Rules: []registration.RuleWithOperations{{Operations: []registration.OperationType{registration.Create},
				Rule: registration.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"},
					Scope: &path}}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		in.Fatal(err)
	}
	in.Cleanup(func() {
		if err := hooks.Delete(context.WithoutCancel(in.Context()), created.Name, metav1.DeleteOptions{}); err != nil {
			in.Error(err)
		}
	})
	return calls
}

// addContainer answers a review by adding a container, unless it is there.
func addContainer(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	var pod corev1.Pod
	err := json.NewDecoder(r.Body).Decode(&review)
	if err == nil && review.Request != nil {
		err = json.Unmarshal(review.Request.Object.Raw, &pod)
	}
	if err != nil || review.Request == nil {
		http.Error(w, "no review of a Pod", http.StatusBadRequest)
		return
	}
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if !slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == "sidecar" }) {
		kind := admissionv1.PatchTypeJSONPatch
		review.Response.PatchType = &kind
		review.Response.Patch = []byte(`[{"op":"add","path":"/spec/containers/-","value":` +
			`{"name":"sidecar","image":"nowhere.example/none"}}]`)
	}
	review.Request = nil
	_ = json.NewEncoder(w).Encode(review)
}
