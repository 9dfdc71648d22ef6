// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func port(number int) intstr.IntOrString { return intstr.FromInt32(int32(number)) }

// restricted returns what the Pod Security level "restricted" would refuse
// (https://kubernetes.io/docs/concepts/security/pod-security-standards/).
func restricted(pod corev1.PodSpec) []string {
	var bad []string
	refuse := func(bad *[]string, when bool, what string) {
		if when {
			*bad = append(*bad, what)
		}
	}
	s := pod.SecurityContext
	refuse(&bad, s == nil || s.RunAsNonRoot == nil || !*s.RunAsNonRoot, "runAsNonRoot")
	refuse(&bad, s == nil || s.RunAsUser == nil || *s.RunAsUser == 0, "runAsUser")
	refuse(&bad, s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault,
		"seccompProfile")
	refuse(&bad, pod.HostNetwork || pod.HostPID || pod.HostIPC, "host namespaces")
	for _, volume := range pod.Volumes {
		refuse(&bad, volume.HostPath != nil, "hostPath "+volume.Name)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		refuse(&bad, s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation,
			"allowPrivilegeEscalation")
		refuse(&bad, s == nil || s.Privileged != nil && *s.Privileged, "privileged")
		refuse(&bad, s == nil || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") ||
			len(s.Capabilities.Add) > 0, "capabilities")
		refuse(&bad, s != nil && s.AppArmorProfile != nil && s.AppArmorProfile.Type == corev1.AppArmorProfileTypeUnconfined,
			"appArmorProfile")
	}
	return bad
}

func TestPodSecurity(t *testing.T) {
	for _, test := range []struct {
		i    installation
		want []string
	}{
		{sets("coordinator.simulation=1"), nil},
		{sets("coordinator.attestation=in-process"), nil},
		{sets(), []string{"hostPath aesmd-socket"}},
		{sets("coordinator.tee=tdx"), []string{"runAsNonRoot", "runAsUser", "hostPath configfs", "appArmorProfile"}},
		{sets("coordinator.tee=sev-snp"), []string{"runAsNonRoot", "runAsUser", "hostPath configfs", "appArmorProfile"}},
	} {
		d := coordinator(t, test.i)
		equal(t, strings.Join(test.i.set, " "), test.want, restricted(d.Spec.Template.Spec))
		equal(t, "read-only root", true, *container(t, d).SecurityContext.ReadOnlyRootFilesystem)
		equal(t, "token", false, *d.Spec.Template.Spec.AutomountServiceAccountToken)
		equal(t, "group of volumes", int64(65532), *d.Spec.Template.Spec.SecurityContext.FSGroup)
	}
	old := installation{set: []string{"coordinator.tee=tdx"}, kube: "v1.29.0"}
	if container(t, coordinator(t, old)).SecurityContext.AppArmorProfile != nil {
		t.Error("appArmorProfile is set in a cluster that does not know it")
	}
	for _, mode := range []string{"useCertManager=false", "useCertManager=true", "CABundle=QUJD"} {
		d := injector(t, sets("marbleInjector.start=true", "marbleInjector."+mode))
		equal(t, "injector", []string(nil), restricted(d.Spec.Template.Spec))
		equal(t, "injector's root", true, *container(t, d).SecurityContext.ReadOnlyRootFilesystem)
		managed := mode == "useCertManager=false"
		equal(t, "injector's token with "+mode, managed, *d.Spec.Template.Spec.AutomountServiceAccountToken)
	}
}

func TestSecurityContextsCanBeOverridden(t *testing.T) {
	pod := coordinator(t, sets("coordinator.podSecurityContext.runAsUser=1000",
		"coordinator.podSecurityContext.fsGroup=null",
		"coordinator.podSecurityContext.supplementalGroups={104}")).Spec.Template.Spec.SecurityContext
	equal(t, "user", int64(1000), *pod.RunAsUser)
	equal(t, "group of volumes", (*int64)(nil), pod.FSGroup)
	equal(t, "groups", []int64{104}, pod.SupplementalGroups)
	equal(t, "the rest", true, *pod.RunAsNonRoot)
	c := container(t, coordinator(t, sets("coordinator.securityContext.readOnlyRootFilesystem=false")))
	equal(t, "root", false, *c.SecurityContext.ReadOnlyRootFilesystem)
}

