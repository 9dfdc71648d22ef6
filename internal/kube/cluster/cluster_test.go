// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
)

// kubeconfig writes a file with one context that leads to a server.
func kubeconfig(t *testing.T, name, server string, current bool) string {
	t.Helper()
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config",
"clusters":[{"name":%[1]q,"cluster":{"server":%[2]q,"insecure-skip-tls-verify":true}}],
"users":[{"name":%[1]q,"user":{"token":"t"}}],
"contexts":[{"name":%[1]q,"context":{"cluster":%[1]q,"user":%[1]q,"namespace":"other"}}]`, name, server)
	if current {
		text += fmt.Sprintf(`,"current-context":%q`, name)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// clean is an environment without a cluster.
func clean(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBECONFIG", "")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
}

// There is one choice for client-go and Helm (pains C12).
func TestOpen(t *testing.T) {
	clean(t)
	one, two := kubeconfig(t, "one", "https://one.example", true), kubeconfig(t, "two", "https://two.example", false)
	missing := filepath.Join(t.TempDir(), "missing")
	t.Setenv("KUBECONFIG", strings.Join([]string{missing, one, two}, string(os.PathListSeparator)))
	for name, test := range map[string]struct {
		options cluster.Options
		place   string
		host    string
	}{
		"list":    {cluster.Options{}, `https://one.example (context "one")`, "https://one.example"},
		"context": {cluster.Options{Context: "two"}, `https://two.example (context "two")`, "https://two.example"},
		"file": {cluster.Options{Kubeconfig: two, Context: "two"}, `https://two.example (context "two")`,
			"https://two.example"},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.Namespace = "mr"
			c, err := cluster.Open(test.options)
			if err != nil {
				t.Fatal(err)
			}
			config, err := c.Access.ToRESTConfig()
			if err != nil || config.Host != test.host || c.Place != test.place {
				t.Errorf("got %s, %s, %v", config.Host, c.Place, err)
			}
			// Helm asks for the namespace here.
			if namespace, _, err := c.Access.ToRawKubeConfigLoader().Namespace(); namespace != "mr" || err != nil {
				t.Errorf("namespace %q, %v", namespace, err)
			}
		})
	}
}

func TestOpenNothing(t *testing.T) {
	clean(t)
	one := kubeconfig(t, "one", "https://one.example", true)
	empty, text := filepath.Join(t.TempDir(), "empty"), filepath.Join(t.TempDir(), "text")
	for path, content := range map[string]string{empty: "", text: "some text"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		options    cluster.Options
		err, hint  string
		kubeconfig string
	}{
		"no cluster": {err: ".kube/config: no such file or directory", hint: "set KUBECONFIG"},
		"no files": {kubeconfig: "/nonexistent" + string(os.PathListSeparator) + "/neither",
			err: "stat /nonexistent: no such file or directory\nstat /neither: no such", hint: "set KUBECONFIG"},
		"empty file":    {kubeconfig: empty, err: "no configuration has been provided", hint: "set KUBECONFIG"},
		"no kubeconfig": {kubeconfig: text, err: "error loading config file", hint: "It is not a kubeconfig"},
		"no file":       {options: cluster.Options{Kubeconfig: "/nonexistent"}, err: "no such file", hint: "--kubeconfig"},
		"no context": {options: cluster.Options{Context: "x"}, kubeconfig: one, err: `context "x" does not exist`,
			hint: "get-contexts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", test.kubeconfig)
			_, err := cluster.Open(test.options)
			if err == nil || !strings.Contains(err.Error(), test.err) || !strings.Contains(api.Hint(err), test.hint) {
				t.Errorf("got %v, hint %q", err, api.Hint(err))
			}
		})
	}
}

// serve opens a cluster whose API server is a handler.
func serve(t *testing.T, handler http.HandlerFunc, warn func(string)) *cluster.Cluster {
	t.Helper()
	clean(t)
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	c, err := cluster.Open(cluster.Options{Kubeconfig: kubeconfig(t, "k", server.URL, true), Namespace: "mr", Warn: warn})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fail answers like an API server that refuses.
func fail(code int32, reason metav1.StatusReason, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(code))
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: message,
		})
	}
}

