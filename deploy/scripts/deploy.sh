#!/usr/bin/env bash
# Brings everything on the cluster to what deploy/k3s and .env say: cert-manager, Postgres, the relay,
# monitoring. Says nothing new to what is as it should be, so it can be run at any time.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need ZLAY_DOMAIN LETSENCRYPT_EMAIL ZLAY_ADMIN_PASSWORD ZLAY_POSTGRES_PASSWORD
need_programs kubectl helm
need_kubeconfig
[ ${#ZLAY_ADMIN_PASSWORD} -ge 12 ] || die 'ZLAY_ADMIN_PASSWORD has less than 12 characters'

chart() {
  local release=$1 namespace=$2 repository=$3 name=$4 version=$5
  run helm --kubeconfig "$state/kubeconfig" upgrade --install "$release" "$name" --repo "$repository" \
    --version "$version" --namespace "$namespace" --values "$k3s_dir/values/$name.yaml" \
    --wait --timeout 10m
}

step 'namespaces' 'is the cluster there ("just zlay-status")? Else "just zlay-kubeconfig"'
apply_files "$k3s_dir/00-namespaces.yaml"

step 'secrets'
password=$(url_encoded "$ZLAY_POSTGRES_PASSWORD")
secret zlay postgres POSTGRES_PASSWORD "$ZLAY_POSTGRES_PASSWORD" |
  feed 'Secret zlay/postgres: POSTGRES_PASSWORD' "${apply[@]}"
secret zlay relay RELAY_ADMIN_PASSWORD "$ZLAY_ADMIN_PASSWORD" \
  DATABASE_URL "postgres://relay:$password@postgres/zlay?sslmode=disable" |
  feed 'Secret zlay/relay: RELAY_ADMIN_PASSWORD, DATABASE_URL' "${apply[@]}"
secret monitoring grafana-admin admin-user admin \
  admin-password "${ZLAY_GRAFANA_PASSWORD:-$ZLAY_ADMIN_PASSWORD}" |
  feed 'Secret monitoring/grafana-admin: admin-user, admin-password' "${apply[@]}"

step 'cert-manager' '"kubectl get pods -n cert-manager"; then "just zlay-deploy" again'
chart cert-manager cert-manager https://charts.jetstack.io cert-manager "$cert_manager_version"
apply_files "$k3s_dir/10-issuers.yaml"

step 'Postgres' '"kubectl describe pod/postgres-0 -n zlay", "kubectl logs postgres-0 -n zlay"'
apply_files "$k3s_dir/50-network-policies.yaml" "$k3s_dir/20-postgres.yaml"
k rollout status statefulset/postgres -n zlay --timeout=10m
# A password that was changed in .env: the database keeps the first one otherwise. psql reads it from its
# standard input, and the line is in no history and no log.
quoted=${ZLAY_POSTGRES_PASSWORD//\'/\'\'}
printf "SET log_statement = 'none';\nSET log_min_duration_statement = -1;\nALTER ROLE relay PASSWORD '%s';\n" "$quoted" |
  feed 'ALTER ROLE relay PASSWORD' "${kube[@]}" exec -i -n zlay postgres-0 -- \
    psql -q -v ON_ERROR_STOP=1 -U relay -d zlay

step 'the relay' '"just zlay-logs"; what it was before: "just zlay-rollback"'
apply_files "$k3s_dir/30-relay-config.yaml"
version_of='jsonpath={.metadata.resourceVersion}'
config_version='' secret_version=''
capture config_version 1 "${kube[@]}" get configmap relay -n zlay -o "$version_of"
capture secret_version 1 "${kube[@]}" get secret relay -n zlay -o "$version_of"
settings_version=$config_version-$secret_version
# What runs stays, whichever commit it is.
capture image localhost/zlay:COMMIT "${kube[@]}" get deployment relay -n zlay --ignore-not-found \
  -o 'jsonpath={.spec.template.spec.containers[0].image}'
if [ -n "$image" ] && [ "$image" != localhost/zlay:unpublished ]; then replicas=1; fi
apply_files "$k3s_dir/31-relay.yaml"
if [ "$replicas" = 1 ]; then k rollout status deployment/relay -n zlay --timeout=10m; fi

step 'Traefik' '"kubectl logs -n kube-system job/helm-install-traefik"'
apply_files "$k3s_dir/40-traefik.yaml" "$k3s_dir/41-ingress.yaml"

step 'monitoring' '"kubectl get pods -n monitoring"; then "just zlay-deploy" again'
chart monitoring monitoring https://prometheus-community.github.io/helm-charts kube-prometheus-stack \
  "$monitoring_version"
apply_files "$k3s_dir"/60-service-monitor.yaml
deploy/scripts/monitoring.sh | feed 'deploy/monitoring, as manifests' "${apply[@]}"

step 'done'
[ "$replicas" = 1 ] || say 'next: just zlay-publish-remote'
