{{/* Labels of every object; takes a dict of root and component. */}}
{{- define "diffusers-mcp.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "diffusers-mcp.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: diffusers-mcp
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels that select a component's pods. They never change. */}}
{{- define "diffusers-mcp.selector" -}}
app.kubernetes.io/name: diffusers-mcp
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Label of the runtime's pods in every release, with and without KServe; takes the runtime's name. */}}
{{- define "diffusers-mcp.runtimeLabel" -}}
diffusers-mcp/runtime: {{ . }}
{{- end }}

{{/* Reference of an image; a digest takes precedence over a tag. Takes a dict of image, where (its values key) and default (a tag). */}}
{{- define "diffusers-mcp.image" -}}
{{- $tag := .image.tag | default .default -}}
{{- if eq $tag "latest" -}}
{{- fail (printf "%s.tag: \"latest\" changes under a running release. Name a version, or a digest:\n\n%s" .where (include "diffusers-mcp.nested" (dict "path" .where "yaml" "digest: sha256:<64 hex digits>"))) -}}
{{- end -}}
{{- $name := .image.repository -}}
{{- with .image.registry -}}{{- $name = printf "%s/%s" (trimSuffix "/" .) $name -}}{{- end -}}
{{- if .image.digest -}}{{ $name }}@{{ .image.digest }}{{- else -}}{{ $name }}:{{ $tag }}{{- end -}}
{{- end }}

{{- define "diffusers-mcp.serverImage" -}}
{{- $default := ternary (printf "%s-deno" .Chart.AppVersion) .Chart.AppVersion (eq .Values.server.engine "deno") -}}
{{- include "diffusers-mcp.image" (dict "image" .Values.server.image "where" "server.image" "default" $default) -}}
{{- end }}

{{- define "diffusers-mcp.runtimeImage" -}}
{{- $default := ternary .Chart.AppVersion (printf "%s-cpu" .Chart.AppVersion) (gt (int .Values.runtime.gpu.count) 0) -}}
{{- include "diffusers-mcp.image" (dict "image" .Values.runtime.image "where" "runtime.image" "default" $default) -}}
{{- end }}

{{/* YAML under a dotted path, for the user to paste; takes a dict of path and yaml. */}}
{{- define "diffusers-mcp.nested" -}}
{{- $indent := 0 -}}
{{- range splitList "." .path -}}
{{ repeat $indent " " }}{{ . }}:{{ "\n" }}
{{- $indent = add $indent 2 | int -}}
{{- end -}}
{{ .yaml | indent $indent }}
{{- end }}

{{/* "true" if the values allow more than one server at a time. */}}
{{- define "diffusers-mcp.many" -}}
{{- if and .Values.server.enabled (or .Values.server.autoscaling.enabled (gt (int .Values.server.replicas) 1)) -}}true{{- end -}}
{{- end }}

{{/* "true" if the chart installs the runtime. */}}
{{- define "diffusers-mcp.ownRuntime" -}}
{{- if has .Values.runtime.mode (list "kserve" "deployment") -}}true{{- end -}}
{{- end }}

{{/* "true" if the chart makes an Ingress. */}}
{{- define "diffusers-mcp.ingress" -}}
{{- if and .Values.server.ingress.enabled (not .Values.openshift) -}}true{{- end -}}
{{- end }}

{{/* "true" if the chart makes a Route. */}}
{{- define "diffusers-mcp.route" -}}
{{- if and .Values.openshift .Values.server.route.enabled .Values.server.publicUrl -}}true{{- end -}}
{{- end }}

{{/* Host of publicUrl, without a port. */}}
{{- define "diffusers-mcp.publicHost" -}}
{{- (urlParse .Values.server.publicUrl).hostname -}}
{{- end }}

{{- define "diffusers-mcp.runtimeNamespace" -}}
{{- if eq .Values.runtime.mode "external" -}}{{- .Values.runtime.namespace | default .Release.Namespace -}}{{- else -}}{{- .Release.Namespace -}}{{- end -}}
{{- end }}

{{- define "diffusers-mcp.runtimeUrl" -}}
{{- if and (eq .Values.runtime.mode "external") .Values.runtime.url -}}
{{- .Values.runtime.url -}}
{{- else -}}
http://{{ .Values.runtime.name }}.{{ include "diffusers-mcp.runtimeNamespace" . }}.svc.{{ .Values.clusterDomain }}:8080
{{- end -}}
{{- end }}

