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
{{- if and .Values.operator.enabled .Values.sequencers.enabled }}{{ $programs = append $programs "sequencers" }}{{ end }}
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
{{- $flag := printf "--deployment-id=%s" (include "throughline.deploymentId" .) }}
{{- range $name := $programs }}
{{- $there := lookup "apps/v1" "Deployment" $.Release.Namespace (printf "%s-%s" (include "throughline.name" $) $name) }}
{{- range $container := dig "spec" "template" "spec" "containers" list $there }}
{{- range $arg := $container.args }}
{{- if and (hasPrefix "--deployment-id=" $arg) (ne $arg $flag) }}
{{- $wrong = append $wrong (printf "deploymentId: this release has %s; another one would begin with an empty catalog and without its sessions. Set it to that, or uninstall first." (trimPrefix "--deployment-id=" $arg)) }}
{{- end }}
{{- end }}
{{- end }}
{{- $at := ternary "webhook.sidecar" $name (eq $name "webhook") }}
{{- $values := ternary $.Values.webhook.sidecar (index $.Values $name) (eq $name "webhook") }}
{{- $kafka := include "throughline.kafka" (dict "root" $ "values" $values) | fromYaml }}
{{- if not $kafka.brokers }}
{{- $wrong = append $wrong "kafka.brokers: is required, as [host:port]." }}
{{- end }}
{{- with $kafka.sasl }}
{{- $hasUser := or .user (dig "name" "" (.userSecret | default dict)) }}
{{- if and $hasUser (not .passwordSecret.name) }}
{{- $wrong = append $wrong (printf "kafka.sasl.passwordSecret.name: goes with the user; set it here or in %s.kafka." $at) }}
{{- end }}
{{- if and .passwordSecret.name (not $hasUser) }}
{{- $wrong = append $wrong (printf "kafka.sasl.user: goes with the password; set it here or in %s.kafka." $at) }}
{{- end }}
{{- end }}
{{- if ne $name "operator" }}
{{- with mergeOverwrite (deepCopy $.Values.sessionStore) ($values.sessionStore | default dict) }}
{{- $hasUser := or .user (dig "name" "" (.userSecret | default dict)) }}
{{- if contains "@" .url }}
{{- $wrong = append $wrong "sessionStore.url: holds a user or a password; name them in sessionStore.user and sessionStore.passwordSecret." }}
{{- else if and .url (not (regexMatch "^rediss?://[^/?#]+/?$" .url)) }}
{{- $wrong = append $wrong "sessionStore.url: must be redis://host:port, or rediss://host:port with TLS." }}
{{- end }}
{{- if and (not .url) (or .cluster $hasUser .passwordSecret.name .caSecret.name) }}
{{- $wrong = append $wrong "sessionStore.url: is required with the other settings of sessionStore." }}
{{- end }}
{{- if and $hasUser (not .passwordSecret.name) }}
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
{{- end }}
{{- with .Values.gateway }}
{{- if and .enabled (not .namespace) }}
{{- $wrong = append $wrong "gateway.namespace: is required; a gateway speaks for one namespace." }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\n%s\n" (join "\n" (uniq $wrong))) }}
{{- end }}
{{- end }}
