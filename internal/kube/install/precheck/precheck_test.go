// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package precheck_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/meta/testrestmapper"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
	fakediscovery "k8s.io/client-go/discovery/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	kubetest "k8s.io/client-go/testing"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/charts"
	"github.com/marblerun/marblerun/internal/kube/cluster"
	"github.com/marblerun/marblerun/internal/kube/install"
	"github.com/marblerun/marblerun/internal/kube/install/precheck"
	"github.com/marblerun/marblerun/internal/kube/install/source"
)

// check runs the checks on a fake cluster on which the user may do what may says, and returns them as lines.
func check(t *testing.T, gitVersion string, may func(verb, resource, namespace string) bool,
	objects ...runtime.Object) (*precheck.Report, []string) {
	t.Helper()
	return checkAndTry(t, gitVersion, nil, may, objects...)
}

// checkAndTry also has the objects checked.
func checkAndTry(t *testing.T, gitVersion string, dryRun func(context.Context) error,
	may func(verb, resource, namespace string) bool, objects ...runtime.Object) (*precheck.Report, []string) {
	t.Helper()
	client := fake.NewSimpleClientset(objects...)
	client.Discovery().(*fakediscovery.FakeDiscovery).FakedServerVersion = &version.Info{GitVersion: gitVersion}
	client.PrependReactor("create", "selfsubjectaccessreviews", func(a kubetest.Action) (bool, runtime.Object, error) {
		review := a.(kubetest.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
		r := review.Spec.ResourceAttributes
		review.Status.Allowed = may(r.Verb, r.Resource, r.Namespace)
		return true, review, nil
	})
	client.PrependReactor("list", "*", func(a kubetest.Action) (bool, runtime.Object, error) {
		r := a.GetResource().Resource
		if may("list", r, a.GetNamespace()) {
			return false, nil, nil
		}
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: r}, "", errors.New("no"))
	})
	c := &cluster.Cluster{Namespace: "mr", Client: client, Access: &cluster.Access{}}
	installer, err := install.New(c, "memory")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := source.FromFS(charts.Files())
	if err != nil {
		t.Fatal(err)
	}
	mapper := func() (meta.RESTMapper, error) { return testrestmapper.TestOnlyStaticRESTMapper(scheme.Scheme), nil }
	p := precheck.Prechecker{Cluster: c, Installer: installer, Chart: chart, Mapper: mapper, DryRun: dryRun}
	report, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range report.Checks {
		lines = append(lines, string(c.Status)+" "+c.Name+": "+c.Text)
	}
	return report, lines
}

func everything(string, string, string) bool { return true }

func defaultClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{
		Name: "fast", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"},
	}}
}

func TestAllIsWell(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	node.Status.Capacity = corev1.ResourceList{cluster.AzureEPC: resource.MustParse("28")}
	other := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "marblerun-coordinator", Namespace: "elsewhere",
		Labels: map[string]string{"app.kubernetes.io/part-of": "marblerun", "app.kubernetes.io/name": "coordinator"}}}
	class := func(name string) *nodev1.RuntimeClass {
		return &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: name}
	}
	report, lines := check(t, "v1.35.1", everything, node, other, defaultClass(), class("kata-qemu-snp"),
		class("kata-qemu-tdx"), class("runc"))
	want := []string{
		"ok Kubernetes: v1.35.1",
		"ok Permissions: enough to install",
		"ok Storage: default StorageClass fast",
		"ok Confidential VMs: runtime classes kata-qemu-snp (--tee sev-snp), kata-qemu-tdx (--tee tdx)",
		"ok Namespace mr: has no MarbleRun yet",
		"ok Other namespaces: MarbleRun is in elsewhere",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if !report.Installable || len(report.SGX.Nodes) != 1 || report.SGXError != "" {
		t.Errorf("got %+v", report)
	}
}

func TestProblems(t *testing.T) {
	report, lines := check(t, "v1.12.0", everything, &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "slow"}})
	if report.Installable || !strings.HasPrefix(lines[0], "problem Kubernetes: v1.12.0, but the chart needs at least ") ||
		!slices.Contains(lines, "problem Storage: no default StorageClass, and no PersistentVolume that fits") {
		t.Errorf("got %q", lines)
	}
	for _, c := range report.Checks {
		if c.Name == "Storage" && !strings.Contains(c.Hint, "there are slow") {
			t.Errorf("hint %q", c.Hint)
		}
	}
}

