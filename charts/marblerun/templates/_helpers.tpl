{{/* Names, labels and choices that several templates share. "root" is the chart's context. */}}

{{- define "marblerun.chart" -}}
{{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Versions of the two components: also the tags of the images. */}}
{{- define "marblerun.coordinator.version" -}}{{ .Values.coordinator.version | default .Chart.AppVersion }}{{- end }}
{{- define "marblerun.injector.version" -}}{{ .Values.marbleInjector.version | default .Chart.AppVersion }}{{- end }}

{{/* Labels of contract/chart.md §2. Arguments: root, component, name, version. */}}
{{- define "marblerun.commonLabels" -}}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/created-by: {{ .root.Values.global.createdBy | toYaml }}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/part-of: marblerun
app.kubernetes.io/version: {{ .version | quote }}
{{- end }}

{{/* Those, and Helm's: not for Pods, which a new version of the chart alone must not restart. */}}
{{- define "marblerun.labels" -}}
{{ include "marblerun.commonLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ include "marblerun.chart" .root }}
{{- end }}

{{/* Labels of an object of the Coordinator. Arguments: root, component, name. */}}
{{- define "marblerun.coordinator.labels" -}}
{{ include "marblerun.labels" (merge (dict "version" (include "marblerun.coordinator.version" .root)) .) }}
{{- end }}

{{/* Labels of an object of the injector. Arguments: root, component, name. */}}
{{- define "marblerun.injector.labels" -}}
{{ include "marblerun.labels" (merge (dict "version" (include "marblerun.injector.version" .root)) .) }}
{{- end }}

{{/* Labels of the control plane. Arguments: root, component. */}}
{{- define "marblerun.planeLabels" -}}
{{ .root.Values.global.coordinatorComponentLabel }}: {{ .component }}
{{ .root.Values.global.coordinatorNamespaceLabel }}: {{ .root.Release.Namespace | toYaml }}
{{- end }}

{{/* What Services and selectors find the Coordinator by. They cannot change in an upgrade. */}}
{{- define "marblerun.coordinator.selector" -}}
{{ include "marblerun.planeLabels" (dict "root" . "component" "coordinator") }}
{{- end }}

{{- define "marblerun.injector.selector" -}}
app.kubernetes.io/name: marble-injector
app.kubernetes.io/part-of: marblerun
{{- end }}

{{/* Reference of an image. Arguments: component (its values), image, version. */}}
{{- define "marblerun.image" -}}
{{ .component.repository }}/{{ .image }}:{{ .version }}{{ with .component.hash }}@{{ . }}{{ end }}
{{- end }}

{{/* "true" if simulation is asked for. The text "0" or "false" is no simulation. */}}
{{- define "marblerun.simulation" -}}
{{- if has (.Values.coordinator.simulation | toString | lower) (list "1" "true") }}true{{ end }}
{{- end }}

{{/* What the Pod runs on: "simulation" or the TEE. */}}
{{- define "marblerun.platform" -}}
{{ if include "marblerun.simulation" . }}simulation{{ else }}{{ .Values.coordinator.tee }}{{ end }}
{{- end }}

{{/* "true" if the Pod is to be a guest of a confidential VM. */}}
{{- define "marblerun.confidentialVM" -}}
{{- if has (include "marblerun.platform" .) (list "tdx" "sev-snp") }}true{{ end }}
{{- end }}

{{- define "marblerun.coordinator.image" -}}
{{- $default := ternary "coordinator-sgx" "coordinator" (eq (include "marblerun.platform" .) "sgx") }}
{{- include "marblerun.image" (dict "component" .Values.coordinator "image" (.Values.coordinator.image | default $default)
    "version" (include "marblerun.coordinator.version" .)) }}
{{- end }}

{{- define "marblerun.coordinator.runtimeClass" -}}
{{- $byPlatform := dict "tdx" "kata-qemu-tdx" "sev-snp" "kata-qemu-snp" }}
{{- $class := .Values.coordinator.runtimeClassName | default (get $byPlatform (include "marblerun.platform" .)) }}
{{- if ne $class "none" }}{{ $class }}{{ end }}
{{- end }}

{{/* "true" if quotes come from the node's AESM service. */}}
{{- define "marblerun.coordinator.aesm" -}}
{{- if eq (include "marblerun.platform" .) "sgx" }}
{{- $image := .Values.coordinator.image | default "coordinator-sgx" }}
{{- $default := ternary "out-of-process" "in-process" (eq $image "coordinator-sgx") }}
{{- if eq (.Values.coordinator.attestation | default $default) "out-of-process" }}true{{ end }}
{{- end }}
{{- end }}

{{/* Resources of the Coordinator: those of SGX only where there is SGX. */}}
{{- define "marblerun.coordinator.resources" -}}
{{- $resources := deepCopy (.Values.coordinator.resources | default dict) }}
{{- range $kind := list "limits" "requests" }}
  {{- $amounts := get $resources $kind | default dict }}
  {{- range $key := keys $amounts }}
    {{- $sgx := or (hasPrefix "sgx.intel.com/" $key)
        (has $key (list "kubernetes.azure.com/sgx_epc_mem_in_MiB" "alibabacloud.com/sgx_epc_MiB")) }}
    {{- if or (kindIs "invalid" (get $amounts $key)) (and $sgx (ne (include "marblerun.platform" $) "sgx")) }}
      {{- $_ := unset $amounts $key }}
    {{- end }}
  {{- end }}
  {{- if not $amounts }}{{ $_ := unset $resources $kind }}{{ end }}
{{- end }}
{{- with $resources }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* One map over another; null removes a key. Arguments: base, over. */}}
{{- define "marblerun.override" -}}
{{- $result := .base }}
{{- range $key, $value := .over | default dict }}
  {{- if kindIs "invalid" $value }}{{ $_ := unset $result $key }}{{ else }}{{ $_ := set $result $key $value }}{{ end }}
{{- end }}
{{- toYaml $result }}
{{- end }}

{{/* Pod Security level "restricted". */}}
{{- define "marblerun.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "marblerun.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
{{- end }}

{{/* In a guest, configfs-tsm belongs to root and is written to: uid 0, but without any capability. */}}
{{- define "marblerun.coordinator.podSecurityContext" -}}
{{- $base := include "marblerun.podSecurityContext" . | fromYaml }}
{{- if include "marblerun.confidentialVM" . }}
  {{- $base = merge (dict "runAsNonRoot" false "runAsUser" 0) (omit $base "runAsNonRoot" "runAsUser") }}
{{- end }}
{{- include "marblerun.override" (dict "base" $base "over" .Values.coordinator.podSecurityContext) }}
{{- end }}

{{/* AppArmor's usual profile refuses writing to configfs. */}}
{{- define "marblerun.coordinator.securityContext" -}}
{{- $base := include "marblerun.securityContext" . | fromYaml }}
{{- if and (include "marblerun.confidentialVM" .) (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) }}
  {{- $_ := set $base "appArmorProfile" (dict "type" "Unconfined") }}
{{- end }}
{{- include "marblerun.override" (dict "base" $base "over" .Values.coordinator.securityContext) }}
{{- end }}

{{/* Names in the Coordinator's root certificate, in the order of contract/chart.md §3. */}}
{{- define "marblerun.coordinator.dnsNames" -}}
{{- $names := list "localhost" "coordinator-mesh-api" "coordinator-client-api" }}
{{- range $suffix := list .Release.Namespace (printf "%s.svc.%s" .Release.Namespace .Values.global.clusterDomain) }}
  {{- $names = concat $names (list (printf "coordinator-mesh-api.%s" $suffix) (printf "coordinator-client-api.%s" $suffix)) }}
{{- end }}
{{- with .Values.coordinator.hostname }}{{ $names = prepend $names . }}{{ end }}
{{- join "," $names }}
{{- end }}

{{- define "marblerun.clientService.type" -}}
{{- $default := ternary "LoadBalancer" "ClusterIP" (eq .Chart.Name "marblerun-coordinator") }}
{{- .Values.coordinator.clientService.type | default $default }}
{{- end }}

{{/* Host names of a way in, as a JSON list. Arguments: root, hosts (its own). */}}
{{- define "marblerun.hosts" -}}
{{- $hosts := .hosts | default list }}
{{- if not $hosts }}
  {{- range splitList "," (.root.Values.coordinator.hostname | default "" | nospace) }}
    {{- if not (or (empty .) (eq . "localhost") (contains ":" .) (regexMatch "^[0-9.]+$" .)) }}
      {{- $hosts = append $hosts . }}
    {{- end }}
  {{- end }}
{{- end }}
{{- toJson $hosts }}
{{- end }}

{{/* Where the injector's certificate comes from: "managed" by itself, "cert-manager" or "secret". */}}
{{- define "marblerun.injector.certificates" -}}
{{- if .Values.marbleInjector.useCertManager }}cert-manager
{{- else if .Values.marbleInjector.CABundle }}secret
{{- else }}managed
{{- end }}
{{- end }}

{{- define "marblerun.injector.resourceKey" -}}
{{- $default := ternary "sgx.intel.com/epc" "none" (eq (include "marblerun.platform" .) "sgx") }}
{{- .Values.marbleInjector.resourceKey | default $default }}
{{- end }}

{{/* imagePullSecrets of a ServiceAccount. */}}
{{- define "marblerun.pullSecrets" -}}
{{- with .Values.global.pullSecret }}
imagePullSecrets:
  - name: {{ . }}
{{- end }}
{{- end }}

{{/* Labels of Pods besides ours; the user's win. Empty if there are none. */}}
{{- define "marblerun.podLabels" -}}
{{- $istio := ternary dict (dict "sidecar.istio.io/inject" "false") (not .Values.ingress.istio.enabled) }}
{{- with merge (dict) (.Values.global.podLabels | default dict) $istio }}
{{- toYaml . }}
{{- end }}
{{- end }}
