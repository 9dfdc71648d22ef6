// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package injector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/marblerun/marblerun/test/e2e/kit"
)

// TestInjector shares one installation, with two replicas and Intel's plugin, among its parts.
func TestInjector(t *testing.T) {
	k := kit.New(t)
	in := install(k, "injector", "marbleInjector.resourceKey=sgx.intel.com/epc", "marbleInjector.replicas=2")
	in.ready()
	for _, part := range []struct {
		name string
		test func(*installation)
	}{
		{"plugins", testPlugins},
		{"pod", testPod},
		{"labels", testLabels},
		{"aesm", testAESM},
		{"statefulset", testStatefulSet},
		{"kubectl", testKubectl},
		{"reinvocation", testReinvocation},
		{"500 pods", testManyPods}, // before what leaves garbage in memory
		{"bad input", testBadInput},
		{"restart", testRestart},
		{"bundle", testBundle},
		{"secret", testSecret},
		{"rotation", testRotation},
	} {
		in.run(part.name, part.test)
	}
}

// installation is a release of the chart with its injector, which sees the Pods of one namespace only.
type installation struct {
	*kit.Kit
	ns   string // of the release
	pods string // whose Pods it sees
}

// run runs a subtest.
func (in *installation) run(name string, part func(*installation)) {
	in.TB.(*testing.T).Run(name, func(t *testing.T) {
		sub := &installation{in.Kit.With(t), in.ns, in.pods}
		t.Cleanup(func() {
			sub.ShowIfFailed(sub.ns)
			sub.ShowIfFailed(sub.pods)
		})
		part(sub)
	})
}

// hooks is the name of the MutatingWebhookConfiguration.
func (in *installation) hooks() string { return "marble-injector-" + in.ns }

// install installs the chart with values such as marbleInjector.replicas=2, without waiting. Namespaces that the injector
// is to see have the release's namespace as a label.
func install(k *kit.Kit, purpose string, values ...string) *installation {
	k.Helper()
	in := &installation{Kit: k, ns: k.Namespace(purpose)}
	in.pods = k.Namespace(purpose+"-pods", in.ns, "sees")
	args := []string{"install", "marblerun", k.Chart("marblerun"), "-n", in.ns,
		// No Coordinator is needed: none of the Pods here is activated.
		"--set", "coordinator.replicas=0", "--set", "coordinator.simulation=true", "--set", "coordinator.pvcName=none",
		"--set", "marbleInjector.start=true", "--set", "marbleInjector.reinvocationPolicy=IfNeeded",
		"--set", "marbleInjector.metrics.enabled=true",
		"--set", "marbleInjector.namespaceSelector.matchLabels." + in.ns + "=sees"}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	k.Cleanup(func() {
		k.ShowIfFailed(in.ns)
		k.Helm("uninstall", "marblerun", "-n", in.ns, "--ignore-not-found")
	})
	k.Helm(args...)
	return in
}

// ready waits until the API server reaches the injector.
func (in *installation) ready() {
	in.Helper()
	in.DeploymentReady(in.ns, "marble-injector")
	in.Eventually("the API server reaches the injector", func(ctx context.Context) error {
		pod, err := in.create(ctx, idle("probe-"), true)
		return errors.Join(err, injected(pod))
	})
}

// create creates a Pod in the namespace that the injector sees.
func (in *installation) create(ctx context.Context, pod *corev1.Pod, dryRun bool) (*corev1.Pod, error) {
	options := metav1.CreateOptions{}
	if dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	return in.Kube.CoreV1().Pods(in.pods).Create(ctx, pod, options)
}

// must is create for a Pod that nobody refuses.
func (in *installation) must(pod *corev1.Pod, dryRun bool) *corev1.Pod {
	in.Helper()
	created, err := in.create(in.Context(), pod, dryRun)
	if err != nil {
		in.Fatal(err)
	}
	return created
}

// runs is a Marble with one container that runs until it is ended, without activation: a Coordinator in simulation.
func runs(k *kit.Kit, name, marbleType string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"marblerun/marbletype": marbleType}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{runsForever(k, "main")}},
	}
}

func runsForever(k *kit.Kit, name string) corev1.Container {
	return corev1.Container{Name: name, Image: k.Image("coordinator"),
		Env: []corev1.EnvVar{{Name: "EDG_COORDINATOR_SIMULATION", Value: "1"},
			// Containers of a Pod share its ports.
			{Name: "EDG_COORDINATOR_CLIENT_ADDR", Value: ":0"}, {Name: "EDG_COORDINATOR_MESH_ADDR", Value: ":0"}}}
}

// idle is a Marble that no scheduler looks at: it exists, and costs the cluster nothing more.
func idle(prefix string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: prefix, Labels: map[string]string{"marblerun/marbletype": "web"}},
		Spec: corev1.PodSpec{SchedulerName: "e2e-nobody",
			Containers: []corev1.Container{{Name: "main", Image: "nowhere.example/none"}}},
	}
}

// injected returns an error if a container of the Pod lacks what every Marble gets.
func injected(pod *corev1.Pod) error {
	if pod == nil {
		return nil
	}
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		have := variables(c)
		for _, name := range []string{"EDG_MARBLE_COORDINATOR_ADDR", "EDG_MARBLE_TYPE", "EDG_MARBLE_DNS_NAMES",
			"EDG_MARBLE_UUID_FILE"} {
			if have[name] == "" {
				return fmt.Errorf("container %s of %s has no %s", c.Name, pod.Name, name)
			}
		}
	}
	return nil
}

// variables are a container's, by name; those without a literal value are shown as "from …".
func variables(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, e := range c.Env {
		if all[e.Name] = e.Value; e.ValueFrom != nil {
			all[e.Name] = "from " + e.ValueFrom.FieldRef.FieldPath
		}
	}
	return all
}

// mounts are a container's: path and volume, with the volume of the UUID, whose name is random, as "uuid".
func mounts(c corev1.Container) map[string]string {
	all := map[string]string{}
	for _, m := range c.VolumeMounts {
		if strings.HasPrefix(m.MountPath, "/var/run/secrets/kubernetes.io") {
			continue // every Pod's
		}
		if all[m.MountPath] = m.Name; strings.HasPrefix(m.Name, "uuid-file-") {
			all[m.MountPath] = "uuid"
		}
	}
	return all
}

func limits(c corev1.Container) map[string]string {
	all := map[string]string{}
	for name, amount := range c.Resources.Limits {
		all[string(name)] = amount.String()
	}
	return all
}

// tolerations are the Pod's that are about extended resources.
func tolerations(pod *corev1.Pod) (all []string) {
	for _, t := range pod.Spec.Tolerations {
		if !strings.HasPrefix(t.Key, "node.kubernetes.io/") {
			all = append(all, fmt.Sprintf("%s %s %s", t.Key, t.Operator, t.Effect))
		}
	}
	return all
}

// uuidVolumes are the fields of the Pod that its UUID volumes show.
func uuidVolumes(pod *corev1.Pod) (fields []string) {
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, "uuid-file-") {
			fields = append(fields, v.DownwardAPI.Items[0].FieldRef.FieldPath)
		}
	}
	return fields
}
