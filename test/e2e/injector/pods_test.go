// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"maps"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

var plenty = map[string]string{"sgx.intel.com/epc": "200Mi", "sgx.intel.com/enclave": "20", "sgx.intel.com/provision": "20"}

// testPod: an init container and two containers, one of which knows better; the Pod runs.
func testPod(in *installation) {
	in.FakeResources(plenty)
	pod := runs(in.Kit, "several", "Web")
	pod.Spec.InitContainers = []corev1.Container{{Name: "first", Image: in.Image("marble-injector"), Args: []string{"-h"}}}
	second := runsForever(in.Kit, "second")
	second.Env = append(second.Env, corev1.EnvVar{Name: "EDG_MARBLE_TYPE", Value: "other"},
		corev1.EnvVar{Name: "EDG_MARBLE_COORDINATOR_ADDR", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.hostIP"}}})
	pod.Spec.Containers = append(pod.Spec.Containers, second)
	in.must(pod, false)
	got := in.PodIs(in.pods, "several", "runs", kit.Ready)

	names := "web,web." + in.pods + ",web." + in.pods + ".svc.cluster.local"
	added := map[string]string{"EDG_MARBLE_COORDINATOR_ADDR": "coordinator-mesh-api." + in.ns + ":2001",
		"EDG_MARBLE_TYPE": "Web", "EDG_MARBLE_DNS_NAMES": names, "EDG_MARBLE_UUID_FILE": "/Web-uid/uuid-file"}
	running := variables(runsForever(in.Kit, ""))
	own := map[string]string{"EDG_MARBLE_COORDINATOR_ADDR": "from status.hostIP", "EDG_MARBLE_TYPE": "other"}
	for _, one := range []struct {
		container corev1.Container
		want      []map[string]string
	}{
		{got.Spec.InitContainers[0], []map[string]string{added}},
		{got.Spec.Containers[0], []map[string]string{added, running}},
		{got.Spec.Containers[1], []map[string]string{added, running, own}},
	} {
		want := map[string]string{}
		for _, m := range one.want {
			maps.Copy(want, m)
		}
		if diff := cmp.Diff(want, variables(one.container)); diff != "" {
			in.Errorf("%s: %s", one.container.Name, diff)
		}
		if diff := cmp.Diff(map[string]string{"/Web-uid": "uuid"}, mounts(one.container)); diff != "" {
			in.Errorf("%s: %s", one.container.Name, diff)
		}
		if diff := cmp.Diff("10Mi", limits(one.container)["sgx.intel.com/epc"]); diff != "" {
			in.Errorf("%s: %s", one.container.Name, diff)
		}
	}
	for i, e := range second.Env {
		if name := got.Spec.Containers[1].Env[i].Name; name != e.Name {
			in.Errorf("variable %d was %s and is %s", i, e.Name, name)
		}
	}
	if fields := uuidVolumes(got); len(fields) != 1 || fields[0] != "metadata.uid" {
		in.Errorf("UUID volumes of %v", fields)
	}
}

// testLabels: labels and annotations that change what is done, as far as the API server is concerned.
func testLabels(in *installation) {
	two := idle("labels-")
	two.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "nowhere.example/none"}}
	two.Spec.Containers = append(two.Spec.Containers, corev1.Container{Name: "side", Image: "nowhere.example/none"})

	one := two.DeepCopy()
	one.Labels["marblerun/marblecontainer"] = "side"
	got := in.must(one, true)
	if len(got.Spec.InitContainers[0].Env)+len(got.Spec.Containers[0].Env) != 0 || len(got.Spec.Containers[1].Env) != 4 {
		in.Errorf("not only the container side was changed: %+v", got.Spec.Containers)
	}

	plain := two.DeepCopy()
	plain.Labels["marblerun/resource-injection"] = "disabled"
	got = in.must(plain, true)
	if l := limits(got.Spec.Containers[0]); len(l)+len(tolerations(got)) != 0 || injected(got) != nil {
		in.Errorf("with resource injection disabled: limits %v, tolerations %v, %v", l, tolerations(got), injected(got))
	}

	stranger := two.DeepCopy()
	stranger.Labels = map[string]string{"app": "something"}
	got = in.must(stranger, true)
	if n := len(got.Spec.Containers[0].Env); n+len(tolerations(got))+len(uuidVolumes(got)) != 0 {
		in.Errorf("a Pod without the label was changed: %+v", got.Spec)
	}
}

