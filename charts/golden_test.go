// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The seed's commands (shared/seed/kubernetes-deployment-guide.md), their --set arguments as they are.
var (
	seedSGX = installation{chart: "marblerun-coordinator",
		set: []string{"coordinator.hostname=mycluster.uksouth.cloudapp.azure.com"}}
	seedSimulation = installation{chart: "marblerun-coordinator", set: []string{
		"coordinator.resources=null",
		"coordinator.simulation=1",
		"tolerations=null",
		"coordinator.hostname=mycluster.uksouth.cloudapp.azure.com",
	}}
)

const hosts = "coordinator.hostname=" + `mr.example.com\,mr.example.org\,192.0.2.7\,localhost`

// installations are what the golden files, lint and the checks against schemas look at.
var installations = map[string]installation{
	"default":         sets(),
	"seed-sgx":        seedSGX,
	"seed-simulation": seedSimulation,
	"cli-simulation": sets("coordinator.simulation=true", "coordinator.resources.limits=null", "tolerations=null",
		"dcap=null", "marbleInjector.start=true"),
	"injector-managed":      sets("marbleInjector.start=true", "global.pullSecret=regcred"),
	"injector-cert-manager": sets("marbleInjector.start=true", "marbleInjector.useCertManager=true"),
	"injector-ca-bundle":    sets("marbleInjector.start=true", "marbleInjector.CABundle=LS0tLS1CRUdJTg=="),
	"sgx-in-process":        sets("coordinator.attestation=in-process"),
	"azure-plugin": sets("marbleInjector.start=true", `coordinator.resources.limits.sgx\.intel\.com/epc=null`,
		`coordinator.resources.limits.sgx\.intel\.com/enclave=null`,
		`coordinator.resources.limits.sgx\.intel\.com/provision=null`,
		`coordinator.resources.limits.kubernetes\.azure\.com/sgx_epc_mem_in_MiB=10`,
		"tolerations[0].key=kubernetes.azure.com/sgx_epc_mem_in_MiB", "tolerations[0].operator=Exists",
		"marbleInjector.resourceKey=kubernetes.azure.com/sgx_epc_mem_in_MiB", "marbleInjector.sgxQuantity=20"),
	"tdx":     sets("coordinator.tee=tdx", "marbleInjector.start=true"),
	"sev-snp": sets("coordinator.tee=sev-snp", "coordinator.runtimeClassName=none"),
	"ways-in": sets(hosts, "ingress.nginx.enabled=true", "ingress.istio.enabled=true", "ingress.gatewayAPI.enabled=true",
		"ingress.gatewayAPI.parentRefs[0].name=public", "ingress.gatewayAPI.parentRefs[0].namespace=infra",
		"ingress.gatewayAPI.parentRefs[0].sectionName=tls", "coordinator.simulation=true"),
	"metrics": sets("coordinator.metrics.enabled=true", "coordinator.metrics.serviceMonitor.enabled=true",
		"coordinator.metrics.serviceMonitor.interval=15s", "coordinator.metrics.serviceMonitor.labels.release=prometheus",
		"coordinator.metrics.dashboard.enabled=true", "marbleInjector.start=true", "marbleInjector.metrics.enabled=true"),
	"everything": sets("coordinator.simulation=true", "marbleInjector.start=true", hosts,
		"coordinator.clientService.type=LoadBalancer", `coordinator.clientService.annotations.example\.com/lb=yes`,
		"coordinator.clientService.loadBalancerIP=192.0.2.1", "coordinator.clientService.loadBalancerClass=example.com/lb",
		"coordinator.clientService.loadBalancerSourceRanges={10.0.0.0/8}", "coordinator.keepState=false",
		"coordinator.storageClass=fast", "coordinator.startupManifest=Packages", "coordinator.logFormat=text",
		"coordinator.debugLogging=true", "coordinator.readiness=serving", "coordinator.priorityClassName=high",
		"coordinator.extraEnv[0].name=EDG_COORDINATOR_RECOVERY_ONLY", "coordinator.extraEnv[0].value=no",
		"coordinator.extraVolumes[0].name=cache", "coordinator.extraVolumes[0].emptyDir.medium=Memory",
		"coordinator.extraVolumeMounts[0].name=cache", "coordinator.extraVolumeMounts[0].mountPath=/cache",
		"coordinator.nodeSelector.pool=trusted", "coordinator.tolerations[0].operator=Exists",
		"coordinator.podSecurityContext.supplementalGroups={1000}", "coordinator.podSecurityContext.fsGroup=null",
		"global.podAnnotations.note=pod", "global.podLabels.team=a", "global.clusterDomain=example.internal",
		"networkPolicy.enabled=true", "networkPolicy.clientFrom[0].ipBlock.cidr=10.0.0.0/8",
		"networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring", "coordinator.metrics.enabled=true",
		"marbleInjector.metrics.enabled=true", "podDisruptionBudget.enabled=true", "marbleInjector.replicas=2",
		"marbleInjector.podDisruptionBudget.enabled=true", "marbleInjector.failurePolicy=Ignore",
		"marbleInjector.timeoutSeconds=5", "marbleInjector.reinvocationPolicy=IfNeeded",
		"marbleInjector.namespaceSelector.matchLabels.marbles=yes", "marbleInjector.excludedNamespaces={kube-system,infra}",
		"coordinator.hash=sha256:"+strings.Repeat("ab", 32), "marbleInjector.version=v9", "marbleInjector.logFormat=text"),
}

func TestGolden(t *testing.T) {
	for name, i := range installations {
		t.Run(name, func(t *testing.T) {
			files := i.mustRender(t)
			golden(t, name+".yaml", text(files))
			golden(t, name+".notes.txt", strings.TrimSpace(files["NOTES.txt"])+"\n")
		})
	}
}

// golden compares with a file in testdata/golden, which -update writes.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: go test ./charts -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-file +render); after a look, go test ./charts -update:\n%s", path, diff)
	}
}

// Each golden file belongs to an installation.
func TestGoldenFilesAreUsed(t *testing.T) {
	files, err := os.ReadDir(filepath.Join("testdata", "golden"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 2*len(installations) {
		t.Errorf("there are %d golden files and %d installations", len(files), len(installations))
	}
	for _, file := range files {
		name, _, _ := strings.Cut(file.Name(), ".")
		if _, known := installations[name]; !known {
			t.Errorf("%s belongs to no installation", file.Name())
		}
	}
}