{{/* "true" if the server finds each pod of the runtime by DNS. */}}
{{- define "diffusers-mcp.findsPods" -}}
{{- if or (include "diffusers-mcp.ownRuntime" .) (and (eq .Values.runtime.mode "external") (eq .Values.runtime.discovery "dns")) -}}true{{- end -}}
{{- end }}

{{/* The headless Service whose records are the runtime's ready pods. Its port is the one that the pods listen on. */}}
{{- define "diffusers-mcp.podsUrl" -}}
{{- if and (eq .Values.runtime.mode "external") .Values.runtime.url -}}
{{- .Values.runtime.url -}}
{{- else -}}
http://{{ .Values.runtime.name }}-pods.{{ include "diffusers-mcp.runtimeNamespace" . }}.svc.{{ .Values.clusterDomain }}:8080
{{- end -}}
{{- end }}

{{/* The targets as JSON for RUNTIMES: the runtime, then those of the user. */}}
{{- define "diffusers-mcp.targets" -}}
{{- $runtime := .Values.runtime -}}
{{- $targets := list -}}
{{- if ne $runtime.mode "embedded" -}}
{{- $own := dict "name" $runtime.name "kind" "kserve" "model" $runtime.modelName "queue" (int $runtime.queue) -}}
{{- if include "diffusers-mcp.findsPods" . -}}
{{- $own = merge $own (dict "url" (include "diffusers-mcp.podsUrl" .) "discovery" "dns" "slots" (int $runtime.slots)) -}}
{{- with int $runtime.concurrency -}}{{- $own = set $own "concurrency" . -}}{{- end -}}
{{- if and $runtime.autoscaling.enabled (eq (int $runtime.autoscaling.min) 0) -}}{{- $own = set $own "scaleFromZero" true -}}{{- end -}}
{{- else -}}
{{- $own = merge $own (dict "url" (include "diffusers-mcp.runtimeUrl" .) "concurrency" (include "diffusers-mcp.concurrency" . | int)) -}}
{{- end -}}
{{- $targets = append $targets $own -}}
{{- end -}}
{{- concat $targets .Values.server.targets | toJson -}}
{{- end }}

{{/* Pictures at once on a runtime with one address. */}}
{{- define "diffusers-mcp.concurrency" -}}
{{- $all := mul (int .Values.runtime.replicas) (int .Values.runtime.slots) -}}
{{- with int .Values.runtime.concurrency -}}{{- min . $all -}}{{- else -}}{{- $all -}}{{- end -}}
{{- end }}

{{/* "true" if the chart makes an autoscaler of the runtime. */}}
{{- define "diffusers-mcp.scalesRuntime" -}}
{{- if and (include "diffusers-mcp.ownRuntime" .) .Values.runtime.autoscaling.enabled -}}true{{- end -}}
{{- end }}

{{/* Whole seconds from SIGTERM to SIGKILL: both drain times and a margin of 10 s. */}}
{{- define "diffusers-mcp.gracePeriod" -}}
{{- add (div (add (int .Values.server.drainDelayMs) (int .Values.server.drainMs) 999) 1000) 10 -}}
{{- end }}

{{- define "diffusers-mcp.serverSecret" -}}
{{- .Values.server.existingSecret | default .Release.Name -}}
{{- end }}

{{- define "diffusers-mcp.valkeySecret" -}}
{{- .Values.valkey.existingSecret | default (printf "%s-valkey" .Release.Name) -}}
{{- end }}

{{/* The server's own keys; without authentication, no keys that would contradict AUTH=none. */}}
{{- define "diffusers-mcp.serverSecretKeys" -}}
{{- $keys := list -}}
{{- range .Values.server.secretKeys -}}
{{- if or $.Values.server.auth.enabled (eq . "IMAGE_URL_KEY") -}}{{- $keys = append $keys . -}}{{- end -}}
{{- end -}}
{{- $keys | toJson -}}
{{- end }}

