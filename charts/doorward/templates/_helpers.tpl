{{- define "doorward.name" -}}
{{- if contains "doorward" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-doorward" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "doorward.selector" -}}
app.kubernetes.io/name: doorward
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "doorward.labels" -}}
{{ include "doorward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "doorward.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "doorward.toml" -}}
{{ .Values.settings | trim }}
{{ range concat .Values.routes .Values.extraRoutes }}
[[route]]
path = {{ .path | mustToRawJson }}
{{- with .methods }}
methods = {{ . | mustToRawJson }}
{{- end }}
{{- with .hosts }}
hosts = {{ . | mustToRawJson }}
{{- end }}
allow = {{ .allow | mustToRawJson }}
{{- if index . "basic-keys" }}
basic-keys = true
{{- end }}
{{- with .audience }}
audience = {{ . | mustToRawJson }}
{{- end }}
{{ end }}
{{- end -}}

{{- /* What every pod of Doorward has in common. */ -}}
{{- define "doorward.pod" -}}
serviceAccountName: {{ include "doorward.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- end -}}

{{- define "doorward.container" -}}
image: {{ include "doorward.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
{{- end -}}

{{- define "doorward.env" -}}
- name: DOORWARD_CONFIG
  value: /etc/doorward/doorward.toml
{{- if eq .Values.database.engine "postgres" }}
- name: DATABASE_URL
  value: {{ printf "postgres://%s@%s/%s" (.Values.database.user | urlquery | replace "+" "%20") .Values.database.host (.Values.database.name | urlquery | replace "+" "%20") | quote }}
- name: DOORWARD_DATABASE__PASSWORD_FILE
  value: /run/secrets/doorward/postgres-password
{{- else }}
- name: MYSQL_HOST
  value: {{ .Values.database.host | quote }}
- name: MYSQL_USER
  value: {{ .Values.database.user | quote }}
- name: MYSQL_DB
  value: {{ .Values.database.name | quote }}
- name: MYSQL_PASSWORD_FILE
  value: /run/secrets/doorward/mysql-password
{{- end }}
{{- end -}}
