{{- define "tidegate.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* An image: a list of the chart's context and the repository. */}}
{{- define "tidegate.image" -}}
{{- $ := index . 0 -}}
{{- if $.Values.image.digest }}{{ index . 1 }}@{{ $.Values.image.digest }}{{ else }}{{ index . 1 }}:{{ default $.Chart.AppVersion $.Values.image.tag }}{{ end }}
{{- end }}

{{- /* The Secret with the gateway's certificate; empty where the host makes its own. */}}
{{- define "tidegate.certificate" -}}
{{- if .Values.tls.secretName }}{{ .Values.tls.secretName }}{{ else if .Values.tls.certManager.issuer }}{{ include "tidegate.name" . }}-tls{{ end }}
{{- end }}

{{- /* The name under which workers reach hosts. */}}
{{- define "tidegate.workers" -}}
{{ include "tidegate.name" . }}-workers.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "tidegate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "tidegate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- /* The probes of a worker. A host that is away is no reason to start it again. */}}
{{- define "tidegate.workerProbes" -}}
startupProbe:
  tcpSocket: { port: health }
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  tcpSocket: { port: health }
  periodSeconds: 20
readinessProbe:
  httpGet: { path: /health, port: health }
  periodSeconds: 5
{{- end }}

{{- /* What every worker is told: its part of the work, where its host is, and the token. Beside a host it shares the pod's
ports with it, which has 8080, 8081 and 9000. */}}
{{- define "tidegate.workerSettings" -}}
- { name: TIDEGATE_HEALTH_LISTEN, value: "{{ .Values.host.bind }}:8082" }
- name: TIDEGATE_WORKER_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: TIDEGATE_WORKER_TOKEN
  valueFrom: { secretKeyRef: { name: {{ .Values.secretName | quote }}, key: worker-token } }
{{- if .Values.worker.tls.hostSecretName }}
- { name: TIDEGATE_CERT_FILE, value: /etc/tidegate/tls/tls.crt }
- { name: TIDEGATE_KEY_FILE, value: /etc/tidegate/tls/tls.key }
- { name: TIDEGATE_CA_FILE, value: /etc/tidegate/tls/ca.crt }
{{- end }}
{{- with .Values.tracing.endpoint }}
- { name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }} }
{{- end }}
{{- end }}

{{- /* How a worker dials hosts by TLS. */}}
{{- define "tidegate.workerDials" -}}
- { name: TIDEGATE_HOST, value: "https://{{ include "tidegate.workers" . }}:8080" }
- { name: TIDEGATE_HOST_CA, value: /etc/tidegate/ca/ca.crt }
{{- end }}

{{- /* What a worker reads for TLS: a list of the chart's context and the Secret with its own certificate, which may be empty. */}}
{{- define "tidegate.workerVolumes" -}}
{{- $ := index . 0 -}}
- name: ca
  secret:
    secretName: {{ include "tidegate.certificate" $ }}
    defaultMode: 0440
    items: [{ key: ca.crt, path: ca.crt }]
{{- with index . 1 }}
- name: worker-tls
  secret: { secretName: {{ . | quote }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- define "tidegate.workerMounts" -}}
- { name: ca, mountPath: /etc/tidegate/ca, readOnly: true }
{{- if .Values.worker.tls.hostSecretName }}
- { name: worker-tls, mountPath: /etc/tidegate/tls, readOnly: true }
{{- end }}
{{- end }}

{{- /* What the pools that train have, `cpu` or `gpu` for each; empty where none trains. */}}
{{- define "tidegate.trainers" -}}
{{- range .Values.worker.pools }}{{ if ne (toString .part) "inference" }} {{ ternary "gpu" "cpu" (hasKey . "gpus") }}{{ end }}{{ end }}
{{- end }}

{{- /* Whether a pool answers inference. */}}
{{- define "tidegate.answers" -}}
{{- range .Values.worker.pools }}{{ if eq (toString .part) "inference" }}yes{{ end }}{{ end }}
{{- end }}

{{- /* A value as TOML has it: JSON, but for tables, and tables in them. */}}
{{- define "tidegate.toml" -}}
{{- if kindIs "map" . }}{ {{- range $nth, $key := keys . | sortAlpha }}{{ if $nth }},{{ end }} {{ $key | toJson }} = {{ include "tidegate.toml" (get $ $key) }}{{ end }} }{{ else }}{{ toJson . }}{{ end }}
{{- end }}

{{- /* What no schema can say. */}}
{{- define "tidegate.check" -}}
{{- $v := .Values -}}
{{- $scales := or $v.autoscaling.hpa.enabled $v.autoscaling.keda.enabled -}}
{{- if not $v.secretName }}{{ fail "`secretName` is missing: the name of a Secret with `api-token`, `worker-token`, `s3-access-key` and `s3-secret-key`" }}{{ end }}
{{- if and (eq $v.store.kind "aws") (not $v.store.aws.bucket) }}{{ fail "`store.aws.bucket` is missing: a store in AWS keeps its objects there" }}{{ end }}
{{- if and (eq $v.store.kind "embedded") $scales }}{{ fail "`autoscaling` is enabled, but an embedded store has one host; `store.kind` has to be `aws`" }}{{ end }}
{{- if and $v.autoscaling.hpa.enabled $v.autoscaling.keda.enabled }}{{ fail "`autoscaling.hpa` and `autoscaling.keda` are both enabled; the two would pull against each other" }}{{ end }}
{{- if and $v.autoscaling.keda.enabled $v.autoscaling.keda.cloudwatch.expression (not (or $v.autoscaling.keda.cloudwatch.region $v.store.aws.region)) }}{{ fail "`autoscaling.keda.cloudwatch.region` and `store.aws.region` are both missing: KEDA asks CloudWatch of one region" }}{{ end }}
{{- $tls := $v.worker.tls -}}
{{- $certified := compact (list $tls.hostSecretName $tls.secretName $tls.serverName) | len -}}
{{- if and $certified (lt $certified 3) }}{{ fail "`worker.tls` has `hostSecretName`, `secretName` and `serverName`, all three or none; some are missing" }}{{ end }}
{{- if and (or $v.worker.pools $certified) (not (include "tidegate.certificate" .)) }}{{ fail "`worker.pools` and `worker.tls` have workers dial the hosts by TLS; `tls.secretName` or `tls.certManager.issuer` has to name a certificate" }}{{ end }}
{{- range $pool, $of := $v.worker.pools }}
{{- if and (not $certified) (or (eq (toString $of.part) "inference") $of.tlsSecretName) }}{{ fail (printf "`worker.pools.%s` answers inference or has a certificate of its own; `worker.tls` has to name those of the hosts and of the other workers" $pool) }}{{ end }}
{{- if and $of.keda (hasKey $of "replicas") }}{{ fail (printf "`worker.pools.%s` has `replicas` and `keda`; the two would pull against each other" $pool) }}{{ end }}
{{- if and $of.keda (gt (dig "keda" "minReplicas" 0 $of | int) (dig "keda" "maxReplicas" 1 $of | int)) }}{{ fail (printf "`worker.pools.%s.keda` has a `minReplicas` above its `maxReplicas`" $pool) }}{{ end }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.paths) }}{{ fail "`ingress.paths` is empty: the routes of functions that the world may call" }}{{ end }}
{{- end }}
