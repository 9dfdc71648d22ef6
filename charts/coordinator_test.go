// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
)

const (
	componentLabel = "edgeless.systems/control-plane-component"
	namespaceLabel = "edgeless.systems/control-plane-ns"
)

func coordinator(t *testing.T, i installation) *appsv1.Deployment {
	t.Helper()
	return object[appsv1.Deployment](t, i, "Deployment/marblerun-coordinator")
}

func container(t *testing.T, d *appsv1.Deployment) corev1.Container {
	t.Helper()
	if n := len(d.Spec.Template.Spec.Containers); n != 1 {
		t.Fatalf("%s has %d containers", d.Name, n)
	}
	return d.Spec.Template.Spec.Containers[0]
}

// env returns a variable's value and whether it is there.
func env(c corev1.Container, name string) (string, bool) {
	at := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	if at < 0 {
		return "", false
	}
	return c.Env[at].Value, true
}

func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// The selector cannot change in an upgrade, and the documented command for logs relies on the labels.
func TestCoordinatorLabels(t *testing.T) {
	plane := map[string]string{componentLabel: "coordinator", namespaceLabel: namespace}
	pod := map[string]string{
		"app.kubernetes.io/component": "coordinator", "app.kubernetes.io/created-by": "Helm",
		"app.kubernetes.io/name": "coordinator", "app.kubernetes.io/part-of": "marblerun",
		"app.kubernetes.io/version": "v0.1.0", componentLabel: "coordinator", namespaceLabel: namespace,
	}
	d := coordinator(t, sets())
	equal(t, "selector", plane, d.Spec.Selector.MatchLabels)
	equal(t, "labels of the Pod", pod, d.Spec.Template.Labels)
	all := map[string]string{"helm.sh/chart": "marblerun-0.1.0", "app.kubernetes.io/managed-by": "Helm"}
	for key, value := range pod {
		all[key] = value
	}
	equal(t, "labels of the Deployment", all, d.Labels)
	for _, id := range []string{"Service/coordinator-client-api", "Service/coordinator-mesh-api"} {
		equal(t, id, plane, object[corev1.Service](t, sets(), id).Spec.Selector)
	}
	d = coordinator(t, sets("coordinator.version=v7", "global.createdBy=me", "global.podLabels.team=a",
		"global.podAnnotations.note=n", "global.coordinatorComponentLabel=example.com/part"))
	equal(t, "version", "v7", d.Labels["app.kubernetes.io/version"])
	equal(t, "created-by", "me", d.Labels["app.kubernetes.io/created-by"])
	equal(t, "podLabels", "a", d.Spec.Template.Labels["team"])
	equal(t, "podAnnotations", "n", d.Spec.Template.Annotations["note"])
	equal(t, "key", "coordinator", d.Spec.Selector.MatchLabels["example.com/part"])
}

func TestCoordinatorEnvironment(t *testing.T) {
	const names = "localhost,coordinator-mesh-api,coordinator-client-api," +
		"coordinator-mesh-api.marblerun,coordinator-client-api.marblerun," +
		"coordinator-mesh-api.marblerun.svc.cluster.local,coordinator-client-api.marblerun.svc.cluster.local"
	equal(t, "variables", []corev1.EnvVar{
		{Name: "EDG_HTTP_ERROR_LOG_LEVEL", Value: "error"},
		{Name: "EDG_COORDINATOR_MESH_ADDR", Value: "0.0.0.0:2001"},
		{Name: "EDG_COORDINATOR_CLIENT_ADDR", Value: "0.0.0.0:4433"},
		{Name: "EDG_COORDINATOR_DNS_NAMES", Value: names},
		{Name: "EDG_COORDINATOR_SEAL_DIR", Value: "/coordinator/data/"},
		{Name: "OE_SIMULATION", Value: "0"},
	}, container(t, coordinator(t, sets("coordinator.attestation=in-process", "dcap=null"))).Env)

	for want, set := range map[string]string{
		"EDG_DEBUG_LOGGING=1":                                                   "coordinator.debugLogging=true",
		"EDG_HTTP_ERROR_LOG_LEVEL=debug":                                        "coordinator.httpErrorLogLevel=debug",
		"EDG_COORDINATOR_MESH_ADDR=0.0.0.0:25554":                               "coordinator.meshServerPort=25554",
		"EDG_COORDINATOR_CLIENT_ADDR=[::]:4433":                                 "coordinator.clientServerHost=[::]",
		"EDG_COORDINATOR_DNS_NAMES=a.example,b.example," + names:                `coordinator.hostname=a.example\,b.example`,
		"EDG_COORDINATOR_SEAL_DIR=/state":                                       "coordinator.sealDir=/state",
		"EDG_COORDINATOR_PROMETHEUS_ADDR=:9944":                                 "coordinator.metrics.enabled=true",
		"EDG_STARTUP_MANIFEST=/etc/marblerun/manifest/manifest.json":            "coordinator.startupManifest=x",
		"EDG_COORDINATOR_QCNL_CONFIG=/etc/marblerun/dcap/sgx_default_qcnl.conf": "dcap.pccsUrl=https://pccs",
		"SGX_AESM_ADDR=1":                                                       "coordinator.attestation=out-of-process",
	} {
		name, value, _ := strings.Cut(want, "=")
		got, _ := env(container(t, coordinator(t, sets(set))), name)
		equal(t, name+" with "+set, value, got)
	}
}

