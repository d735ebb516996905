#!/usr/bin/env bash
# Whether the relay is well: from inside, and from here. Exit code 0 if so.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need ZLAY_DOMAIN
need_programs kubectl curl
need_kubeconfig
proxy=/api/v1/namespaces/zlay/services/relay-internal:internal/proxy

step 'alive' '"just zlay-logs --previous"; docs/operations.md, "Not alive"'
k get --raw $proxy/healthz
dry_run || echo
step 'ready' '"just zlay-logs"; docs/operations.md, "Not ready"'
k get --raw $proxy/readyz
dry_run || echo
step "https://$ZLAY_DOMAIN" 'DNS, certificate or Traefik: "just zlay-status"'
run curl -sS --fail-with-body --max-time 10 "https://$ZLAY_DOMAIN/xrpc/_health"
dry_run || echo
