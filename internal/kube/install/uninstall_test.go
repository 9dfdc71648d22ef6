// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetest "k8s.io/client-go/testing"

	"github.com/marblerun/marblerun/api"
)

var context0 = context.Background()

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: testNamespace}
}

func TestUninstall(t *testing.T) {
	w := newWorld(t,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testNamespace}},
		&corev1.PersistentVolumeClaim{ObjectMeta: object(StateClaim)},
		&corev1.Secret{ObjectMeta: object("marble-injector-webhook-certs")},
		&certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "marble-injector.mr"}},
	)
	w.apply(t, Request{Values: start(true)})
	kept := ""
	w.live = func(manifest string) ([]liveObject, error) {
		kept = manifest
		objects, err := ParseManifest(manifest)
		var all []liveObject
		for _, o := range objects {
			all = append(all, liveObject{Key: key(o), found: true})
		}
		return all, err
	}
	removed, err := w.Uninstall(t.Context(), Removal{Timeout: time.Minute}, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	// The chart does not say that the claim is to be kept (pains C8).
	if !strings.Contains(kept, "helm.sh/resource-policy: keep") {
		t.Errorf("Helm was not told to keep the claim:\n%s", kept)
	}
	want := "Deployment marblerun-coordinator, Deployment marble-injector, Secret marble-injector-webhook-certs, " +
		"CertificateSigningRequest marble-injector.mr"
	if removed.Release != ReleaseName || names(removed.Objects) != want {
		t.Errorf("got %+v", removed)
	}
	if why := removed.Left[0].Why; why != "the sealed state, which a new installation goes on with" {
		t.Errorf("the claim is left because it is %s", why)
	}
	var left []string
	for _, l := range removed.Left {
		left = append(left, l.String()+": "+l.Command)
	}
	if diff := cmp.Diff([]string{
		"PersistentVolumeClaim coordinator-pv-claim: kubectl -n mr delete pvc coordinator-pv-claim",
		"Namespace mr: kubectl delete namespace mr",
	}, left); diff != "" {
		t.Error(diff)
	}
	if last, err := w.Release(t.Context()); last != nil || err != nil {
		t.Errorf("%+v, %v", last, err)
	}

	// What is left is only the state, which is deleted if that is asked for.
	_, err = w.Uninstall(t.Context(), Removal{}, func(string) {})
	if err == nil || err.Error() != "uninstall: Release not loaded: marblerun: release: not found" ||
		!strings.Contains(api.Hint(err), "--delete-state") {
		t.Errorf("got %v, hint %q", err, api.Hint(err))
	}
	removed, err = w.Uninstall(t.Context(), Removal{DeleteState: true}, func(string) {})
	if err != nil || names(removed.Objects) != "PersistentVolumeClaim coordinator-pv-claim" || len(removed.Left) != 1 {
		t.Errorf("got %+v, %v", removed, err)
	}
	if _, err = w.Uninstall(t.Context(), Removal{DeleteState: true}, func(string) {}); err == nil ||
		strings.Contains(api.Hint(err), "sealed") {
		t.Errorf("got %v, hint %q", err, api.Hint(err))
	}
}

// Who does not wait to the end is told what was done, and nothing is said to be gone that is not.
func TestUninstallUnfinished(t *testing.T) {
	for name, test := range map[string]struct {
		timeout   time.Duration
		interrupt bool
		err, hint string
		left      int
	}{
		"timeout": {-time.Second, false, "uninstalling MarbleRun: Deployment marblerun-coordinator is being deleted, and " +
			"still there after -1s", "kubectl -n mr describe", 2},
		"Ctrl-C": {time.Minute, true, "interrupted while waiting; MarbleRun is uninstalled, and its Pods are ending",
			"kubectl -n mr get pods", 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t,
				&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testNamespace}},
				&corev1.PersistentVolumeClaim{ObjectMeta: object(StateClaim)},
				&corev1.Secret{ObjectMeta: object("marble-injector-webhook-certs")},
			)
			w.apply(t, Request{})
			w.live = func(string) ([]liveObject, error) {
				return []liveObject{{Key: Key{Kind: "Deployment", Name: "marblerun-coordinator"}, found: true, ending: true}}, nil
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			removed, err := w.Uninstall(ctx, Removal{Timeout: test.timeout, DeleteState: true}, func(step string) {
				if test.interrupt && strings.HasPrefix(step, "waiting") {
					cancel()
				}
			})
			if err == nil || err.Error() != test.err || !strings.Contains(api.Hint(err), test.hint) {
				t.Errorf("got %v, hint %q", err, api.Hint(err))
			}
			want := "Deployment marblerun-coordinator, Secret marble-injector-webhook-certs"
			if removed == nil || names(removed.Objects) != want || len(removed.Left) != test.left {
				t.Errorf("got %+v", removed)
			}
			if !w.hasClaim(t.Context()) {
				t.Error("the state is gone")
			}
		})
	}
}