// The text "0" of an old values file once simulated silently.
func TestSimulation(t *testing.T) {
	for _, test := range []struct {
		value any
		want  string
	}{
		{true, "1"}, {1, "1"}, {"1", "1"}, {"true", "1"},
		{false, "0"}, {0, "0"}, {"0", "0"}, {"false", "0"}, {"", "0"}, {nil, "0"},
	} {
		i := installation{}
		files, err := i.renderValues(t, map[string]any{"coordinator": map[string]any{"simulation": test.value}})
		if err != nil {
			t.Fatalf("%#v: %v", test.value, err)
		}
		simulates := strings.Contains(files["coordinator.yaml"], "name: OE_SIMULATION\n              value: \"1\"")
		if simulates != (test.want == "1") {
			t.Errorf("simulation: %#v simulates: %v", test.value, simulates)
		}
	}
}

func TestSeedCommands(t *testing.T) {
	for _, i := range []installation{seedSGX, seedSimulation} {
		service := object[corev1.Service](t, i, "Service/coordinator-client-api")
		equal(t, "type", corev1.ServiceTypeLoadBalancer, service.Spec.Type)
		equal(t, "port", int32(4433), service.Spec.Ports[0].Port)
		names, _ := env(container(t, coordinator(t, i)), "EDG_COORDINATOR_DNS_NAMES")
		if !strings.HasPrefix(names, "mycluster.uksouth.cloudapp.azure.com,localhost,coordinator-mesh-api,") {
			t.Errorf("names are %s", names)
		}
	}
	sgx, simulation := coordinator(t, seedSGX), coordinator(t, seedSimulation)
	if len(container(t, sgx).Resources.Limits) != 3 || len(sgx.Spec.Template.Spec.Tolerations) != 1 {
		t.Error("SGX is not asked for")
	}
	if len(container(t, simulation).Resources.Limits) != 0 || len(simulation.Spec.Template.Spec.Tolerations) != 0 {
		t.Error("SGX is asked for in simulation")
	}
}

// The client API is reachable before there is a manifest, the Marble API only with one.
func TestProbesAndServices(t *testing.T) {
	probes := func(i installation) [3]string {
		c := container(t, coordinator(t, i))
		var paths [3]string
		for at, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			equal(t, "scheme", corev1.URISchemeHTTPS, probe.HTTPGet.Scheme)
			equal(t, "port", "http", probe.HTTPGet.Port.StrVal)
			paths[at] = probe.HTTPGet.Path
		}
		return paths
	}
	equal(t, "accepting", [3]string{"/api/v2/status", "/api/v2/ready", "/api/v2/status"}, probes(sets()))
	equal(t, "serving", [3]string{"/api/v2/status", "/api/v2/status", "/api/v2/status"},
		probes(sets("coordinator.readiness=serving")))
	c := container(t, coordinator(t, sets("coordinator.probes.readiness.periodSeconds=9")))
	equal(t, "period", int32(9), c.ReadinessProbe.PeriodSeconds)

	client := object[corev1.Service](t, sets(), "Service/coordinator-client-api").Spec
	equal(t, "client port", []corev1.ServicePort{{Name: "http", Port: 4433, TargetPort: port(4433)}}, client.Ports)
	equal(t, "client type", corev1.ServiceTypeClusterIP, client.Type)
	equal(t, "client without readiness", true, client.PublishNotReadyAddresses)
	mesh := object[corev1.Service](t, sets(), "Service/coordinator-mesh-api").Spec
	tcp := "tcp"
	equal(t, "mesh port",
		[]corev1.ServicePort{{Name: "grpc", Port: 2001, TargetPort: port(2001), AppProtocol: &tcp}}, mesh.Ports)
	equal(t, "mesh without readiness", false, mesh.PublishNotReadyAddresses)

	named := installation{chart: "marblerun-coordinator"}
	equal(t, "type under the old name", corev1.ServiceTypeLoadBalancer,
		object[corev1.Service](t, named, "Service/coordinator-client-api").Spec.Type)
	named.set = []string{"coordinator.clientService.type=NodePort"}
	equal(t, "type that is given", corev1.ServiceTypeNodePort,
		object[corev1.Service](t, named, "Service/coordinator-client-api").Spec.Type)
}

