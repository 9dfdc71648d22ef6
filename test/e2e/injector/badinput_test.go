// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// testBadInput: what docs/reference/injector.md says about answers holds at the Service that the API server calls, and
// it goes on serving.
func testBadInput(in *installation) {
	hook := in.Webhook(in.hooks())
	const open = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","object":`
	const pod = `{"metadata":{"labels":{"marblerun/marbletype":"web"}},"spec":`
	for _, c := range []struct {
		name    string
		request kit.Request
		status  int
		says    string
	}{
		{"GET", kit.Request{Method: "GET"}, 400, "requests other than POST"},
		{"PUT", kit.Request{Method: "PUT", Body: strings.NewReader(open + "{}}}")}, 400, "requests other than POST"},
		{"text", kit.Request{ContentType: "text/plain", Body: strings.NewReader(open + "{}}}")}, 400, "wrong application type"},
		{"protobuf", kit.Request{ContentType: "application/vnd.kubernetes.protobuf"}, 400, "wrong application type"},
		{"nothing", kit.Request{}, 500, "invalid admission review"},
		{"binary", kit.Request{Body: strings.NewReader("\x00\xff\x1b")}, 500, "invalid admission review"},
		{"half", kit.Request{Body: strings.NewReader(open)}, 500, "invalid admission review"},
		{"another kind", kit.Request{Body: strings.NewReader(`{"apiVersion":"v1","kind":"Pod"}`)}, 500,
			"expected AdmissionReview"},
		{"another version", kit.Request{Body: strings.NewReader(strings.Replace(open, "/v1", "/v2", 1) + "{}}}")}, 500,
			"expected AdmissionReview"},
		{"no request", kit.Request{Body: strings.NewReader(
			`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`)}, 500, "empty admission request"},
		{"no object", kit.Request{Body: strings.NewReader(open + "null}}")}, 500, "invalid pod"},
		{"a Service", kit.Request{Body: strings.NewReader(open + `{"apiVersion":"v1","kind":"Service"}}}`)}, 500,
			"expected v1 Pod"},
		{"containers that are none", kit.Request{Body: strings.NewReader(open + pod + `{"containers":5}}}}`)}, 500,
			"invalid pod"},
		{"too many containers", kit.Request{Body: strings.NewReader(open + pod + `{"containers":[` +
			strings.Repeat(`{"name":"a"},`, 1000) + `{"name":"a"}]}}}}`)}, 500, "more than 1000"},
		{"deep", kit.Request{Body: strings.NewReader(open + strings.Repeat("[", 1<<20))}, 500, "invalid admission review"},
		{"9 MiB", kit.Request{Body: io.LimitReader(spaces{}, 9<<20)}, 413, ""},
		{"a charset", kit.Request{ContentType: "application/json; charset=utf-8",
			Body: strings.NewReader(open + pod + `{"containers":[{"name":"a"}]}}}}`)}, 200, `"allowed":true`},
	} {
		status, body, err := hook.Do(c.request)
		if err != nil || status != c.status || !strings.Contains(body, c.says) {
			in.Errorf("%s: %d %.300s, %v; want %d %s", c.name, status, body, err, c.status, c.says)
		}
	}
	if r := hook.Review(idle("x")); !r.Allowed || len(r.Patch) == 0 {
		in.Errorf("after all that: %+v", r)
	}
	if err := in.neverRestarted(); err != nil {
		in.Error(err)
	}
}

// spaces is white space without end, which is not even wrong JSON.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (in *installation) neverRestarted() error {
	for _, pod := range in.replicas() {
		for _, c := range pod.Status.ContainerStatuses {
			if c.RestartCount > 0 {
				return fmt.Errorf("%s has been restarted: %s", pod.Name, kit.State(&pod))
			}
		}
	}
	return nil
}

// replicas are the injector's Pods that are not on their way out.
func (in *installation) replicas() (pods []corev1.Pod) {
	in.Helper()
	all, err := in.Kube.CoreV1().Pods(in.ns).List(in.Context(), selecting("app.kubernetes.io/name=marble-injector"))
	if err != nil {
		in.Fatal(err)
	}
	for _, pod := range all.Items {
		if pod.DeletionTimestamp == nil {
			pods = append(pods, pod)
		}
	}
	if len(pods) == 0 {
		in.Fatal("there is no Pod of the injector")
	}
	return pods
}