// testAESM: the socket of the node's AESM service, Intel's annotation, and no provisioning device.
func testAESM(in *installation) {
	in.FakeResources(plenty)
	pod := runs(in.Kit, "aesm", "web")
	pod.Annotations = map[string]string{"marblerun/attestation": "out-of-process"}
	in.must(pod, false)
	got := in.PodIs(in.pods, "aesm", "runs", kit.Ready)
	c := got.Spec.Containers[0]
	if variables(c)["SGX_AESM_ADDR"] != "1" || mounts(c)["/var/run/aesmd"] != "aesmd-socket" {
		in.Errorf("variables %v, mounts %v", variables(c), mounts(c))
	}
	if diff := cmp.Diff(map[string]string{"sgx.intel.com/epc": "10Mi", "sgx.intel.com/enclave": "1"}, limits(c)); diff != "" {
		in.Error(diff)
	}
	if provider := got.Annotations["sgx.intel.com/quote-provider"]; provider != "aesmd" {
		in.Errorf("Intel's annotation is %q", provider)
	}
	path := ""
	for _, v := range got.Spec.Volumes {
		if v.Name == "aesmd-socket" && v.HostPath != nil {
			path = v.HostPath.Path
		}
	}
	if path != "/var/run/aesmd" {
		in.Errorf("the volume is of the node's %q", path)
	}
}

// testStatefulSet: with marblerun/uuid: stable, the Pod that takes a deleted one's place is the same Marble.
func testStatefulSet(in *installation) {
	in.FakeResources(plenty)
	template := runs(in.Kit, "", "db")
	template.Labels["app"], template.Annotations = "db", map[string]string{"marblerun/uuid": "stable"}
	_, err := in.Kube.AppsV1().StatefulSets(in.pods).Create(in.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: template.ObjectMeta, Spec: template.Spec}},
	}, metav1.CreateOptions{})
	if err != nil {
		in.Fatal(err)
	}
	before := in.PodIs(in.pods, "db-0", "runs", kit.Ready)
	in.Kubectl("-n", in.pods, "delete", "pod", "db-0")
	after := in.PodIs(in.pods, "db-0", "runs again", kit.Ready)
	uuid := after.Annotations["marblerun/uuid"]
	if before.UID == after.UID || uuid != before.Annotations["marblerun/uuid"] || len(uuid) != 36 {
		in.Errorf("Pod %s had UUID %s, Pod %s has %s", before.UID, before.Annotations["marblerun/uuid"], after.UID, uuid)
	}
	if fields := uuidVolumes(after); len(fields) != 1 || fields[0] != "metadata.annotations['marblerun/uuid']" {
		in.Errorf("UUID volumes of %v", fields)
	}
	in.run("file", func(in *installation) { testUUIDFile(in, after) })
}

// testUUIDFile: the container finds the UUID in its file.
func testUUIDFile(in *installation, pod *corev1.Pod) {
	in.NodeOnly()
	files, err := filepath.Glob("/var/lib/kubelet/pods/" + string(pod.UID) +
		"/volumes/kubernetes.io~downward-api/uuid-file-*/uuid-file")
	if err != nil || len(files) != 1 {
		in.Fatalf("files %v, %v", files, err)
	}
	if text, err := os.ReadFile(files[0]); err != nil || string(text) != pod.Annotations["marblerun/uuid"] {
		in.Errorf("the container reads the UUID %q, %v", text, err)
	}
}

const aPod = `
apiVersion: v1
kind: Pod
metadata:
  name: NAME
  labels: {LABELS}
  annotations: {ANNOTATIONS}
spec:
  schedulerName: e2e-nobody
  containers: [{name: main, image: nowhere.example/none}]
`

// testKubectl: people see warnings and refusals.
func testKubectl(in *installation) {
	text := func(name, labels, annotations string) string {
		return strings.NewReplacer("NAME", name, "LABELS", labels, "ANNOTATIONS", annotations).Replace(aPod)
	}
	out := in.Apply(in.pods, text("warned", "marblerun/marbletype: My_Web, marblerun/marblecontainer: web, "+
		"marblerun/resource-injection: no-thanks", ""))
	for _, want := range []string{
		`Warning: Marble type "My_Web" is not a DNS label: the Marble's DNS names begin with "my-web"`,
		`Warning: label marblerun/resource-injection: "no-thanks" is not known and ignored; did you mean disabled?`,
		`Warning: label marblerun/marblecontainer: there is no container "web", so none was changed`,
	} {
		if !strings.Contains(out.Stderr, want) {
			in.Errorf("kubectl does not show %s:\n%s", want, out.Stderr)
		}
	}
	for _, c := range []struct {
		labels, annotations string
		says                []string
	}{
		{`marblerun/marbletype: ""`, "", []string{"Empty [marblerun/marbletype] label, request denied"}},
		{"marblerun/marbletype: web", `marblerun/sgx-epc: "32", marblerun/attestation: remote, marblerun/uuid: mine`, []string{
			"Invalid [marblerun/sgx-epc] annotation: ", "did you mean 32Mi?", "want in-process or out-of-process",
			"want pod, stable or a UUID"}},
	} {
		out := in.ApplyFails(in.pods, text("refused", c.labels, c.annotations))
		for _, want := range append(c.says, `admission webhook "`+in.hooks()+`.cluster.local" denied the request`) {
			if !strings.Contains(out.Stderr, want) {
				in.Errorf("kubectl does not say %q:\n%s", want, out.Stderr)
			}
		}
	}
}
