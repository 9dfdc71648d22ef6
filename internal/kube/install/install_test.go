// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package install

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/action"
	chartcommon "helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	kubefake "helm.sh/helm/v4/pkg/kube/fake"
	"helm.sh/helm/v4/pkg/release/common"
	"helm.sh/helm/v4/pkg/storage"
	"helm.sh/helm/v4/pkg/storage/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/marblerun/marblerun/api"
	"github.com/marblerun/marblerun/internal/kube/cluster"
)

const testNamespace = "mr"

const deployment = `kind: Deployment
apiVersion: apps/v1
metadata: {name: marblerun-coordinator, namespace: {{ .Release.Namespace }}}
spec: {template: {spec: {containers: [{name: coordinator, image: "c:{{ .Values.coordinator.version }}"}]}}}
`

const claimTemplate = `kind: PersistentVolumeClaim
apiVersion: v1
metadata: {name: coordinator-pv-claim, namespace: {{ .Release.Namespace }}}
`

const injectorTemplate = `{{ if .Values.marbleInjector.start }}
kind: Deployment
apiVersion: apps/v1
metadata: {name: marble-injector, namespace: {{ .Release.Namespace }}}
{{ end }}`

// testChart is small; the objects of the real one are looked at where there is a cluster (test/e2e).
func testChart(version string) *chart.Chart {
	file := func(name, text string) *chartcommon.File { return &chartcommon.File{Name: name, Data: []byte(text)} }
	return &chart.Chart{
		Metadata: &chart.Metadata{APIVersion: "v2", Name: "marblerun", Version: version},
		Values: map[string]any{"coordinator": map[string]any{"version": "v1", "simulation": false},
			"marbleInjector": map[string]any{"start": false}},
		Templates: []*chartcommon.File{file("templates/a.yaml", deployment), file("templates/b.yaml", claimTemplate),
			file("templates/c.yaml", injectorTemplate)},
	}
}

// world is an Installer on a cluster that consists of the objects that were applied last.
type world struct {
	*Installer
	// foreign are objects of others, by kind and name; drifted were changed by others; refused is the API server's answer.
	foreign map[string]liveObject
	gone    map[string]bool
	drifted []Key
	refused error
	checked []string
}

func newWorld(t *testing.T, objects ...runtime.Object) *world {
	t.Helper()
	memory := driver.NewMemory()
	memory.SetNamespace(testNamespace)
	config := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	config.Releases, config.Capabilities = storage.Init(memory), chartcommon.DefaultCapabilities.Copy()
	config.KubeClient = &kubefake.PrintingKubeClient{Out: io.Discard}
	w := &world{foreign: map[string]liveObject{}, gone: map[string]bool{}}
	w.Installer = &Installer{
		cluster: &cluster.Cluster{Namespace: testNamespace, Client: fake.NewSimpleClientset(objects...)},
		config:  config, now: time.Now, live: w.readLive,
		drift: func(*Plan) ([]Key, error) { return w.drifted, nil },
		validate: func(manifest string) error {
			w.checked = append(w.checked, manifest)
			return w.refused
		},
	}
	return w
}

// readLive finds the objects of the latest release.
func (w *world) readLive(manifest string) ([]liveObject, error) {
	var all []liveObject
	history, err := w.history(context0)
	if err != nil {
		return nil, err
	}
	present := Objects{}
	if last := deployed(history); last != nil {
		if present, err = ParseManifest(last.Manifest); err != nil {
			return nil, err
		}
	}
	objects, err := ParseManifest(manifest)
	for _, o := range objects {
		object := liveObject{Key: key(o)}
		if present.find(o.GetKind(), o.GetName()) != nil && !w.gone[o.GetName()] {
			object.found, object.release, object.namespace = true, history[len(history)-1].Name, testNamespace
		}
		if other, found := w.foreign[object.String()]; found {
			object.found, object.release, object.namespace = true, other.release, other.namespace
		}
		all = append(all, object)
	}
	return all, err
}