// Who may do all in the namespace can install without the injector.
func TestNamespaceAdmin(t *testing.T) {
	may := func(_, _, namespace string) bool { return namespace == "mr" }
	report, lines := check(t, "v1.35.1", may, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mr"}})
	want := []string{
		"ok Kubernetes: v1.35.1",
		"problem Permissions: missing: get, create, patch, delete clusterroles.rbac.authorization.k8s.io (of the cluster); " +
			"get, create, patch, delete clusterrolebindings.rbac.authorization.k8s.io (of the cluster); " +
			"get, create, patch, delete mutatingwebhookconfigurations.admissionregistration.k8s.io (of the cluster)",
		"unknown Storage: no permission to look",
		"unknown Confidential VMs: no permission to look",
		"ok Namespace mr: has no MarbleRun yet",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if report.Installable || report.SGXError == "" || !strings.Contains(report.Checks[1].Hint,
		"--disable-auto-injection") {
		t.Errorf("got %+v", report)
	}
}

// Quotas and admission rules show only when the objects are tried: in the namespace, with permissions.
func TestObjects(t *testing.T) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "mr"}}
	quota := api.WithHint(errors.New("exceeded quota"), "Ask for more.")
	for name, test := range map[string]struct {
		objects []runtime.Object
		may     func(verb, resource, namespace string) bool
		err     error
		want    string
	}{
		"taken":         {[]runtime.Object{namespace}, everything, nil, "ok Objects: the API server would take them"},
		"refused":       {[]runtime.Object{namespace}, everything, quota, "problem Objects: exceeded quota"},
		"no namespace":  {nil, everything, quota, ""},
		"no permission": {[]runtime.Object{namespace}, func(_, _, ns string) bool { return ns == "mr" }, quota, ""},
	} {
		dryRun := func(context.Context) error { return test.err }
		report, lines := checkAndTry(t, "v1.35.1", dryRun, test.may, append(test.objects, defaultClass())...)
		last := lines[len(lines)-1]
		if test.want != "" && last != test.want || test.want == "" && strings.Contains(last, "Objects") {
			t.Errorf("%s: %q", name, lines)
		}
		if test.want != "" && (report.Installable != (test.err == nil) ||
			report.Checks[len(lines)-1].Hint != api.Hint(test.err)) {
			t.Errorf("%s: %+v", name, report)
		}
	}
}

// Without the namespace, creating it is needed, too.
func TestMissingNamespace(t *testing.T) {
	may := func(verb, resource, _ string) bool { return resource != "namespaces" }
	_, lines := check(t, "v1.35.1", may, defaultClass())
	if lines[1] != "problem Permissions: missing: create namespaces (of the cluster)" {
		t.Errorf("got %q", lines)
	}
}

func TestStorage(t *testing.T) {
	volume := func(size, class string, phase corev1.PersistentVolumePhase) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: "v"}, Status: corev1.PersistentVolumeStatus{Phase: phase},
			Spec: corev1.PersistentVolumeSpec{
				StorageClassName: class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			},
		}
	}
	claim := func(phase corev1.PersistentVolumeClaimPhase) *corev1.PersistentVolumeClaim {
		return &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: install.StateClaim, Namespace: "mr"},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: phase},
		}
	}
	for name, test := range map[string]struct {
		object runtime.Object
		want   string
	}{
		"volume": {volume("256Mi", "", corev1.VolumeAvailable),
			"ok Storage: no default StorageClass, but PersistentVolume v fits"},
		"small volume": {volume("9Mi", "", corev1.VolumeAvailable), "problem "},
		"taken volume": {volume("1Gi", "", corev1.VolumeBound), "problem "},
		"of a class":   {volume("1Gi", "x", corev1.VolumeAvailable), "problem "},
		"bound":        {claim(corev1.ClaimBound), "ok Storage: the claim of the state is bound already"},
		"pending":      {claim(corev1.ClaimPending), "problem "},
	} {
		_, lines := check(t, "v1.35.1", everything, test.object)
		if !strings.HasPrefix(lines[2], test.want) {
			t.Errorf("%s: %q", name, lines[2])
		}
	}
}
