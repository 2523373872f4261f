{{- /*
A Deployment, its PodDisruptionBudget and its ServiceAccount, as all three programs have them: restricted pod
security, Secrets as files, probes at the health port.

Takes {root, component, values} and
  command    none: the image's own, which is the server
  flags      a map; a flag's value is text
  files      a list of {flag, secret, key}
  ports      a map from name to number, beside the health port
  usesApi    whether the pod has its account's token
  graceSeconds
*/}}
{{- define "throughline.deployment" -}}
{{- $root := .root }}
{{- $values := .values }}
{{- $name := printf "%s-%s" (include "throughline.name" .root) .component }}
{{- $flags := mustMergeOverwrite (dict
  "health-listen" (printf "0.0.0.0:%d" (int $values.healthPort))
  "log-level" $values.logLevel) .flags }}
{{- range .files }}
{{- $_ := set $flags .flag (printf "/etc/throughline/%s/%s" .flag .key) }}
{{- end }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "throughline.marks" . | nindent 2 }}
automountServiceAccountToken: false
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "throughline.marks" . | nindent 2 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "throughline.selector" . | nindent 6 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "throughline.marks" . | nindent 2 }}
spec:
  replicas: {{ $values.replicas }}
  selector:
    matchLabels:
      {{- include "throughline.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "throughline.labels" (dict "root" .root "component" .component "more" $values.podLabels) | nindent 8 }}
      {{- with merge (deepCopy $values.podAnnotations) .root.Values.annotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ $name }}
      automountServiceAccountToken: {{ .usesApi }}
      # A Service named throughline would set variables that look like flags.
      enableServiceLinks: false
      {{- with .root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with .graceSeconds }}
      terminationGracePeriodSeconds: {{ . }}
      {{- end }}
      # The image's own user is a number, so that a platform may choose another.
      securityContext:
        runAsNonRoot: true
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .component }}
          image: {{ include "throughline.image" .root | quote }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          {{- with .command }}
          command:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          args:
            {{- range $flag, $value := $flags }}
            - {{ printf "--%s=%s" $flag (toString $value | replace "$" "$$") | quote }}
            {{- end }}
          {{- with $values.env }}
          env:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          ports:
            {{- range $port, $number := .ports }}
            - name: {{ $port }}
              containerPort: {{ $number }}
            {{- end }}
            - name: health
              containerPort: {{ $values.healthPort }}
          readinessProbe:
            httpGet:
              path: /readyz
              port: health
            periodSeconds: 5
          livenessProbe:
            httpGet:
              path: /livez
              port: health
            initialDelaySeconds: 10
            periodSeconds: 10
            timeoutSeconds: 5
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop:
                - ALL
          {{- with .files }}
          volumeMounts:
            {{- range . }}
            - name: {{ .flag }}
              mountPath: /etc/throughline/{{ .flag }}
              readOnly: true
            {{- end }}
          {{- end }}
      {{- with .files }}
      volumes:
        {{- range . }}
        - name: {{ .flag }}
          secret:
            secretName: {{ .secret | quote }}
            items:
              - key: {{ .key | quote }}
                path: {{ .key | quote }}
        {{- end }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        {{- with $values.topologySpreadConstraints }}
        {{- toYaml . | nindent 8 }}
        {{- else }}
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "throughline.selector" . | nindent 14 }}
        {{- end }}
{{- end }}