func (w *world) plan(t *testing.T, r Request) *Plan {
	t.Helper()
	if r.Chart == nil {
		r.Chart = testChart("1.0.0")
	}
	p, err := w.Plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) apply(t *testing.T, r Request) *Plan {
	t.Helper()
	p := w.plan(t, r)
	if err := w.Apply(t.Context(), p, func(string) {}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) status(t *testing.T) (status common.Status, revision int) {
	t.Helper()
	last, err := w.Release(t.Context())
	if err != nil || last == nil {
		t.Fatal(last, err)
	}
	return last.Info.Status, last.Version
}

func names(keys []Key) string {
	var all []string
	for _, k := range keys {
		all = append(all, k.String())
	}
	return strings.Join(all, ", ")
}

func start(on bool) map[string]any {
	return map[string]any{"marbleInjector": map[string]any{"start": on}}
}

func TestInstall(t *testing.T) {
	w := newWorld(t)
	p := w.apply(t, Request{Values: start(true)})
	if !p.Fresh || p.Nothing || !p.CreateNamespace || p.Revision != 1 || len(p.Changes) > 0 ||
		names(p.Create) != "Deployment marble-injector, Deployment marblerun-coordinator, PersistentVolumeClaim coordinator-pv-claim" {
		t.Errorf("got %+v", p)
	}
	namespace, err := w.cluster.Client.CoreV1().Namespaces().Get(t.Context(), testNamespace, metav1.GetOptions{})
	if err != nil || len(namespace.Labels) > 0 {
		t.Errorf("namespace %+v, %v", namespace, err)
	}
	if status, revision := w.status(t); status != common.StatusDeployed || revision != 1 {
		t.Errorf("%s, revision %d", status, revision)
	}
	if len(p.Parts()) != 2 {
		t.Errorf("parts %+v", p.Parts())
	}

	// The same again is nothing to do.
	p = w.apply(t, Request{Values: start(true)})
	if !p.Nothing || p.CreateNamespace {
		t.Errorf("got %+v", p)
	}
	if _, revision := w.status(t); revision != 1 {
		t.Errorf("revision %d", revision)
	}

	// Other flags are other values, and what is not given is gone.
	p = w.apply(t, Request{Values: map[string]any{"coordinator": map[string]any{"version": "v2"}}})
	want := []string{"image of marblerun-coordinator/coordinator: c:v1 → c:v2",
		"values: coordinator.version, marbleInjector.start"}
	if diff := cmp.Diff(want, p.Changes); diff != "" {
		t.Error(diff)
	}
	if names(p.Change) != "Deployment marblerun-coordinator" || names(p.Delete) != "Deployment marble-injector" ||
		len(p.Parts()) != 1 {
		t.Errorf("got %+v", p)
	}
	if status, revision := w.status(t); status != common.StatusDeployed || revision != 2 {
		t.Errorf("%s, revision %d", status, revision)
	}

	// An upgrade keeps them.
	p = w.apply(t, Request{Chart: testChart("1.1.0"), Values: start(true), Reuse: true, MustExist: true})
	if diff := cmp.Diff([]string{"chart 1.0.0 → 1.1.0", "values: marbleInjector.start"}, p.Changes); diff != "" {
		t.Error(diff)
	}
	if p = w.plan(t, Request{Chart: testChart("1.1.0"), Reuse: true}); !p.Nothing {
		t.Errorf("got %+v", p)
	}
}

// What others deleted or changed is mended.
func TestRepairOfObjects(t *testing.T) {
	w := newWorld(t)
	w.apply(t, Request{})
	w.gone["marblerun-coordinator"] = true
	if p := w.plan(t, Request{}); p.Nothing || p.Repair != "missing in the cluster: Deployment marblerun-coordinator" {
		t.Errorf("got %+v", p)
	}
	w.gone = nil
	w.drifted = []Key{{Kind: "Deployment", Name: "marblerun-coordinator"}}
	p := w.apply(t, Request{})
	if p.Nothing || p.Repair != "changed in the cluster: Deployment marblerun-coordinator" ||
		names(p.Change) != "Deployment marblerun-coordinator" {
		t.Errorf("got %+v", p)
	}
	if status, revision := w.status(t); status != common.StatusDeployed || revision != 2 {
		t.Errorf("%s, revision %d", status, revision)
	}
}

// A release in whatever state is finished by installing again.
func TestRepairOfRelease(t *testing.T) {
	for _, status := range []common.Status{
		common.StatusFailed, common.StatusPendingInstall, common.StatusPendingUpgrade, common.StatusPendingRollback,
		common.StatusUninstalling, common.StatusUnknown, common.StatusUninstalled,
	} {
		for _, earlier := range []bool{false, true} {
			w := newWorld(t)
			w.apply(t, Request{Values: start(true)})
			if earlier {
				w.apply(t, Request{Values: start(false)})
			}
			w.set(t, status, time.Hour)
			p := w.apply(t, Request{Values: start(true)})
			if p.Nothing || (p.Repair == "") != (status == common.StatusUninstalled) {
				t.Errorf("%s: %+v", status, p)
			}
			now, _ := w.status(t)
			if now != common.StatusDeployed {
				t.Errorf("%s: now %s", status, now)
			}
			if p := w.plan(t, Request{Values: start(true)}); !p.Nothing {
				t.Errorf("%s: %+v", status, p)
			}
		}
	}
}

// set changes the last revision's status, as of some time ago.
func (w *world) set(t *testing.T, status common.Status, ago time.Duration) {
	t.Helper()
	last, err := w.Release(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last.Info.Status, last.Info.LastDeployed = status, time.Now().Add(-ago)
	if err := w.config.Releases.Update(last); err != nil {
		t.Fatal(err)
	}
}

// A change that somebody else has just begun is not disturbed.
func TestUnderWay(t *testing.T) {
	w := newWorld(t)
	w.apply(t, Request{})
	w.set(t, common.StatusPendingUpgrade, time.Minute)
	_, err := w.Plan(t.Context(), Request{Chart: testChart("1.0.0")})
	if err == nil || !strings.Contains(err.Error(), "is under way since 1m0s (pending-upgrade)") ||
		!strings.Contains(api.Hint(err), "--force") {
		t.Errorf("got %v, hint %q", err, api.Hint(err))
	}
	w.apply(t, Request{Force: true})
	if status, _ := w.status(t); status != common.StatusDeployed {
		t.Errorf("now %s", status)
	}
}

func TestGuards(t *testing.T) {
	simulation := map[string]any{"coordinator": map[string]any{"simulation": "1"}}
	for name, test := range map[string]struct {
		to      *chart.Chart
		values  map[string]any
		refused string
	}{
		"older chart":     {testChart("0.9.0"), nil, "chart 0.9.0 is older than the installed 1.0.0"},
		"other platform":  {testChart("1.0.0"), simulation, "the Coordinator would change from sgx to simulation"},
		"same simulation": {testChart("1.0.0"), map[string]any{"coordinator": map[string]any{"simulation": "0"}}, ""},
		"other TEE": {testChart("1.0.0"), map[string]any{"coordinator": map[string]any{"tee": "tdx"}},
			"from sgx to tdx"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(t, Request{})
			_, err := w.Plan(t.Context(), Request{Chart: test.to, Values: test.values})
			if test.refused == "" && err != nil {
				t.Error(err)
			}
			if test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused) ||
				!strings.Contains(api.Hint(err), "--force")) {
				t.Errorf("got %v, hint %q", err, api.Hint(err))
			}
			w.apply(t, Request{Chart: test.to, Values: test.values, Force: true})
		})
	}
	_, err := newWorld(t).Plan(t.Context(), Request{Chart: testChart("1.0.0"), MustExist: true})
	if err == nil || err.Error() != "MarbleRun is not installed in namespace mr" {
		t.Errorf("got %v", err)
	}
}

