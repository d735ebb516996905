#!/usr/bin/env bash
# Prints what is in deploy/monitoring as manifests: a PrometheusRule for the Prometheus operator, a ConfigMap
# for Grafana's sidecar. `just zlay-deploy` applies them, so that they can not be stale.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source_dir=deploy/monitoring
labels='app.kubernetes.io/name: relay, app.kubernetes.io/part-of: zlay'
shopt -s nullglob

rules() {
  local file
  printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: relay\n  namespace: zlay\n'
  printf '  labels: { %s }\nspec:\n  groups:\n' "$labels"
  for file in "$source_dir"/*.y*ml; do
    # Not the settings of Prometheus, and not the tests of the rules.
    grep -q '^groups:' "$file" || continue
    # What is below `groups:`, two columns further in.
    awk '/^groups:/ { on = 1; next } /^[^ #]/ { on = 0 } on { print ($0 == "" ? "" : "  " $0) }' "$file"
  done
}

dashboards() {
  local file
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: relay-dashboards\n  namespace: zlay\n'
  printf '  labels: { grafana_dashboard: "1", %s }\ndata:\n' "$labels"
  for file in "$source_dir"/*.json; do
    printf '  %s: |\n' "${file##*/}"
    sed 's/^\(.\)/    \1/' "$file"
  done
}

rules
echo ---
dashboards
