{{- /*
What values.schema.json cannot say: what is required, and what goes together. All of it is told at once, each
by the value's name.
*/}}
{{- define "throughline.checks" -}}
{{- $wrong := list }}
{{- $programs := list }}
{{- range $name := list "operator" "webhook" "gateway" }}
{{- if (index $.Values $name).enabled }}{{ $programs = append $programs $name }}{{ end }}
{{- end }}
{{- if not (or $programs .Values.crds.install) }}
{{- $wrong = append $wrong "operator.enabled: nothing is to be installed; enable operator, webhook, gateway or crds.install." }}
{{- end }}
{{- if $programs }}
{{- if not .Values.image.repository }}
{{- $wrong = append $wrong "image.repository: is required; build the image from the Dockerfile, push it to your registry, and name it here." }}
{{- end }}
{{- if not (include "throughline.deploymentId" .) }}
{{- $wrong = append $wrong "deploymentId: is required where no cluster is asked (helm template, --dry-run=client). What an install has by default: kubectl get namespace kube-system -o jsonpath={.metadata.uid}" }}
{{- end }}
{{- end }}
{{- range $name := without $programs "webhook" }}
{{- $kafka := include "throughline.kafka" (dict "root" $ "values" (index $.Values $name)) | fromYaml }}
{{- $own := printf "kafka, %s.kafka" $name }}
{{- if not $kafka.brokers }}
{{- $wrong = append $wrong (printf "kafka.brokers: is required for the %s, as [host:port]." $name) }}
{{- end }}
{{- if and $kafka.sasl.user (not $kafka.sasl.passwordSecret.name) }}
{{- $wrong = append $wrong (printf "kafka.sasl.passwordSecret.name: goes with kafka.sasl.user (%s)." $own) }}
{{- end }}
{{- if and $kafka.sasl.passwordSecret.name (not $kafka.sasl.user) }}
{{- $wrong = append $wrong (printf "kafka.sasl.user: goes with kafka.sasl.passwordSecret (%s)." $own) }}
{{- end }}
{{- end }}
{{- if .Values.gateway.enabled }}
{{- if not .Values.gateway.namespace }}
{{- $wrong = append $wrong "gateway.namespace: is required; a gateway speaks for one namespace." }}
{{- end }}
{{- with .Values.sessionStore }}
{{- if and (not .url) (or .cluster .user .passwordSecret.name .caSecret.name) }}
{{- $wrong = append $wrong "sessionStore.url: is required with the other settings of sessionStore." }}
{{- end }}
{{- if and .user (not .passwordSecret.name) }}
{{- $wrong = append $wrong "sessionStore.passwordSecret.name: goes with sessionStore.user." }}
{{- end }}
{{- if and .caSecret.name (not (hasPrefix "rediss://" .url)) }}
{{- $wrong = append $wrong "sessionStore.caSecret.name: goes with rediss:// in sessionStore.url." }}
{{- end }}
{{- if and (contains "," .url) (not .cluster) }}
{{- $wrong = append $wrong "sessionStore.cluster: must be true with several nodes in sessionStore.url." }}
{{- end }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\n%s\n" (join "\n" $wrong)) }}
{{- end }}
{{- end }}
