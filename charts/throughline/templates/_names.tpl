{{- /* How things are called and marked. */}}

{{- define "throughline.name" -}}
{{- $name := ternary .Release.Name (printf "%s-throughline" .Release.Name) (contains "throughline" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- /* Of objects without a namespace: releases of one name may be in several namespaces. */}}
{{- define "throughline.clusterName" -}}
{{ include "throughline.name" . }}-{{ .Release.Namespace }}
{{- end }}

{{- /* What never changes in the life of a Deployment. Takes {root, component}. */}}
{{- define "throughline.selector" -}}
app.kubernetes.io/name: throughline
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Takes {root, component}, and more labels. */}}
{{- define "throughline.labels" -}}
{{- $ours := include "throughline.selector" . | fromYaml }}
{{- $ours = merge $ours (dict
  "app.kubernetes.io/version" .root.Chart.AppVersion
  "app.kubernetes.io/part-of" "throughline"
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_")) }}
{{- toYaml (merge $ours (.more | default dict) .root.Values.labels) }}
{{- end }}

{{- /* labels and annotations of an object's metadata. Takes {root, component}. */}}
{{- define "throughline.marks" -}}
labels:
  {{- include "throughline.labels" . | nindent 2 }}
{{- with .root.Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "throughline.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* Empty where no cluster was asked: _checks.tpl refuses that. */}}
{{- define "throughline.deploymentId" -}}
{{- .Values.deploymentId | default (dig "metadata" "uid" "" (lookup "v1" "Namespace" "" "kube-system")) -}}
{{- end }}
