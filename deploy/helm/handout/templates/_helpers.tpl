{{- define "handout.name" -}}
{{ default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "handout.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "handout.name" .) .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "handout.name" .) | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "handout.selector" -}}
app.kubernetes.io/name: {{ include "handout.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "handout.labels" -}}
{{ include "handout.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "handout.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "handout.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "handout.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end }}

{{- define "handout.secretKey" -}}
{{ default (printf "%s-key" (include "handout.fullname" .)) .Values.secretKey.existingSecret }}
{{- end }}

{{/* What values alone cannot express, and would fail in the pods or lose records. */}}
{{- define "handout.validate" -}}
{{- $v := .Values -}}
{{- if not (trim $v.config) }}{{ fail "config is empty: put the text of config.toml there, e.g. by --set-file config=config.toml" }}{{ end -}}
{{- $permits := regexMatch "(?m)^\\s*(\\[\\[\\s*allow\\s*\\]\\]|allow\\s*=)" $v.config -}}
{{- range $v.extraEnv }}{{ if eq .name "HANDOUT_ALLOW" }}{{ $permits = true }}{{ end }}{{ end -}}
{{- if not $permits }}{{ fail "config has no [[allow]] rule, so that every job would be rejected: write the rules, in a config.toml of your own" }}{{ end -}}
{{- if not (or $v.secretKey.existingSecret $v.secretKey.base64) }}{{ fail "secretKey.existingSecret is missing: create the Secret with `kubectl create secret generic handout-key --from-file=secret.key` and name it" }}{{ end -}}
{{- if $v.secretKey.base64 }}{{ if ne (len (b64dec $v.secretKey.base64)) 32 }}{{ fail "secretKey.base64 does not have 32 bytes: make it with `head -c 32 /dev/urandom | base64`" }}{{ end }}{{ end -}}
{{- $shared := regexMatch "(?m)^[^#\n]*kind\\s*=\\s*[\"']s3[\"']" $v.config -}}
{{- $sqs := regexMatch "(?m)^[^#\n]*kind\\s*=\\s*[\"']sqs[\"']" $v.config -}}
{{- if or (gt (int $v.worker.replicas) 1) $v.keda.enabled }}{{ if not (and $shared $sqs) }}{{ fail "several workers need queue.kind = \"sqs\" and ledger.kind = \"s3\" in config: SQLite is a file of one pod" }}{{ end }}{{ end -}}
{{- if $v.portal.enabled -}}
{{- if not $v.portal.publicUrl }}{{ fail "portal.publicUrl is missing: the URL that mails say, such as https://files.acme.example" }}{{ end -}}
{{- if and $v.portal.separate (not $shared) }}{{ fail "portal.separate needs ledger.kind = \"s3\" in config: set it to false, and the worker serves the portal" }}{{ end -}}
{{- if and $v.portal.ingress.enabled (not $v.portal.ingress.tlsSecretName) }}{{ fail "portal.ingress.tlsSecretName is missing: links of the portal are secrets, which must not travel without TLS" }}{{ end -}}
{{- end -}}
{{- if $v.keda.enabled }}{{ if not (and $v.keda.queueUrl $v.keda.region) }}{{ fail "keda.queueUrl and keda.region are missing: the queue by whose length KEDA scales" }}{{ end }}{{ end -}}
{{- end }}

{{/* The pod of a worker or a portal. */}}
{{- define "handout.pod" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $serves := and $v.portal.enabled (or (eq .component "portal") (not $v.portal.separate)) -}}
metadata:
  annotations:
    checksum/config: {{ printf "%s%s" $v.config (toJson $v.configFiles) | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "handout.labels" . | nindent 4 }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "handout.serviceAccount" $root }}
  # Handout does not call the API of Kubernetes. IRSA and Pod Identity mount tokens of their own.
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int $v.gracePeriodSeconds) 20 }}
  {{- with $v.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml $v.podSecurityContext | nindent 4 }}
  containers:
    - name: handout
      image: {{ include "handout.image" $root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      command: [handout]
      args: [{{ ternary "portal" "run" (eq .component "portal") }}, --config, /etc/handout/config.toml]
      env:
        # Below the mount, since Handout keeps its directory private, and the mount itself is root's.
        - name: HANDOUT_STATE_DIR
          value: /var/lib/handout/state
        - name: HANDOUT_SECRET_KEY_FILE
          value: /etc/handout/secret.key
        - name: HANDOUT_HTTP__LISTEN
          value: {{ printf "%s:9464" $v.listenAddress | quote }}
        - name: HANDOUT_QUEUE__GRACE_PERIOD
          value: {{ printf "%ds" (int $v.gracePeriodSeconds) | quote }}
        {{- if $v.portal.enabled }}
        - name: HANDOUT_PORTAL__PUBLIC_URL
          value: {{ $v.portal.publicUrl | quote }}
        {{- end }}
        {{- if $serves }}
        - name: HANDOUT_PORTAL__LISTEN
          value: {{ printf "%s:9480" $v.listenAddress | quote }}
        {{- with $v.portal.trustedProxies }}
        - name: HANDOUT_PORTAL__TRUSTED_PROXIES
          value: {{ toJson . | quote }}
        {{- end }}
        {{- end }}
        {{- if $v.awsCredentials.existingSecret }}
        - name: AWS_SHARED_CREDENTIALS_FILE
          value: /etc/handout/aws-credentials
        {{- end }}
        {{- with $v.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 9464
        {{- if $serves }}
        - name: portal
          containerPort: 9480
        {{- end }}
      # /live answers while a dependency is down, which a restart does not repair; /ready says which.
      livenessProbe:
        httpGet:
          path: /live
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          path: /ready
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
      {{- if $serves }}
      lifecycle:
        preStop:
          # Until no balancer sends requests here any more.
          sleep:
            seconds: 5
      {{- end }}
      resources:
        {{- toYaml .resources | nindent 8 }}
      securityContext:
        {{- toYaml $v.securityContext | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/handout
          readOnly: true
        - name: state
          mountPath: /var/lib/handout
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: config
      projected:
        defaultMode: 0440
        sources:
          - configMap:
              name: {{ include "handout.fullname" $root }}
          - secret:
              name: {{ include "handout.secretKey" $root }}
              items:
                - key: secret.key
                  path: secret.key
          {{- with $v.awsCredentials.existingSecret }}
          - secret:
              name: {{ . }}
              items:
                - key: {{ $v.awsCredentials.key }}
                  path: aws-credentials
          {{- end }}
          {{- range $v.secretFiles }}
          - secret:
              name: {{ . }}
          {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 1Gi
  {{- with $v.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $v.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* A StatefulSet with its governing Service, of the component. */}}
{{- define "handout.statefulSet" -}}
{{- $root := .root -}}
{{- $v := $root.Values -}}
{{- $name := printf "%s-%s" (include "handout.fullname" $root) .component -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "handout.labels" . | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  serviceName: {{ $name }}
  # Pods do not wait for each other, so that one whose relay is down holds none back.
  podManagementPolicy: Parallel
  # A volume has an audit log, which is still needed when its worker is gone.
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: Retain
    whenScaled: Retain
  selector:
    matchLabels:
      {{- include "handout.selector" . | nindent 6 }}
  template:
    {{- include "handout.pod" . | nindent 4 }}
  volumeClaimTemplates:
    - apiVersion: v1
      kind: PersistentVolumeClaim
      metadata:
        name: state
      spec:
        accessModes:
          {{- toYaml $v.state.accessModes | nindent 10 }}
        {{- with $v.state.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ $v.state.size }}
---
# The governing Service of the pods, by which Prometheus finds them; it has no address.
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "handout.labels" . | nindent 4 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: true
  selector:
    {{- include "handout.selector" . | nindent 4 }}
  ports:
    - name: http
      port: 9464
      targetPort: http
{{- if $v.podDisruptionBudget.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "handout.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ $v.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready may be evicted: it waits for a dependency, and is as well off elsewhere.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "handout.selector" . | nindent 6 }}
{{- end }}
{{- end }}
