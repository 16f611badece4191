{{- define "scoring.labels" -}}
app.kubernetes.io/name: scoring
app.kubernetes.io/instance: {{ .root.Release.Name }}
flight-delays/served: {{ .served }}
{{- end }}

{{/* What the release jobs own of a deployment: as it is in the cluster, and as the values say before it is there. */}}
{{- define "scoring.released" -}}
{{- $found := dict "image" "no-version-released:none" "replicas" 0 "annotations" dict -}}
{{- $first := .root.Values.champion -}}
{{- if and (eq .served "champion") $first.image -}}
{{- $version := dict "flight-delays/model-name" $first.modelName "flight-delays/model-version" (toString $first.modelVersion) -}}
{{- $found = dict "image" $first.image "replicas" .root.Values.pods.least "annotations" $version -}}
{{- end -}}
{{- $live := lookup "apps/v1" "Deployment" .root.Release.Namespace (printf "%s-%s" .root.Release.Name .served) -}}
{{- if $live -}}
{{- $annotations := pick (default dict $live.spec.template.metadata.annotations) "flight-delays/model-name" "flight-delays/model-version" -}}
{{- range $live.spec.template.spec.containers -}}
{{- if eq .name "scoring" -}}
{{- $found = dict "image" .image "replicas" $live.spec.replicas "annotations" $annotations -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}

{{/* The weights, which they own too. */}}
{{- define "scoring.weights" -}}
{{- $found := dict "champion" (ternary 100 0 (ne .Values.champion.image "")) "challenger" 0 -}}
{{- $live := lookup "gateway.networking.k8s.io/v1" "HTTPRoute" .Release.Namespace .Release.Name -}}
{{- if $live -}}
{{- range $live.spec.rules -}}
{{- if eq (len .backendRefs) 2 -}}
{{- range .backendRefs -}}
{{- $_ := set $found (trimPrefix (printf "%s-" $.Release.Name) .name) .weight -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $found -}}
{{- end }}
