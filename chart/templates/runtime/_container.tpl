{{/* The runtime's container, with and without KServe. */}}
{{- define "diffusers-mcp.runtimeContainer" -}}
{{- $runtime := .Values.runtime -}}
{{- $model := $runtime.model -}}
image: {{ include "diffusers-mcp.runtimeImage" . }}
imagePullPolicy: {{ $runtime.image.pullPolicy }}
env:
  - { name: MODEL_ID, value: {{ get (dict "hub" $model.id "image" "/models/icons") $model.source | default "/mnt/models" | quote }} }
  - { name: MODEL_NAME, value: {{ $runtime.modelName | quote }} }
  - { name: DTYPE, value: {{ $runtime.dtype }} }
  - { name: ENABLE_LOW_CPU_MEM, value: {{ $runtime.lowCpuMem | quote }} }
  - { name: ENABLE_ATTENTION_SLICING, value: {{ $runtime.attentionSlicing | quote }} }
  - { name: ENABLE_VAE_SLICING, value: {{ $runtime.vaeSlicing | quote }} }
  - { name: ENABLE_CPU_OFFLOAD, value: {{ $runtime.cpuOffload | quote }} }
  - { name: DRAIN_SECONDS, value: {{ int $runtime.drainSeconds | quote }} }
  {{- if and (eq $model.source "hub") $model.hubTokenSecret }}
  - { name: HF_TOKEN_PATH, value: /run/secrets/diffusers-runtime/HF_TOKEN }
  {{- end }}
  {{- with $runtime.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  # KServe's Service uses the first port.
  - { name: http, containerPort: 8080, protocol: TCP }
  - { name: metrics, containerPort: 8888, protocol: TCP }
securityContext: {{- include "diffusers-mcp.containerSecurity" . | nindent 2 }}
resources: {{- include "diffusers-mcp.runtimeResources" . | nindent 2 }}
# The container answers while it loads and draws; it is ready after a warm-up step. A load that hangs is restarted.
startupProbe:
  httpGet: { path: /v2/health/ready, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ mul (int $runtime.startupMinutes) 12 }}
livenessProbe:
  httpGet: { path: /health, port: http }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /v2/models/{{ $runtime.modelName }}/ready, port: http }
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- with int $runtime.drainDelaySeconds }}
# Kubernetes takes a stopping pod out of DNS at once, and servers see that some seconds later. Until then it draws what they send.
lifecycle:
  preStop:
    exec: { command: [sleep, {{ . | quote }}] }
{{- end }}
volumeMounts:
  - { name: tmp, mountPath: /tmp }
  - { name: shm, mountPath: /dev/shm }
  {{- if eq $model.source "hub" }}
  - { name: cache, mountPath: /cache }
  {{- if $model.hubTokenSecret }}
  - { name: hub-token, mountPath: /run/secrets/diffusers-runtime, readOnly: true }
  {{- end }}
  {{- end }}
  {{- if and (eq $model.source "pvc") (eq $runtime.mode "deployment") }}
  - name: model
    mountPath: /mnt/models
    readOnly: true
    {{- with $model.pvc.path }}
    subPath: {{ . }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* The runtime's resources with its GPUs; requests and limits of GPUs are equal. */}}
{{- define "diffusers-mcp.runtimeResources" -}}
{{- $resources := deepCopy .Values.runtime.resources -}}
{{- if gt (int .Values.runtime.gpu.count) 0 -}}
{{- $gpu := dict .Values.runtime.gpu.resource (.Values.runtime.gpu.count | toString) -}}
{{- $resources = mergeOverwrite $resources (dict "requests" $gpu "limits" $gpu) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "diffusers-mcp.runtimeVolumes" -}}
{{- $runtime := .Values.runtime -}}
{{- $model := $runtime.model -}}
- name: tmp
  emptyDir: { sizeLimit: 1Gi }
- name: shm
  emptyDir: { medium: Memory, sizeLimit: {{ $runtime.shmSize }} }
{{- if eq $model.source "hub" }}
- name: cache
  {{- if $runtime.cache.existingClaim }}
  persistentVolumeClaim: { claimName: {{ $runtime.cache.existingClaim }} }
  {{- else if $runtime.cache.persistent }}
  persistentVolumeClaim: { claimName: {{ $runtime.name }} }
  {{- else }}
  emptyDir: { sizeLimit: {{ $runtime.cache.size }} }
  {{- end }}
{{- with $model.hubTokenSecret }}
- name: hub-token
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items: [{ key: HF_TOKEN, path: HF_TOKEN }]
{{- end }}
{{- end }}
{{- if and (eq $model.source "pvc") (eq $runtime.mode "deployment") }}
- name: model
  persistentVolumeClaim: { claimName: {{ $model.pvc.claim }}, readOnly: true }
{{- end }}
{{- end }}

{{/* Labels that select the runtime's pods: KServe's labels if KServe makes the pods. */}}
{{- define "diffusers-mcp.runtimeSelector" -}}
{{- if eq .Values.runtime.mode "kserve" -}}
serving.kserve.io/inferenceservice: {{ .Values.runtime.name }}
component: predictor
{{- else -}}
{{ include "diffusers-mcp.runtimeLabel" .Values.runtime.name }}
{{- end -}}
{{- end }}

{{/* Placement and identity of the runtime's pods: fields of a pod, and of KServe's predictor. */}}
{{- define "diffusers-mcp.runtimePlacement" -}}
{{- $runtime := .Values.runtime -}}
serviceAccountName: {{ $runtime.name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $runtime.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $runtime.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
securityContext: {{- include "diffusers-mcp.podSecurity" (dict "root" . "uid" 10001 "more" $runtime.podSecurityContext) | nindent 2 }}
terminationGracePeriodSeconds: {{ add (int $runtime.drainDelaySeconds) (int $runtime.drainSeconds) 10 }}
{{- with $runtime.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $runtime.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  {{- if $runtime.affinity }}
  {{- toYaml $runtime.affinity | nindent 2 }}
  {{- else }}
  {{- include "diffusers-mcp.apart" (include "diffusers-mcp.runtimeSelector" .) | nindent 2 }}
  {{- end }}
topologySpreadConstraints: {{- include "diffusers-mcp.spread" (include "diffusers-mcp.runtimeSelector" .) | nindent 2 }}
{{- end }}

{{/* There is no second GPU for a new pod, so the old pod stops first. */}}
{{- define "diffusers-mcp.runtimeStrategy" -}}
type: RollingUpdate
rollingUpdate:
  {{- if gt (int .Values.runtime.gpu.count) 0 }}
  maxUnavailable: 1
  maxSurge: 0
  {{- else }}
  maxUnavailable: 0
  maxSurge: 1
  {{- end }}
{{- end }}

{{/* What an autoscaler scales: KServe's Deployment has a name of its own. */}}
{{- define "diffusers-mcp.scaleTarget" -}}
apiVersion: apps/v1
kind: Deployment
name: {{ .Values.runtime.name }}{{ if eq .Values.runtime.mode "kserve" }}-predictor{{ end }}
{{- end }}
