// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package kit

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Webhook talks to the Service of a webhook as the API server does: with HTTPS, believing the configuration's CA bundle.
type Webhook struct {
	k      *Kit
	url    string
	client *http.Client
}

// Webhook returns the first webhook of a MutatingWebhookConfiguration. It is reached through a port-forward, which is
// bound to one Pod, and believes the CA bundle of now.
func (k *Kit) Webhook(configuration string) *Webhook {
	k.Helper()
	ctx, cancel := k.brief()
	defer cancel()
	c, err := k.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	if err != nil {
		k.Fatal(err)
	}
	if len(c.Webhooks) == 0 || c.Webhooks[0].ClientConfig.Service == nil {
		k.Fatalf("MutatingWebhookConfiguration %s names no Service", configuration)
	}
	to := c.Webhooks[0].ClientConfig
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(to.CABundle) {
		k.Fatalf("MutatingWebhookConfiguration %s has no CA bundle", configuration)
	}
	port, path := 443, ""
	if to.Service.Port != nil {
		port = int(*to.Service.Port)
	}
	if to.Service.Path != nil {
		path = *to.Service.Path
	}
	addr := k.Forward(to.Service.Namespace, "svc/"+to.Service.Name, port)
	transport := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{
		RootCAs: roots, ServerName: to.Service.Name + "." + to.Service.Namespace + ".svc"}}
	k.Cleanup(transport.CloseIdleConnections)
	return &Webhook{k, "https://" + addr + path, &http.Client{Transport: transport, Timeout: time.Minute}}
}

// Request is one that the webhook is asked. The zero values of Method and ContentType are what the API server sends.
type Request struct {
	Method, ContentType string
	Body                io.Reader
}

// Do returns status and body of the answer. A server that answers before it has read everything is fine.
func (w *Webhook) Do(r Request) (status int, body string, err error) {
	if r.Method == "" {
		r.Method = http.MethodPost
	}
	if r.ContentType == "" {
		r.ContentType = "application/json"
	}
	if r.Body == nil {
		r.Body = strings.NewReader("")
	}
	request, err := http.NewRequestWithContext(w.k.Context(), r.Method, w.url, r.Body)
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", r.ContentType)
	answer, err := w.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), errors.Join(err, answer.Body.Close())
}

// Review asks the webhook about a Pod and returns its answer, which must be one.
func (w *Webhook) Review(pod *corev1.Pod) *admissionv1.AdmissionResponse {
	w.k.Helper()
	status, body, err := w.Do(Request{Body: strings.NewReader(w.k.ReviewOf(pod))})
	if err != nil || status != http.StatusOK {
		w.k.Fatalf("reviewing a Pod: %d %s %v", status, body, err)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal([]byte(body), &review); err != nil || review.Response == nil {
		w.k.Fatalf("reviewing a Pod: %v: %s", err, body)
	}
	return review.Response
}

// ReviewOf is the AdmissionReview that the API server sends when a Pod is created.
func (k *Kit) ReviewOf(pod *corev1.Pod) string {
	k.Helper()
	o := pod.DeepCopy()
	o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
	raw, err := json.Marshal(o)
	if err != nil {
		k.Fatal(err)
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("00000000-0000-4000-8000-000000000001"), Operation: admissionv1.Create,
			Kind:      metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
			Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Namespace: o.Namespace, Name: o.Name, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		k.Fatal(err)
	}
	return string(review)
}
