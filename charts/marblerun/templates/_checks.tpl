{{/* What the schema cannot say well: each problem is one sentence. coordinator.yaml includes this. */}}
{{- define "marblerun.checks" -}}
{{- $c := .Values.coordinator }}
{{- $i := .Values.marbleInjector }}
{{- $problems := list }}
{{- if $c.distributedDeployment }}
  {{- $problems = append $problems "coordinator.distributedDeployment: several Coordinators on one state are not supported yet" }}
{{- end }}
{{- if gt (int $c.replicas) 1 }}
  {{- $problems = append $problems "coordinator.replicas: a state has one Coordinator, use 0 or 1" }}
{{- end }}
{{- range $block := list "azureHSM" "azureCredentials" }}
  {{- range $key, $value := get $c $block | default dict }}
    {{- if $value }}
      {{- $problems = append $problems (printf "coordinator.%s.%s: sealing with an Azure HSM is not supported yet" $block $key) }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if $c.hsm }}
  {{- $problems = append $problems "coordinator.hsm: sealing with an HSM is not supported yet (and the value was always named azureHSM)" }}
{{- end }}
{{- $renamed := dict "coordinatorImage" "coordinator.repository and coordinator.image" "coordinatorReplicas" "coordinator.replicas"
    "coordinatorImageVersion" "coordinator.version" }}
{{- range $old, $new := $renamed }}
  {{- if hasKey $c $old }}
    {{- $problems = append $problems (printf "coordinator.%s: the value is now named %s" $old $new) }}
  {{- end }}
{{- end }}
{{- if hasKey $i "marbleInjectorReplicas" }}
  {{- $problems = append $problems "marbleInjector.marbleInjectorReplicas: the value is now named marbleInjector.replicas" }}
{{- end }}
{{- if hasKey (.Values.global | default dict) "image" }}
  {{- $problems = append $problems
      "global.image: the values are now named repository, version and pullPolicy of coordinator and of marbleInjector" }}
{{- end }}
{{- if and (eq $c.logFormat "text") (ne (include "marblerun.platform" .) "simulation") }}
  {{- $problems = append $problems "coordinator.logFormat: text works in simulation only, use json" }}
{{- end }}
{{- if and $i.useCertManager $i.CABundle }}
  {{- $problems = append $problems "marbleInjector.CABundle: cert-manager sets the bundle, so leave it empty or useCertManager off" }}
{{- end }}
{{- $ports := list (int $c.clientServerPort) (int $c.meshServerPort) }}
{{- if $c.metrics.enabled }}{{ $ports = append $ports (int $c.metrics.port) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
  {{- $problems = append $problems (printf
      "coordinator.clientServerPort, meshServerPort and metrics.port must differ: they are %s" (join ", " $ports)) }}
{{- end }}
{{- if and $i.start $i.metrics.enabled (eq (int $i.metrics.port) 8443) }}
  {{- $problems = append $problems "marbleInjector.metrics.port: 8443 is the port of the webhook" }}
{{- end }}
{{- if and $c.metrics.serviceMonitor.enabled (not $c.metrics.enabled) (not $i.metrics.enabled) }}
  {{- $problems = append $problems "coordinator.metrics.serviceMonitor.enabled: there are no metrics, set coordinator.metrics.enabled" }}
{{- end }}
{{- if and .Values.ingress.gatewayAPI.enabled (not .Values.ingress.gatewayAPI.parentRefs) }}
  {{- $problems = append $problems "ingress.gatewayAPI.parentRefs: name the Gateway the TLSRoute belongs to" }}
{{- end }}
{{- range $way, $value := .Values.ingress }}
  {{- if and $value.enabled (not (include "marblerun.hosts" (dict "root" $ "hosts" $value.hosts) | fromJsonArray)) }}
    {{- $problems = append $problems
        (printf "ingress.%s.enabled: there is no DNS name, set coordinator.hostname or ingress.%s.hosts" $way $way) }}
  {{- end }}
{{- end }}
{{- if $problems }}{{ fail (join "; " $problems) }}{{ end }}
{{- end }}
