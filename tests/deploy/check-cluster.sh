#!/usr/bin/env bash
# One server with k3s: terraform, manifests, the recipes zlay-*, without that server (cluster.sh).
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

status=0
tests/deploy/cluster.sh </dev/null >"$scratch/output" 2>&1 || status=$?
while IFS= read -r line; do
  printf '  %s\n' "$line"
  case $line in
    'ok    '*) echo ok >>"$results" ;;
    'FAIL  '*) if [ "$results" != /dev/null ]; then echo "${line#FAIL  }" >>"$results.failed"; fi ;;
  esac
done <"$scratch/output"
exit "$status"