func TestTEEs(t *testing.T) {
	for _, test := range []struct {
		i               installation
		class, resource string
		configfs, aesm  bool
	}{
		{i: sets(), resource: "sgx.intel.com/epc", aesm: true},
		{i: sets("coordinator.image=coordinator-sgx"), resource: "sgx.intel.com/epc", aesm: true},
		{i: sets("coordinator.image=mine"), resource: "sgx.intel.com/epc"},
		{i: sets("coordinator.image=ego-coordinator"), resource: "sgx.intel.com/epc"},
		{i: sets("coordinator.attestation=in-process"), resource: "sgx.intel.com/epc"},
		{i: sets("coordinator.simulation=true")},
		{i: sets("coordinator.simulation=true", "coordinator.tee=tdx", "coordinator.attestation=out-of-process")},
		{i: sets("coordinator.tee=tdx"), class: "kata-qemu-tdx", configfs: true},
		{i: sets("coordinator.tee=sev-snp"), class: "kata-qemu-snp", configfs: true},
		{i: sets("coordinator.tee=sev-snp", "coordinator.runtimeClassName=none"), configfs: true},
		{i: sets("coordinator.tee=tdx", "coordinator.runtimeClassName=cc"), class: "cc", configfs: true},
	} {
		d := coordinator(t, test.i)
		pod, c := d.Spec.Template.Spec, container(t, d)
		name := strings.Join(test.i.set, " ")
		class := ""
		if pod.RuntimeClassName != nil {
			class = *pod.RuntimeClassName
		}
		equal(t, name+": runtime class", test.class, class)
		_, epc := c.Resources.Limits["sgx.intel.com/epc"]
		equal(t, name+": SGX", test.resource != "", epc)
		volume := func(name string) bool {
			return slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == name }) &&
				slices.ContainsFunc(c.VolumeMounts, func(v corev1.VolumeMount) bool { return v.Name == name })
		}
		equal(t, name+": configfs", test.configfs, volume("configfs"))
		equal(t, name+": AESM", test.aesm, volume("aesmd-socket"))
		_, address := env(c, "SGX_AESM_ADDR")
		equal(t, name+": address", test.aesm, address)
	}
}

func TestNetworkPolicies(t *testing.T) {
	base := []string{"networkPolicy.enabled=true", "marbleInjector.start=true", "coordinator.metrics.enabled=true"}
	ports := func(id string, set ...string) map[int32]int {
		policy := object[networkingv1.NetworkPolicy](t, sets(append(slices.Clone(base), set...)...), id)
		equal(t, "types", []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}, policy.Spec.PolicyTypes)
		all := map[int32]int{}
		for _, rule := range policy.Spec.Ingress {
			all[rule.Ports[0].Port.IntVal] = len(rule.From) // 0 is everybody
		}
		return all
	}
	const c, i = "NetworkPolicy/marblerun-coordinator", "NetworkPolicy/marble-injector"
	equal(t, "default", map[int32]int{4433: 0, 2001: 1}, ports(c))
	equal(t, "peers", map[int32]int{4433: 1, 2001: 1, 9944: 1}, ports(c,
		"networkPolicy.clientFrom[0].ipBlock.cidr=10.0.0.0/8", "networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b"))
	equal(t, "injector", map[int32]int{8443: 0}, ports(i))
	equal(t, "injector's metrics", map[int32]int{8443: 0, 9945: 1}, ports(i, "marbleInjector.metrics.enabled=true",
		"networkPolicy.metricsFrom[0].podSelector.matchLabels.a=b"))
	policy := object[networkingv1.NetworkPolicy](t, sets(base...), c)
	if s := policy.Spec.Ingress[1].From[0].NamespaceSelector; s == nil || len(s.MatchLabels)+len(s.MatchExpressions) > 0 {
		t.Errorf("the Marble API is not for all namespaces: %v", s)
	}
}

// The injector may touch its Secret and its webhook configuration, and nothing else.
func TestPermissions(t *testing.T) {
	managed := sets("marbleInjector.start=true")
	role := object[rbacv1.Role](t, managed, "Role/marble-injector")
	equal(t, "Role", []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"},
		ResourceNames: []string{"marble-injector-ca"}, Verbs: []string{"get", "patch"}}}, role.Rules)
	cluster := object[rbacv1.ClusterRole](t, managed, "ClusterRole/marble-injector-marblerun")
	equal(t, "ClusterRole", []rbacv1.PolicyRule{{APIGroups: []string{"admissionregistration.k8s.io"},
		Resources: []string{"mutatingwebhookconfigurations"}, ResourceNames: []string{"marble-injector-marblerun"},
		Verbs: []string{"get", "patch"}}}, cluster.Rules)
	secret := object[corev1.Secret](t, managed, "Secret/marble-injector-ca")
	equal(t, "data", 0, len(secret.Data)+len(secret.StringData))
	for _, other := range []string{"marbleInjector.useCertManager=true", "marbleInjector.CABundle=QUJD"} {
		for id := range sets("marbleInjector.start=true", other).objects(t) {
			if strings.Contains(id, "Role") || strings.HasPrefix(id, "Secret/") {
				t.Errorf("with %s there is %s", other, id)
			}
		}
	}
	for id := range sets().objects(t) {
		if strings.Contains(id, "Role") {
			t.Errorf("without the injector there is %s", id)
		}
	}
}

func TestPullSecret(t *testing.T) {
	i := sets("marbleInjector.start=true", "global.pullSecret=regcred")
	for deployment, account := range map[string]string{
		"Deployment/marblerun-coordinator": "marblerun-coordinator", "Deployment/marble-injector": "marble-injector",
	} {
		equal(t, deployment, account, object[appsv1.Deployment](t, i, deployment).Spec.Template.Spec.ServiceAccountName)
		secrets := object[corev1.ServiceAccount](t, i, "ServiceAccount/"+account).ImagePullSecrets
		equal(t, account, []corev1.LocalObjectReference{{Name: "regcred"}}, secrets)
	}
	none := sets("coordinator.serviceAccount.create=false", "marbleInjector.start=true",
		"marbleInjector.serviceAccount.create=false")
	for id := range none.objects(t) {
		if strings.HasPrefix(id, "ServiceAccount/") {
			t.Errorf("%s is made although create=false", id)
		}
	}
}
