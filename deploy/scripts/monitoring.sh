#!/usr/bin/env bash
# Makes deploy/k3s/monitoring/{rules,dashboards}.yaml of what is in deploy/monitoring, for the Prometheus
# operator and for Grafana's sidecar. With --check it changes nothing, and fails where they are stale.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source_dir=deploy/monitoring
target=deploy/k3s/monitoring
labels='{ app.kubernetes.io/name: relay, app.kubernetes.io/part-of: zlay }'

shopt -s nullglob globstar

rules() {
  local file
  printf '# Made by deploy/scripts/monitoring.sh of %s; change those.\n' "$source_dir"
  printf 'apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: relay\n  namespace: zlay\n'
  printf '  labels: %s\nspec:\n  groups:\n' "$labels"
  for file in "$source_dir"/**/*.y*ml; do
    grep -q '^groups:' "$file" || continue
    [[ $file == *test* ]] && continue
    # What is below `groups:`, two columns further in.
    awk '/^groups:/ { on = 1; next } /^[^ #-]/ { on = 0 } on { print ($0 == "" ? "" : "  " $0) }' "$file" |
      awk 'NR == 1 && $0 !~ /^    / { pad = "  " } { print ($0 == "" ? "" : pad $0) }'
  done
}

dashboards() {
  local file
  printf '# Made by deploy/scripts/monitoring.sh of %s; change those.\n' "$source_dir"
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: relay-dashboards\n  namespace: zlay\n'
  printf '  labels: { grafana_dashboard: "1", app.kubernetes.io/name: relay, app.kubernetes.io/part-of: zlay }\ndata:\n'
  for file in "$source_dir"/**/*.json; do
    grep -q '"panels"' "$file" || continue
    printf '  %s: |\n' "$(basename "$file")"
    sed 's/^\(.\)/    \1/' "$file"
  done
}

# `into NAME`: what comes becomes the manifest, or is compared with it.
into() {
  if [ "$mode" = --check ]; then diff -u "$target/$1.yaml" -; else cat >"$target/$1.yaml"; fi
}

mode=${1-}
if ! rules | into rules || ! dashboards | into dashboards; then
  echo "stale: run \"just zlay-monitoring\"" >&2
  exit 1
fi