func TestExplain(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		hint    string
	}{
		"unauthorized": {fail(401, metav1.StatusReasonUnauthorized, "no"), "does not accept the credentials"},
		"forbidden":    {fail(403, metav1.StatusReasonForbidden, "no"), "'marblerun precheck -n mr'"},
		"quota":        {fail(403, metav1.StatusReasonForbidden, "exceeded quota: q"), "kubectl -n mr describe resourcequota"},
		"rule":         {fail(403, metav1.StatusReasonForbidden, `admission webhook "w" denied it`), "A rule of this cluster"},
		"webhook": {fail(500, metav1.StatusReasonInternalError, `failed calling webhook "w": connection refused`),
			"A webhook of the cluster does not answer"},
		"other": {fail(409, metav1.StatusReasonConflict, "no"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, test.handler, nil)
			_, err := c.SGX(t.Context())
			if err == nil || !strings.Contains(api.Hint(c.Explain(err)), test.hint) ||
				(test.hint == "") != (api.Hint(c.Explain(err)) == "") {
				t.Errorf("got %v, hint %q", err, api.Hint(c.Explain(err)))
			}
		})
	}
	clean(t)
	for server, hint := range map[string]string{
		"https://127.0.0.1:1":      `Nothing answers at https://127.0.0.1:1 (context "k")`,
		"https://unknown.invalid.": "is unknown here",
	} {
		c, err := cluster.Open(cluster.Options{Kubeconfig: kubeconfig(t, "k", server, true)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.SGX(t.Context())
		if err == nil || !strings.Contains(api.Hint(c.Explain(err)), hint) {
			t.Errorf("got %v, hint %q", err, api.Hint(c.Explain(err)))
		}
	}
	c := &cluster.Cluster{}
	hinted := api.WithHint(errors.New("x"), "own")
	if c.Explain(nil) != nil || c.Explain(hinted) != hinted || api.Hint(c.Explain(context.Canceled)) != "" {
		t.Error("Explain changes what needs no explanation")
	}
	if err := c.Explain(fmt.Errorf("lines\n\n%w\n", context.Canceled)); err.Error() != "lines\n\ncontext canceled" ||
		!errors.Is(err, context.Canceled) {
		t.Errorf("got %q", err)
	}
}

// A certificate that the kubeconfig does not know.
func TestExplainCertificate(t *testing.T) {
	clean(t)
	server := httptest.NewUnstartedServer(nil)
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	path := kubeconfig(t, "k", server.URL, true)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	strict := strings.Replace(string(text), `"insecure-skip-tls-verify":true`, `"tls-server-name":"x"`, 1)
	if err := os.WriteFile(path, []byte(strict), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Open(cluster.Options{Kubeconfig: path})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.SGX(t.Context())
	if !strings.Contains(api.Hint(c.Explain(err)), "is not the one that the kubeconfig expects") {
		t.Errorf("got %v, hint %q", err, api.Hint(c.Explain(err)))
	}
}

func TestWarnings(t *testing.T) {
	var warned []string
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Warning", `299 - "it is deprecated"`)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"kind":"NodeList","apiVersion":"v1","items":[]}`)
	}, func(text string) { warned = append(warned, text) })
	if _, err := c.SGX(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"it is deprecated"}, warned); diff != "" {
		t.Error(diff)
	}
}

func TestSGX(t *testing.T) {
	node := func(name string, capacity map[corev1.ResourceName]string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name},
			Status: corev1.NodeStatus{Capacity: corev1.ResourceList{}}}
		for name, amount := range capacity {
			n.Status.Capacity[name] = resource.MustParse(amount)
		}
		return n
	}
	client := fake.NewSimpleClientset(
		node("a-none", nil),
		node("b-half", map[corev1.ResourceName]string{cluster.IntelEPC: "10Mi", cluster.IntelEnclave: "1"}),
		node("c-zero", map[corev1.ResourceName]string{cluster.AzureEPC: "0"}),
		node("d-azure", map[corev1.ResourceName]string{cluster.AzureEPC: "28"}),
		node("e-intel", map[corev1.ResourceName]string{cluster.IntelEPC: "10Mi", cluster.IntelEnclave: "1",
			cluster.IntelProvision: "1"}),
		node("f-both", map[corev1.ResourceName]string{cluster.AlibabaEPC: "5", cluster.AzureEPC: "28"}),
	)
	got, err := (&cluster.Cluster{Client: client}).SGX(t.Context())
	want := cluster.SGX{Total: 6, Nodes: []cluster.SGXNode{
		{Name: "d-azure", Resource: cluster.AzureEPC, Capacity: "28"},
		{Name: "e-intel", Resource: cluster.IntelEPC, Capacity: "10Mi"},
		{Name: "f-both", Resource: cluster.AlibabaEPC, Capacity: "5"},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if got.Resource() != cluster.AzureEPC || len(got.Resources()) != 3 || (cluster.SGX{}).Resource() != "" {
		t.Errorf("%v", got.Resources())
	}
}