// A release of that name may be something else.
func TestOtherChart(t *testing.T) {
	w := newWorld(t)
	run := action.NewInstall(w.config)
	run.ReleaseName, run.Namespace = ReleaseName, testNamespace
	other := testChart("1.0.0")
	other.Metadata.Name = "other"
	if _, err := run.Run(other, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	_, err := w.Plan(t.Context(), Request{Chart: testChart("1.0.0")})
	if err == nil || err.Error() != `release marblerun in namespace mr is of chart "other"` || api.Hint(err) == "" {
		t.Errorf("got %v", err)
	}
}

// Objects of others are not touched; those that nobody owns any more are taken over.
func TestOwnership(t *testing.T) {
	claim := "PersistentVolumeClaim coordinator-pv-claim"
	for name, test := range map[string]struct {
		object  string
		owner   liveObject
		refused string
		adopt   bool
	}{
		"by hand": {"Deployment marblerun-coordinator", liveObject{}, "exists and was not made by Helm", false},
		"other release": {claim, liveObject{release: "x", namespace: "elsewhere"},
			"exists and belongs to Helm release x in namespace elsewhere", false},
		"gone release":   {claim, liveObject{release: "marblerun-coordinator", namespace: testNamespace}, "", true},
		"claim by hand":  {claim, liveObject{}, "", true},
		"our kept claim": {claim, liveObject{release: "marblerun", namespace: testNamespace}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.foreign[test.object] = test.owner
			p, err := w.Plan(t.Context(), Request{Chart: testChart("1.0.0")})
			if test.refused == "" {
				if err != nil || p.adopt != test.adopt {
					t.Errorf("got %+v, %v", p, err)
				}
			} else if err == nil || err.Error() != test.object+" "+test.refused || api.Hint(err) == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The API server is asked before anything is changed.
func TestRefused(t *testing.T) {
	w := newWorld(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: testNamespace}})
	w.refused = errors.New("not like this")
	p := w.plan(t, Request{})
	err := w.Apply(t.Context(), p, func(string) {})
	if err == nil || !strings.Contains(err.Error(), "the API server refuses the objects: not like this") {
		t.Errorf("got %v", err)
	}
	if last, err := w.Release(t.Context()); last != nil || err != nil {
		t.Errorf("a release was made: %+v, %v", last, err)
	}
	if _, err := w.Check(p); err == nil {
		t.Error("the check passed")
	}
	w.refused = errors.New(`PersistentVolumeClaim "coordinator-pv-claim" is invalid: spec is immutable`)
	if err := w.Apply(t.Context(), p, func(string) {}); !strings.Contains(api.Hint(err), "coordinator.storageClass") {
		t.Errorf("got %v, hint %q", err, api.Hint(err))
	}
}

// Objects for a namespace that does not exist yet are checked in another.
func TestCheckWithoutNamespace(t *testing.T) {
	w := newWorld(t)
	note, err := w.Check(w.plan(t, Request{}))
	if err != nil || !strings.Contains(note, "as if they were for namespace default") ||
		strings.Count(w.checked[0], "namespace: default\n") != 2 || strings.Contains(w.checked[0], "namespace: mr\n") {
		t.Errorf("%q, %v\n%v", note, err, w.checked)
	}
}

// The release of guides for Helm is found, and its chart keeps its name, which decides over defaults.
func TestOldName(t *testing.T) {
	w := newWorld(t)
	run := action.NewInstall(w.config)
	run.ReleaseName, run.Namespace = OldReleaseName, testNamespace
	old := testChart("1.0.0")
	old.Metadata.Name = OldReleaseName
	if _, err := run.Run(old, map[string]any{}); err != nil {
		t.Fatal(err)
	}
	p := w.apply(t, Request{Chart: testChart("1.1.0"), Reuse: true, MustExist: true})
	last, err := w.Release(t.Context())
	if err != nil || p.Release != OldReleaseName || last.Chart.Metadata.Name != OldReleaseName || last.Version != 2 {
		t.Errorf("got %+v, %v", p, err)
	}
	if parts, found, err := w.Parts(t.Context()); err != nil || !found || len(parts) != 1 {
		t.Errorf("%+v, %v, %v", parts, found, err)
	}
}