func TestState(t *testing.T) {
	claim := object[corev1.PersistentVolumeClaim](t, sets(), "PersistentVolumeClaim/coordinator-pv-claim")
	equal(t, "keep", "keep", claim.Annotations["helm.sh/resource-policy"])
	equal(t, "mode", []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, claim.Spec.AccessModes)
	equal(t, "class", (*string)(nil), claim.Spec.StorageClassName)
	claim = object[corev1.PersistentVolumeClaim](t, sets("coordinator.keepState=false"),
		"PersistentVolumeClaim/coordinator-pv-claim")
	equal(t, "keepState=false", 0, len(claim.Annotations))

	own := sets("coordinator.pvcName=mine", "coordinator.sealDir=/state/")
	if _, there := own.objects(t)["PersistentVolumeClaim/coordinator-pv-claim"]; there {
		t.Error("a claim is made beside the given one")
	}
	d := coordinator(t, own)
	equal(t, "mount", "/state", container(t, d).VolumeMounts[0].MountPath)
	equal(t, "claim", "mine", d.Spec.Template.Spec.Volumes[0].PersistentVolumeClaim.ClaimName)
	equal(t, "strategy", appsv1.RecreateDeploymentStrategyType, d.Spec.Strategy.Type)
}

func TestImages(t *testing.T) {
	const base = "ghcr.io/marblerun/marblerun/"
	digest := "sha256:" + strings.Repeat("0", 64)
	for want, i := range map[string]installation{
		base + "coordinator-sgx:v0.1.0":           sets(),
		base + "coordinator:v0.1.0":               sets("coordinator.simulation=1"),
		base + "coordinator:v0.1.1":               sets("coordinator.tee=tdx", "coordinator.version=v0.1.1"),
		base + "my:v0.1.0":                        sets("coordinator.image=my"),
		"example.com/coordinator-sgx:v0.1.0":      sets("coordinator.repository=example.com"),
		base + "coordinator-sgx:v0.1.0@" + digest: sets("coordinator.hash=" + digest),
	} {
		equal(t, "image", want, container(t, coordinator(t, i)).Image)
	}
}

func TestDCAP(t *testing.T) {
	file := func(set ...string) string {
		config := object[corev1.ConfigMap](t, sets(set...), "ConfigMap/coordinator-dcap-config")
		return config.Data["sgx_default_qcnl.conf"]
	}
	const azure = "https://global.acccache.azure.net/sgx/certification/v4/"
	equal(t, "default", `{"pccs_url": "`+azure+`", "use_secure_cert": true}`, file())
	equal(t, "given", `{"pccs_url": "https://pccs:8081/v4", "use_secure_cert": false}`,
		file("dcap.pccsUrl=https://pccs:8081/v4", "dcap.useSecureCert=FALSE"))
	equal(t, "whole", "PCCS_URL=x", file("dcap.qcnlConfig=PCCS_URL=x"))

	checksum := func(set ...string) string {
		return coordinator(t, sets(set...)).Spec.Template.Annotations["checksum/dcap-config"]
	}
	if checksum() == checksum("dcap.pccsUrl=https://pccs") || checksum() == "" {
		t.Error("another configuration does not restart the Coordinator")
	}
	if _, there := sets("dcap=null").objects(t)["ConfigMap/coordinator-dcap-config"]; there {
		t.Error("dcap=null has a ConfigMap")
	}
	for _, volume := range container(t, coordinator(t, sets())).VolumeMounts {
		equal(t, "subPath of "+volume.Name, "", volume.SubPath)
	}
}

func TestBudget(t *testing.T) {
	i := sets("podDisruptionBudget.enabled=true")
	budget := object[policyv1.PodDisruptionBudget](t, i, "PodDisruptionBudget/marblerun-coordinator").Spec
	equal(t, "unavailable", int32(0), budget.MaxUnavailable.IntVal)
	equal(t, "selector", coordinator(t, i).Spec.Selector, budget.Selector)
	i.kube = "v1.26.0"
	old := object[policyv1.PodDisruptionBudget](t, i, "PodDisruptionBudget/marblerun-coordinator").Spec
	if old.UnhealthyPodEvictionPolicy != nil || budget.UnhealthyPodEvictionPolicy == nil {
		t.Error("unhealthyPodEvictionPolicy does not follow the cluster's version")
	}
}
