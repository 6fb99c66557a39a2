{{- define "kyclink.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "kyclink.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kyclink.labels" -}}
{{ include "kyclink.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "kyclink.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* The limit of one call to FaceKi in seconds. */}}
{{- define "kyclink.timeout" -}}
{{- default "15s" .Values.settings.FACEKI_TIMEOUT | trimSuffix "s" -}}
{{- end -}}

{{- define "kyclink.account" -}}
{{- default "default" .Values.settings.KYCLINK_ACCOUNT -}}
{{- end -}}

{{/* The variables that the chart sets itself, separated by blanks. */}}
{{- define "kyclink.managed" -}}
KYCLINK_ACCOUNTS KYCLINK_REDIS_URL KYCLINK_REDIS_URL_FILE KYCLINK_REDIS_MODE KYCLINK_REDIS_CA KYCLINK_REDIS_CERT KYCLINK_REDIS_KEY FACEKI_CLIENT_ID FACEKI_CLIENT_ID_FILE FACEKI_CLIENT_SECRET FACEKI_CLIENT_SECRET_FILE KYCLINK_CALLBACK_SECRET KYCLINK_CALLBACK_SECRET_FILE KYCLINK_CALLBACK_PROXY KYCLINK_CALLBACK_PROXY_FILE KYCLINK_LISTEN KYCLINK_OPS_LISTEN KYCLINK_TLS_CERT KYCLINK_TLS_KEY GOMEMLIMIT
{{- end -}}