func TestStateBeingDeleted(t *testing.T) {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: object(StateClaim)}
	claim.DeletionTimestamp, claim.Finalizers = &metav1.Time{Time: time.Unix(1, 0)}, []string{"x"}
	removed := &Removed{}
	if newWorld(t, claim).left(t.Context(), removed); !strings.Contains(removed.Left[0].Why, "Kubernetes deletes") {
		t.Errorf("got %+v", removed)
	}
}

// Only an API server that says so makes the state gone.
func TestStateNotKnownToBeGone(t *testing.T) {
	w := newWorld(t, &corev1.PersistentVolumeClaim{ObjectMeta: object(StateClaim)})
	w.cluster.Client.(*fake.Clientset).PrependReactor("get", "persistentvolumeclaims",
		func(kubetest.Action) (bool, runtime.Object, error) { return true, nil, errors.New("broken line") })
	removed := &Removed{}
	err := w.deleteState(t.Context(), time.Minute, removed)
	if err == nil || err.Error() != "deleting the sealed state: broken line" || len(removed.Objects) != 0 {
		t.Errorf("got %+v, %v", removed, err)
	}
}

// What is being deleted is waited for.
func TestAwaitGone(t *testing.T) {
	w := newWorld(t)
	ending := []liveObject{{Key: Key{Kind: "Deployment", Name: "d"}, found: true, ending: true}}
	w.live = func(string) ([]liveObject, error) { return ending, nil }
	var steps []string
	err := w.awaitGone(t.Context(), "", -time.Second, func(s string) { steps = append(steps, s) })
	if err == nil || !strings.HasPrefix(err.Error(), "Deployment d is being deleted, and still there") {
		t.Errorf("got %v", err)
	}
	err = w.awaitGone(t.Context(), "", time.Minute, func(s string) { steps, ending = append(steps, s), nil })
	if err != nil || len(steps) != 1 || steps[0] != "waiting for Deployment d to be gone" {
		t.Errorf("%v, %v", steps, err)
	}
}

func TestPrint(t *testing.T) {
	objects, err := ParseManifest("kind: ConfigMap\ndata: {a: b}\n---\n# comment\n---\nkind: Secret\ndata: {k: c2VjcmV0}\n" +
		"stringData: {l: secret}\n---\nkind: Service\nspec: {ports: [{port: 4444}]}\n---\nkind: Secret\n")
	if err != nil || len(objects) != 4 {
		t.Fatal(objects, err)
	}
	for _, format := range []string{"yaml", "json"} {
		data, hidden, err := objects.Print(format)
		coded := base64.StdEncoding.EncodeToString([]byte("(hidden)"))
		text := string(data)
		if err != nil || !hidden || strings.Contains(text, "secret") || strings.Contains(text, "c2VjcmV0") ||
			strings.Count(text, coded) != 1 || strings.Count(text, "(hidden)") != 1 {
			t.Errorf("%v, %v\n%s", hidden, err, text)
		}
	}
	if _, hidden, err := objects[:1].Print("yaml"); hidden || err != nil {
		t.Errorf("%v, %v", hidden, err)
	}
	if port := ServicePort(objects[2], 1); port != 4444 {
		t.Errorf("port %d", port)
	}
	if port := ServicePort(objects[0], 1); port != 1 {
		t.Errorf("port %d", port)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add("a: 1\n---\nb: 2\n")
	f.Add("---\n---\n[1]\n")
	f.Fuzz(func(t *testing.T, manifest string) {
		objects, err := ParseManifest(manifest)
		if err != nil {
			return
		}
		if _, _, err := objects.Print("yaml"); err != nil {
			t.Error(err)
		}
		objects.images()
		objects.same(objects)
	})
}
