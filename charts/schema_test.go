// Copyright The Marblerun Authors
// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/marblerun/marblerun/charts"
)

// Each wrong value gives an error that says where it is and what is wrong with it.
func TestWrongValues(t *testing.T) {
	for set, want := range map[string][]string{
		"typo=1":                                 {"at ''", "'typo' not allowed"},
		"coordinator.replica=1":                  {"/coordinator'", "'replica' not allowed"},
		"coordinator.replicas=many":              {"/coordinator/replicas", "want integer"},
		"coordinator.replicas=3":                 {"coordinator.replicas: a state has one Coordinator"},
		"coordinator.simulation=yes":             {"/coordinator/simulation", "true, false, 1, 0"},
		"coordinator.simulation=2":               {"/coordinator/simulation"},
		"coordinator.tee=nitro":                  {"/coordinator/tee", "'sgx', 'tdx', 'sev-snp'"},
		"coordinator.attestation=aesm":           {"/coordinator/attestation", "out-of-process"},
		"coordinator.clientServerPort=70000":     {"/coordinator/clientServerPort", "65,535"},
		"coordinator.meshServerPort=null":        {"/coordinator'", "missing property 'meshServerPort'"},
		"coordinator.clientService.type=Ingress": {"/coordinator/clientService/type", "'LoadBalancer'"},
		"coordinator.clientService.loadBalancerSourceRanges=10.0.0.0/8": {
			"/coordinator/clientService/loadBalancerSourceRanges", "want array"},
		"coordinator.storageSize=10Mb":                   {"/coordinator/storageSize", "'10Mb'"},
		"coordinator.sealDir=data":                       {"/coordinator/sealDir", "'data'"},
		"coordinator.hash=abc":                           {"/coordinator/hash", "'abc'"},
		"coordinator.resources.limit.cpu=1":              {"/coordinator/resources", "'limit' not allowed"},
		"coordinator.probes.startup.period=1":            {"/coordinator/probes/startup", "'period' not allowed"},
		"coordinator.readiness=ready":                    {"/coordinator/readiness", "'accepting', 'serving'"},
		"coordinator.extraEnv[0].value=x":                {"/coordinator/extraEnv/0", "missing property 'name'"},
		"coordinator.metrics.enable=true":                {"/coordinator/metrics", "'enable' not allowed"},
		"coordinator.metrics.serviceMonitor.interval=1x": {"/coordinator/metrics/serviceMonitor/interval"},
		"coordinator.metrics.serviceMonitor.enabled=true": {
			"coordinator.metrics.serviceMonitor.enabled: there are no metrics"},
		"coordinator.logFormat=text":             {"coordinator.logFormat: text works in simulation only"},
		"coordinator.distributedDeployment=true": {"coordinator.distributedDeployment: several Coordinators"},
		"coordinator.azureHSM.keyName=k": {
			"coordinator.azureHSM.keyName: sealing with an Azure HSM is not supported"},
		"coordinator.azureCredentials.clientID=k": {
			"coordinator.azureCredentials.clientID: sealing with an Azure HSM"},
		"coordinator.hsm.keyName=k":               {"coordinator.hsm: sealing with an HSM is not supported", "azureHSM"},
		"coordinator.coordinatorImage=x":          {"coordinator.coordinatorImage: the value is now named"},
		"coordinator.coordinatorImageVersion=x":   {"now named coordinator.version"},
		"coordinator.coordinatorReplicas=1":       {"now named coordinator.replicas"},
		"global.image.version=x":                  {"global.image: the values are now named"},
		"global.podLabels.a=1":                    {"/global/podLabels/a", "want string"},
		"marbleInjector.marbleInjectorReplicas=1": {"now named marbleInjector.replicas"},
		"marbleInjector.start=yes":                {"/marbleInjector/start", "want boolean"},
		"marbleInjector.timeoutSeconds=60":        {"/marbleInjector/timeoutSeconds", "want 30"},
		"marbleInjector.failurePolicy=Retry":      {"/marbleInjector/failurePolicy", "'Fail', 'Ignore'"},
		"marbleInjector.resourceKey=epc":          {"/marbleInjector/resourceKey", "'epc'"},
		"marbleInjector.CABundle=-----BEGIN":      {"/marbleInjector/CABundle"},
		"marbleInjector.useCertManager=true,marbleInjector.CABundle=QUJD": {
			"marbleInjector.CABundle: cert-manager sets"},
		"marbleInjector.objectSelector.matchLabel.a=b":              {"/marbleInjector/objectSelector", "'matchLabel'"},
		"dcap.pccsUrl=pccs":                                         {"/dcap/pccsUrl", "'pccs'"},
		"dcap.useSecureCert=no":                                     {"/dcap/useSecureCert", "'no'"},
		"dcap.pccsURL=https://pccs":                                 {"/dcap", "'pccsURL' not allowed"},
		"tolerations=sgx":                                           {"/tolerations", "got string"},
		"ingress.nginx.enabled=true":                                {"ingress.nginx.enabled: there is no DNS name"},
		"ingress.nginx.hosts=a":                                     {"/ingress/nginx/hosts", "want array"},
		"ingress.nginx.hosts={https://a}":                           {"/ingress/nginx/hosts/0", "'https://a'"},
		"ingress.istio.enabled=true":                                {"ingress.istio.enabled: there is no DNS name"},
		"ingress.traefik.enabled=true":                              {"/ingress'", "'traefik' not allowed"},
		"ingress.gatewayAPI.enabled=true":                           {"ingress.gatewayAPI.parentRefs: name the Gateway"},
		"ingress.gatewayAPI.apiVersion=v1":                          {"/ingress/gatewayAPI/apiVersion", "'v1'"},
		"networkPolicy.clientFrom.ipBlock=x":                        {"/networkPolicy/clientFrom", "want array"},
		"podDisruptionBudget.maxUnavailable=some":                   {"/podDisruptionBudget/maxUnavailable", "'some'"},
		"podDisruptionBudget.minAvailable=1":                        {"/podDisruptionBudget", "'minAvailable' not allowed"},
		"coordinator.hostname=192.0.2.1,ingress.nginx.enabled=true": {"there is no DNS name"},
		"coordinator.meshServerPort=4433":                           {"must differ: they are 4433, 4433"},
		"coordinator.metrics.enabled=true,coordinator.metrics.port=2001": {
			"must differ: they are 4433, 2001, 2001"},
		"marbleInjector.start=true,marbleInjector.metrics.enabled=true,marbleInjector.metrics.port=8443": {
			"marbleInjector.metrics.port: 8443"},
	} {
		_, err := sets(set).render(t)
		if err == nil {
			t.Errorf("--set %s is accepted", set)
			continue
		}
		for _, part := range want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("--set %s: the error has no %q:\n%v", set, part, err)
			}
		}
	}
}