{{/* Every secret of the server: [{secret, keys}]. Each key becomes a file and NAME_FILE. */}}
{{- define "diffusers-mcp.secrets" -}}
{{- $secrets := list -}}
{{- with include "diffusers-mcp.serverSecretKeys" . | fromJsonArray -}}
{{- $secrets = append $secrets (dict "secret" (include "diffusers-mcp.serverSecret" $) "keys" .) -}}
{{- end -}}
{{- if ne .Values.valkey.mode "none" -}}
{{- $secrets = append $secrets (dict "secret" (include "diffusers-mcp.valkeySecret" .) "keys" (list "VALKEY_URL")) -}}
{{- end -}}
{{- if eq .Values.images.backend "s3" -}}
{{- $secrets = append $secrets (dict "secret" .Values.images.s3.existingSecret "keys" (list "IMAGES_S3_ACCESS_KEY" "IMAGES_S3_SECRET_KEY")) -}}
{{- end -}}
{{- if .Values.xdp.baseUrl -}}
{{- $secrets = append $secrets (dict "secret" .Values.xdp.existingSecret "keys" (list "XDP_ACCESS_KEY" "XDP_SECRET_KEY")) -}}
{{- end -}}
{{- if and .Values.trino.url .Values.trino.existingSecret -}}
{{- $secrets = append $secrets (dict "secret" .Values.trino.existingSecret "keys" .Values.trino.secretKeys) -}}
{{- end -}}
{{- $secrets | toJson -}}
{{- end }}

{{/* Pod security that the "restricted" level accepts; takes a dict of root, uid and more (values that override it). */}}
{{- define "diffusers-mcp.podSecurity" -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if not .root.Values.openshift -}}
{{- $_ := merge $context (dict "runAsUser" (int .uid) "runAsGroup" (int .uid) "fsGroup" (int .uid) "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end -}}
{{- mergeOverwrite $context (deepCopy (.more | default dict)) | toYaml -}}
{{- end }}

{{- define "diffusers-mcp.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end }}

{{/* Pods on different nodes if possible; takes selector labels as YAML. */}}
{{- define "diffusers-mcp.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{- . | nindent 12 }}
{{- end }}

{{/* Pods spread over zones and nodes if possible; takes selector labels as YAML. */}}
{{- define "diffusers-mcp.spread" -}}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* Egress to the cluster's DNS: CoreDNS on 53, OpenShift's on 5353, the node-local cache by address. */}}
{{- define "diffusers-mcp.dnsEgress" -}}
- to:
    - namespaceSelector:
        matchExpressions:
          - key: kubernetes.io/metadata.name
            operator: In
            values: {{- toYaml .Values.networkPolicy.dnsNamespaces | nindent 14 }}
    {{- with .Values.networkPolicy.nodeLocalDns }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
  ports:
    {{- range list 53 5353 }}
    - { protocol: UDP, port: {{ . }} }
    - { protocol: TCP, port: {{ . }} }
    {{- end }}
{{- end }}

{{/* All but private, link-local and loopback networks, so no metadata service and no other pod. */}}
{{- define "diffusers-mcp.publicNetworks" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16]
- ipBlock:
    cidr: ::/0
    except: ["::1/128", fc00::/7, fe80::/10]
{{- end }}

{{/* One egress rule to a service outside the release; takes a dict of egress (values) and url. */}}
{{- define "diffusers-mcp.egressTo" -}}
{{- $url := urlParse (.url | default "") -}}
{{- $port := int (.egress.port | default 0) -}}
{{- if not $port -}}
{{- $port = regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | int | default (ternary 443 80 (eq $url.scheme "https")) -}}
{{- end -}}
- to:
    {{- if .egress.cidrs }}
    {{- range .egress.cidrs }}
    - ipBlock:
        cidr: {{ . }}
    {{- end }}
    {{- else if .egress.namespace }}
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: {{ .egress.namespace }}
    {{- else }}
    {{- include "diffusers-mcp.publicNetworks" . | nindent 4 }}
    {{- end }}
  ports:
    - { protocol: TCP, port: {{ $port }} }
{{- end }}

{{/* Peers that may scrape. */}}
{{- define "diffusers-mcp.monitoringPeers" -}}
{{- $namespaces := .Values.networkPolicy.monitoringNamespaces -}}
{{- if .Values.openshift -}}{{- $namespaces = concat $namespaces (list "openshift-monitoring" "openshift-user-workload-monitoring") -}}{{- end -}}
- namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{- toYaml $namespaces | nindent 10 }}
{{- end }}

{{/* How the engine runs one of the server's entries; takes a dict of root and entry. Deno gets only the permissions it needs; docs/security.md has the reason of each. */}}
{{- define "diffusers-mcp.command" -}}
{{- if eq .root.Values.server.engine "deno" -}}
["deno", "run", "--quiet", "--cached-only", "--no-prompt", "--allow-net", "--allow-env", "--allow-read=/app,/run/secrets/diffusers-mcp,/usr/bin/ldd", "--allow-sys=hostname", "--allow-ffi=/app/node_modules/@img", "--deny-run", "src/{{ .entry }}"]
{{- else -}}
["node", "src/{{ .entry }}"]
{{- end -}}
{{- end }}
