// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/marblerun/marblerun/internal/kube/inject/kubeapi"
	"github.com/marblerun/marblerun/test/e2e/kit"
)

// TestAPIServer: what the injector's own small client relies upon, and its unit tests pretend, is what a real API server
// does, with the permissions that docs/reference/injector.md asks for.
func TestAPIServer(t *testing.T) {
	k := kit.New(t)
	ns := k.Namespace("kubeapi")
	config := "e2e-kubeapi-" + ns
	k.Apply(ns, strings.NewReplacer("NAMESPACE", ns, "CONFIG", config).Replace(objects))
	k.Cleanup(func() {
		k.Kubectl("delete", "mutatingwebhookconfiguration,clusterrole,clusterrolebinding", config, "--ignore-not-found")
	})
	c := client(k, ns, "marble-injector")
	t.Run("secret", func(t *testing.T) { testSecrets(t, c, ns) })
	t.Run("webhooks", func(t *testing.T) { testWebhooks(t, k, c, config) })
	t.Run("forbidden", func(t *testing.T) {
		_, err := client(k, ns, "default").Secret(t.Context(), ns, caSecret)
		if !errors.Is(err, kubeapi.ErrForbidden) || !strings.Contains(err.Error(), "system:serviceaccount:"+ns+":default") {
			t.Errorf("another service account reads the Secret: %v", err)
		}
		stale := kubeapi.New(k.Config.Host, transport(k), func() (string, error) { return "expired", nil })
		if _, err := stale.Secret(t.Context(), ns, caSecret); !errors.Is(err, kubeapi.ErrForbidden) {
			t.Errorf("with a wrong token: %v", err)
		}
	})
}

const objects = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: marble-injector}
---
apiVersion: v1
kind: Secret
metadata: {name: marble-injector-ca}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: marble-injector}
rules:
- {apiGroups: [""], resources: [secrets], resourceNames: [marble-injector-ca, absent], verbs: [get, patch]}
- {apiGroups: [""], resources: [secrets], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: marble-injector}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: marble-injector}
subjects: [{kind: ServiceAccount, name: marble-injector, namespace: NAMESPACE}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: CONFIG}
rules:
- apiGroups: [admissionregistration.k8s.io]
  resources: [mutatingwebhookconfigurations]
  resourceNames: [CONFIG]
  verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: CONFIG}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: CONFIG}
subjects: [{kind: ServiceAccount, name: marble-injector, namespace: NAMESPACE}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: CONFIG}
webhooks:
- &hook
  name: one.e2e.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {name: nobody, namespace: NAMESPACE}}
  rules: [{operations: [CREATE], apiGroups: [e2e.example.com], apiVersions: [v1], resources: [nothing]}]
- <<: *hook
  name: two.e2e.example.com
`

func testSecrets(t *testing.T, c *kubeapi.Client, ns string) {
	ctx := t.Context()
	if _, err := c.Secret(ctx, ns, "absent"); !errors.Is(err, kubeapi.ErrNotFound) {
		t.Errorf("reading nothing: %v", err)
	}
	if err := c.CreateSecret(ctx, ns, "created", map[string][]byte{"a": []byte("1")}); err != nil {
		t.Error(err)
	}
	if err := c.CreateSecret(ctx, ns, "created", nil); !errors.Is(err, kubeapi.ErrConflict) {
		t.Errorf("creating it again: %v, want a conflict", err)
	}
	empty, err := c.Secret(ctx, ns, caSecret)
	if err != nil || len(empty.Data) != 0 {
		t.Fatal(empty, err)
	}
	// Of several replicas that have read the same version, one writes; the others must read again.
	won, lost := race(func(value byte) error {
		return c.PatchSecret(ctx, ns, caSecret, empty.Version, map[string][]byte{"a": {value}, "absent": nil})
	})
	if won != 1 || len(lost) != 7 {
		t.Errorf("%d of 8 have written; the others: %v", won, lost)
	}
	for _, err := range lost {
		if !errors.Is(err, kubeapi.ErrConflict) || !strings.Contains(err.Error(), "HTTP 409") {
			t.Errorf("too late: %v", err)
		}
	}
	now, err := c.Secret(ctx, ns, caSecret)
	if err != nil || len(now.Data) != 1 || now.Version == empty.Version {
		t.Error(now, err)
	}
	if err := c.PatchSecret(ctx, ns, caSecret, now.Version, map[string][]byte{"a": nil}); err != nil {
		t.Error(err)
	}
}

func testWebhooks(t *testing.T, k *kit.Kit, c *kubeapi.Client, config string) {
	ctx := t.Context()
	hooks, err := c.Webhooks(ctx, config)
	if err != nil || len(hooks.Webhooks) != 2 || hooks.Webhooks[1].Service != "nobody" {
		t.Fatal(hooks, err)
	}
	bundle, _ := newCA(k, time.Now(), time.Now().Add(time.Hour))
	won, lost := race(func(byte) error { return c.PatchCABundle(ctx, config, hooks.Version, []int{0, 1}, bundle) })
	// Patches that change nothing any more may pass or not; at least one has written.
	for _, err := range lost {
		if !errors.Is(err, kubeapi.ErrConflict) || !strings.Contains(err.Error(), "HTTP 409") {
			t.Errorf("too late: %v", err)
		}
	}
	now, err := c.Webhooks(ctx, config)
	if won == 0 || err != nil || now.Version == hooks.Version {
		t.Error(won, now, err)
	}
	for _, hook := range now.Webhooks {
		if string(hook.CABundle) != string(bundle) {
			t.Errorf("%s has the bundle %.40q", hook.Name, hook.CABundle)
		}
	}
	another, _ := newCA(k, time.Now(), time.Now().Add(time.Hour))
	err = c.PatchCABundle(ctx, config, hooks.Version, []int{0}, another)
	if !errors.Is(err, kubeapi.ErrConflict) || !strings.Contains(err.Error(), "HTTP 409") {
		t.Errorf("changing an older version: %v", err)
	}
}

// race does it eight times at once and returns how often it succeeded, and the other errors.
func race(do func(i byte) error) (won int, lost []error) {
	results := make(chan error)
	for i := range 8 {
		go func() { results <- do('a' + byte(i)) }()
	}
	for range 8 {
		if err := <-results; err != nil {
			lost = append(lost, err)
			continue
		}
		won++
	}
	return won, lost
}

// client is the injector's own client, as the service account.
func client(k *kit.Kit, ns, account string) *kubeapi.Client {
	k.Helper()
	token, err := k.Kube.CoreV1().ServiceAccounts(ns).CreateToken(k.Context(), account, &authentication.TokenRequest{},
		metav1.CreateOptions{})
	if err != nil {
		k.Fatal(err)
	}
	return kubeapi.New(k.Config.Host, transport(k), func() (string, error) { return token.Status.Token, nil })
}

// transport believes the API server's CA and has no credentials of its own.
func transport(k *kit.Kit) http.RoundTripper {
	k.Helper()
	t, err := rest.TransportFor(rest.AnonymousClientConfig(k.Config))
	if err != nil {
		k.Fatal(err)
	}
	return t
}