// All problems that the schema does not see are named at once.
func TestAllProblemsAreNamed(t *testing.T) {
	_, err := sets("coordinator.distributedDeployment=true", "coordinator.azureHSM.vaultURL=x",
		"coordinator.replicas=3").render(t)
	for _, part := range []string{"distributedDeployment", "vaultURL", "replicas"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s is not named: %v", part, err)
		}
	}
}

// Values that people have in their files, or give as the seed and the contract say.
func TestAcceptedValues(t *testing.T) {
	for _, set := range []string{
		"coordinator.resources=null", "coordinator.resources.limits=null", "tolerations=null", "nodeSelector=null",
		"dcap=null", "coordinator.azureHSM=null", "coordinator.azureCredentials=null", "global.pullSecret=null",
		"coordinator.hostname=null",
		"coordinator.simulation=0", "coordinator.simulation=false", "coordinator.dcapQpl=azure", "dcap.useSecureCert=TRUE",
		"coordinator.replicas=0", "coordinator.storageSize=1073741824", "coordinator.storeBackend=k8s-secret",
		"marbleInjector.objectSelector=null", "podDisruptionBudget.maxUnavailable=50%", "global.ofAnotherChart=1",
		"enabled=true", "coordinator.podSecurityContext.runAsUser=null", "marbleInjector.sgxQuantity=10",
		"ingress.istio.enabled=null", "coordinator.metrics.enabled=null", "marbleInjector.metrics.enabled=null",
	} {
		monitored := sets("coordinator.metrics.serviceMonitor.enabled=true", "coordinator.metrics.enabled=true",
			"marbleInjector.start=true", "marbleInjector.metrics.enabled=true", set)
		for _, i := range []installation{sets(set), monitored} {
			if _, err := i.render(t); err != nil {
				t.Errorf("--set %s: %v", set, err)
			}
		}
	}
}

type schema struct {
	Type                 any
	Properties           map[string]schema
	AdditionalProperties any
	Required             []string
	Ref                  string `json:"$ref"`
	Definitions          map[string]schema
	Description          string
	Any                  []schema `json:"anyOf"`
}

// The schema and values.yaml know the same values.
func TestSchemaCoversValues(t *testing.T) {
	root := decode[schema](t, "values.schema.json")
	var compare func(path string, s schema, values map[string]any)
	compare = func(path string, s schema, values map[string]any) {
		if s.Ref != "" {
			s = root.Definitions[strings.TrimPrefix(s.Ref, "#/definitions/")]
		}
		if len(s.Properties) == 0 {
			return // free form
		}
		for key, value := range values {
			of, known := s.Properties[key]
			if !known {
				t.Errorf("%s%s is not in the schema", path, key)
			}
			if inner, isMap := value.(map[string]any); isMap {
				compare(path+key+".", of, inner)
			}
		}
		for key, of := range s.Properties {
			_, known := values[key]
			if !known && of.Description == "" && len(values) > 0 && !slices.Contains(implied, key) {
				t.Errorf("%s%s is not in values.yaml", path, key)
			}
		}
		for _, key := range s.Required {
			if _, known := values[key]; !known && len(values) > 0 {
				t.Errorf("%s%s is required but has no default", path, key)
			}
		}
		if s.AdditionalProperties != false && path != "global." {
			t.Errorf("%s accepts any key", path)
		}
	}
	compare("", root, decode[map[string]any](t, "values.yaml"))
}

// Keys of Kubernetes' own types, which values.yaml does not list.
var implied = []string{"requests", "limits", "claims", "matchLabels", "matchExpressions", "successThreshold",
	"terminationGracePeriodSeconds"}

func decode[T any](t *testing.T, name string) T {
	t.Helper()
	data, err := fs.ReadFile(charts.Files(), name)
	if err != nil {
		t.Fatal(err)
	}
	var decoded T
	if strings.HasSuffix(name, ".json") {
		err = json.Unmarshal(data, &decoded)
	} else {
		err = yaml.Unmarshal(data, &decoded)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return decoded
}
