{{- /*
How a program is told of Kafka and of the session store: flags, and files of Secrets that are there.
A file is {flag, secret, key}; _deployment.tpl mounts each and gives the flag its path.
*/}}

{{- /* `kafka`, with what a program has of its own. Takes {root, values}. */}}
{{- define "throughline.kafka" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.kafka) .values.kafka) }}
{{- end }}

{{- /* Takes what the former gives. */}}
{{- define "throughline.kafkaFlags" -}}
kafka: {{ join "," .brokers | quote }}
{{- if .tls.enabled }}
kafka-tls: "true"
{{- end }}
{{- with .sasl }}
{{- if or .user .userSecret }}
kafka-sasl-mechanism: {{ .mechanism | quote }}
{{- end }}
{{- /* A user for each namespace: of sidecars only. */}}
{{- if .userSecret }}
kafka-sasl-user-secret: {{ printf "%s/%s" .userSecret.name .userSecret.key | quote }}
{{- else if .user }}
kafka-sasl-user: {{ .user | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "throughline.kafkaFiles" -}}
{{- with .tls.caSecret }}{{ if .name }}
- {flag: kafka-tls-ca-file, secret: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}{{ end }}
{{- with .tls.certificateSecret }}{{ if .name }}
- {flag: kafka-tls-cert-file, secret: {{ .name | quote }}, key: {{ .certKey | quote }}}
- {flag: kafka-tls-key-file, secret: {{ .name | quote }}, key: {{ .keyKey | quote }}}
{{- end }}{{ end }}
{{- with .sasl.passwordSecret }}{{ if .name }}
- {flag: kafka-sasl-password-file, secret: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}{{ end }}
{{- end }}

{{- /* Takes `sessionStore`. */}}
{{- define "throughline.storeFlags" -}}
{{- if .url }}
session-store: {{ .url | quote }}
{{- if .cluster }}
session-store-cluster: "true"
{{- end }}
{{- if .userSecret }}
session-store-user-secret: {{ printf "%s/%s" .userSecret.name .userSecret.key | quote }}
{{- else if .user }}
session-store-user: {{ .user | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "throughline.storeFiles" -}}
{{- with .passwordSecret }}{{ if .name }}
- {flag: session-store-password-file, secret: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}{{ end }}
{{- with .caSecret }}{{ if .name }}
- {flag: session-store-tls-ca-file, secret: {{ .name | quote }}, key: {{ .key | quote }}}
{{- end }}{{ end }}
{{- end }}
