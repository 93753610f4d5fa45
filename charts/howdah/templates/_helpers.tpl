{{- define "howdah.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "howdah.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "howdah.serviceAccountName" -}}
{{- default (include "howdah.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "howdah.podServiceAccountName" -}}
{{- required "podServiceAccount.name must name the members' account" .Values.podServiceAccount.name -}}
{{- end -}}

{{- define "howdah.image" -}}
{{- $repository := .Values.image.repository -}}
{{- if .Values.image.registry -}}{{- $repository = printf "%s/%s" .Values.image.registry $repository -}}{{- end -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}

{{- define "howdah.selector" -}}
app.kubernetes.io/name: {{ include "howdah.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "howdah.labels" -}}
{{ include "howdah.selector" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* The configuration, by groups. */}}
{{- define "howdah.configuration" -}}
{{- $kubernetes := merge (dict "pod_service_account_name" (include "howdah.podServiceAccountName" .)) .Values.configKubernetes -}}
{{- $configuration := merge (dict) .Values.configGeneral -}}
{{- if not (hasKey $configuration "docker_image") -}}
{{- $_ := set $configuration "docker_image" (include "howdah.image" .) -}}
{{- end -}}
{{- $groups := dict "users" .Values.configUsers "major_version_upgrade" .Values.configMajorVersionUpgrade "kubernetes" $kubernetes "postgres_pod_resources" .Values.configPostgresPodResources "timeouts" .Values.configTimeouts "load_balancer" .Values.configLoadBalancer "debug" .Values.configDebug "logging_rest_api" .Values.configLoggingRestApi "aws_or_gcp" .Values.configAwsOrGcp "logical_backup" .Values.configLogicalBackup "teams_api" .Values.configTeamsApi "connection_pooler" .Values.configConnectionPooler "patroni" .Values.configPatroni -}}
{{- range $group, $values := $groups -}}
{{- if $values -}}{{- $_ := set $configuration $group $values -}}{{- end -}}
{{- end -}}
{{- toYaml $configuration -}}
{{- end -}}

{{/* A value of the flat form: lists with commas, maps as key:value. */}}
{{- define "howdah.flat" -}}
{{- if kindIs "slice" . -}}
{{- range . -}}{{- if kindIs "map" . -}}{{- fail "a list of objects (sidecars, infrastructure_roles_secrets) has no form in a ConfigMap: use configTarget OperatorConfigurationCRD" -}}{{- end -}}{{- end -}}
{{- join "," . -}}
{{- else if kindIs "map" . -}}
{{- $pairs := list -}}{{- range $key, $value := . -}}{{- $pairs = append $pairs (printf "%s:%v" $key $value) -}}{{- end -}}{{- join "," $pairs -}}
{{- else if kindIs "float64" . -}}{{- if eq (floor .) . -}}{{- int64 . -}}{{- else -}}{{- toString . -}}{{- end -}}
{{- else -}}{{- . -}}{{- end -}}
{{- end -}}
