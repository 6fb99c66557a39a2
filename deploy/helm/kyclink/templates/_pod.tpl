{{/* The parts that the pods of worker and serve share. */}}

{{- define "kyclink.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false # its variables KYCLINK_… would look like settings
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "kyclink.spread" -}}
{{- with .root.Values.topologySpread -}}
{{- if .enabled -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ .topologyKey }}
    whenUnsatisfiable: {{ .whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "kyclink.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.component }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end }}
{{- end -}}

{{- define "kyclink.container" -}}
image: {{ include "kyclink.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
startupProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end -}}

{{/* The variables of every container, for the component worker or serve. */}}
{{- define "kyclink.env" -}}
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef: {resource: limits.memory}
- name: KYCLINK_OPS_LISTEN
  value: ":9090"
- name: KYCLINK_REDIS_MODE
  value: {{ .Values.redis.mode }}
- name: KYCLINK_REDIS_URL_FILE
  value: /etc/kyclink/redis-url
{{- with .Values.redis.tls }}
{{- if and .existingSecret .caKey }}
- name: KYCLINK_REDIS_CA
  value: /etc/kyclink/redis-ca.crt
{{- end }}
{{- if and .existingSecret .certKey }}
- name: KYCLINK_REDIS_CERT
  value: /etc/kyclink/redis-client.crt
- name: KYCLINK_REDIS_KEY
  value: /etc/kyclink/redis-client.key
{{- end }}
{{- end }}
{{- if .Values.callbacks.existingSecret }}
- name: KYCLINK_CALLBACK_SECRET_FILE
  value: /etc/kyclink/callback-secret
{{- if .Values.callbacks.proxyKey }}
- name: KYCLINK_CALLBACK_PROXY_FILE
  value: /etc/kyclink/callback-proxy
{{- end }}
{{- end }}
{{- range $name, $value := .Values.settings }}
{{- if not (and (eq $name "KYCLINK_ACCOUNT") (eq $.component "worker") $.Values.worker.accounts.existingSecret) }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Secrets of a pod as files. */}}
{{- define "kyclink.secrets" -}}
- secret:
    name: {{ .root.Values.redis.existingSecret }}
    items:
      - {key: {{ .redisKey }}, path: redis-url}
{{- with .root.Values.redis.tls }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      {{- if .caKey }}
      - {key: {{ .caKey }}, path: redis-ca.crt}
      {{- end }}
      {{- if .certKey }}
      - {key: {{ .certKey }}, path: redis-client.crt}
      - {key: {{ .keyKey }}, path: redis-client.key}
      {{- end }}
{{- end }}
{{- end }}
{{- with .root.Values.callbacks }}
{{- if .existingSecret }}
- secret:
    name: {{ .existingSecret }}
    items:
      - {key: {{ .secretKey }}, path: callback-secret}
      {{- if .proxyKey }}
      - {key: {{ .proxyKey }}, path: callback-proxy}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}
