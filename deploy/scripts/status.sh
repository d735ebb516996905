#!/usr/bin/env bash
# What runs: nodes, pods, disk, certificate, and how the relay says it does.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need ZLAY_DOMAIN
need_programs kubectl curl
need_kubeconfig

step 'node' 'does "just zlay-ssh true" work? "just zlay-ssh systemctl status k3s"'
k get nodes -o wide
step 'pods'
k get pods -A -o wide
step 'image'
k get deployment relay -n zlay -o 'custom-columns=IMAGE:.spec.template.spec.containers[0].image,READY:.status.readyReplicas'
step 'volumes and backups'
k get pvc -A
k get cronjobs,jobs -n zlay
step 'certificate'
k get certificates -n zlay
step 'is the relay ready' '"just zlay-logs"; docs/operations.md, "Not ready"'
k get --raw /api/v1/namespaces/zlay/services/relay-internal:internal/proxy/readyz
dry_run || echo
step 'from outside' 'the relay is ready and the way to it is not: DNS, certificate, Traefik'
run curl -sS --fail-with-body --max-time 10 "https://$ZLAY_DOMAIN/xrpc/_health"
dry_run || echo
