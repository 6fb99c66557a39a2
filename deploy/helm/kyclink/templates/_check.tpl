{{/* Refuses values that the schema cannot refuse, each with a sentence. */}}
{{- define "kyclink.check" -}}
{{- $v := .Values -}}
{{- if not $v.image.repository }}{{ fail "image.repository is missing; set it to where you pushed the image, such as registry.example/kyclink" }}{{ end -}}
{{- if not $v.redis.existingSecret }}{{ fail "redis.existingSecret is missing; create a Secret with the URL of Redis, and set redis.existingSecret to its name" }}{{ end -}}
{{- $tls := $v.redis.tls -}}
{{- if and $tls.certKey (not $tls.keyKey) }}{{ fail "redis.tls.certKey is set without redis.tls.keyKey; set both or neither" }}{{ end -}}
{{- if and $tls.keyKey (not $tls.certKey) }}{{ fail "redis.tls.keyKey is set without redis.tls.certKey; set both or neither" }}{{ end -}}
{{- if and $tls.certKey (not $tls.existingSecret) }}{{ fail "redis.tls.certKey is a key of redis.tls.existingSecret, which is missing; set it, or unset redis.tls.certKey" }}{{ end -}}
{{- if and $tls.existingSecret (not $tls.caKey) (not $tls.certKey) }}{{ fail "redis.tls.existingSecret is set without redis.tls.caKey and redis.tls.certKey; set one of them, or unset it" }}{{ end -}}
{{- if not (or $v.faceki.existingSecret $v.worker.accounts.existingSecret) }}{{ fail "faceki.existingSecret is missing; create a Secret with the client id and the client secret, and set faceki.existingSecret to its name" }}{{ end -}}
{{- if and $v.image.tag $v.image.digest }}{{ fail "image.tag and image.digest are both set; unset one of them" }}{{ end -}}
{{- if and $v.callbacks.proxyKey (not $v.callbacks.existingSecret) }}{{ fail "callbacks.proxyKey is a key of callbacks.existingSecret, which is missing; set it, or unset callbacks.proxyKey" }}{{ end -}}
{{- if and $v.settings.KYCLINK_CALLBACK_HOSTS (not $v.callbacks.existingSecret) }}{{ fail "settings.KYCLINK_CALLBACK_HOSTS turns callbacks on, but callbacks.existingSecret is missing; set it to the Secret that signs them" }}{{ end -}}
{{- if and $v.ingress.enabled $v.route.enabled }}{{ fail "ingress.enabled and route.enabled are both true; use one of them" }}{{ end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) }}{{ fail "ingress.host is missing; set it to the host name of the API" }}{{ end -}}
{{- if and $v.route.enabled (not $v.route.parentRefs) }}{{ fail "route.parentRefs is empty; name the Gateway that the route belongs to" }}{{ end -}}
{{- if $v.worker.autoscaling.enabled -}}
{{- if not $v.worker.autoscaling.prometheus }}{{ fail "worker.autoscaling.prometheus is missing; set it to the URL of Prometheus" }}{{ end -}}
{{- if $v.worker.accounts.existingSecret }}{{ fail "worker.autoscaling follows the backlog of one account, and worker.accounts.existingSecret has several; use one of them" }}{{ end -}}
{{- if not $v.serviceMonitor.enabled }}{{ fail "worker.autoscaling needs serviceMonitor.enabled; its query reads the metrics by the labels that the ServiceMonitor gives them" }}{{ end -}}
{{- if not (regexMatch "^[0-9]+$" (default "auto" $v.settings.KYCLINK_CONCURRENCY)) }}{{ fail "worker.autoscaling needs a number in settings.KYCLINK_CONCURRENCY; with auto, a worker makes as many calls as the rate permits, and more workers make no more" }}{{ end -}}
{{- if gt (int $v.worker.autoscaling.minReplicas) (int $v.worker.autoscaling.maxReplicas) }}{{ fail (printf "worker.autoscaling.minReplicas is %d, which is more than maxReplicas, %d; lower it" (int $v.worker.autoscaling.minReplicas) (int $v.worker.autoscaling.maxReplicas)) }}{{ end -}}
{{- end -}}
{{- $managed := splitList " " (include "kyclink.managed" . | trim) -}}
{{- $names := list -}}
{{- range $v.extraEnv -}}
{{- if has .name $managed }}{{ fail (printf "extraEnv sets %s, which the chart sets itself; use the chart's own value for it" .name) }}{{ end -}}
{{- if hasKey $v.settings .name }}{{ fail (printf "extraEnv and settings both set %s; remove one of them" .name) }}{{ end -}}
{{- if has .name $names }}{{ fail (printf "extraEnv sets %s twice; remove one of them" .name) }}{{ end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
