// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package rollout_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	kubetest "k8s.io/client-go/testing"

	"github.com/marblerun/marblerun/internal/kube/install/rollout"
)

// answer is what the proxy passes on.
type answer struct {
	body string
	err  error
}

func (a answer) DoRaw(context.Context) ([]byte, error) { return []byte(a.body), a.err }
func (a answer) Stream(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader([]byte(a.body))), a.err
}

func TestAskState(t *testing.T) {
	for name, test := range map[string]struct {
		answer answer
		code   int
		err    string
	}{
		"waiting":   {answer{body: `{"status":"success","data":{"code":2,"message":"ready","notes":[]}}`}, 2, ""},
		"forbidden": {answer{err: errors.New("no permission")}, 0, "no permission"},
		"no JSON":   {answer{body: "<html>"}, 0, "understanding the Coordinator's status"},
		"nonsense":  {answer{body: `{"data":{"code":7}}`}, 0, "says it is in state 7"},
		"too long":  {answer{body: `{"x":"` + strings.Repeat("a", 1<<17)}, 0, "understanding the Coordinator's status"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod("new", running(true, false))
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 4444}}}}
			client := fake.NewSimpleClientset(world(rollout.CoordinatorName, p)...)
			client.AddProxyReactor("pods", func(action kubetest.Action) (bool, rest.ResponseWrapper, error) {
				get := action.(kubetest.ProxyGetAction)
				if get.GetScheme() != "https" || get.GetName() != "c-new" || get.GetPort() != "4444" {
					t.Errorf("asked %v", get)
				}
				return true, test.answer, nil
			})
			state, err := rollout.AskState(t.Context(), client, ns)
			if test.err == "" && (err != nil || state.Code != test.code) {
				t.Errorf("got %+v, %v", state, err)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %+v, %v", state, err)
			}
		})
	}
	client := fake.NewSimpleClientset(world(rollout.CoordinatorName)...)
	if _, err := rollout.AskState(t.Context(), client, ns); err == nil {
		t.Error("a state without a Coordinator")
	}
}
