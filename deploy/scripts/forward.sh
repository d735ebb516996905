#!/usr/bin/env bash
# Opens a port of this machine to what is not reachable from outside, until Ctrl-C: `admin` or `grafana`.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
case ${1-} in
  admin)
    say 'http://localhost:3001: /admin/…, /metrics, /memory.json, /readyz; until Ctrl-C'
    k port-forward -n zlay service/relay-internal 3001:3001
    ;;
  grafana)
    say 'http://localhost:3002, user admin; until Ctrl-C'
    k port-forward -n monitoring service/monitoring-grafana 3002:80
    ;;
  *) die 'admin or grafana' ;;
esac
