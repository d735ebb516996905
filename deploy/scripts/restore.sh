#!/usr/bin/env bash
# Puts a dump back: `zlay-restore FILE`. Or tries it in a database beside, which changes nothing:
# `zlay-restore FILE drill`.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
file=${1-}
[ -n "$file" ] || die 'which file? "just zlay-restore FILE", or "just zlay-restore FILE drill"'
dry_run || [ -f "$file" ] || die "no $file"
postgres=("${kube[@]}" exec -i -n zlay postgres-0 --)
dump() { if dry_run; then :; else cat "$file"; fi; }
restore=(pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error -U relay)

step 'can the dump be read' 'this is no dump of pg_dump --format=custom, or not a whole one'
dump | feed "$file" "${postgres[@]}" pg_restore --list | if dry_run; then cat; else grep -c 'TABLE DATA' >&2; fi

if [ "${2-}" = drill ]; then
  step 'restore it into a database beside' 'the dump does not restore: take another one, and find out why'
  run "${postgres[@]}" dropdb --if-exists -U relay drill
  run "${postgres[@]}" createdb -U relay drill
  dump | feed "$file" "${postgres[@]}" "${restore[@]}" -d drill
  step 'what is in it'
  counts="SELECT 'hosts', count(*) FROM hosts UNION ALL SELECT 'domain bans', count(*) FROM domain_bans
UNION ALL SELECT 'takedowns', count(*) FROM takedowns UNION ALL SELECT 'audit log', count(*) FROM audit_log"
  run "${postgres[@]}" psql -U relay -d drill -At -F ': ' -c "${counts//$'\n'/ }"
  run "${postgres[@]}" dropdb -U relay drill
  step 'done'
  say 'the dump can be restored; nothing was changed'
  exit 0
fi

if ! dry_run && [ -z "${ZLAY_YES-}" ]; then
  say "This stops the relay, and puts hosts, bans, limits, takedowns and settings back to $file."
  read -r -p 'Type "restore" to go on: ' word
  [ "$word" = restore ] || die 'nothing was done'
fi
# On a new server there is no relay yet, and one must not begin before its database is back.
before=
capture before 1 "${kube[@]}" get deployment relay -n zlay -o 'jsonpath={.spec.replicas}'
step 'stop the relay' '"just zlay-status"'
k scale deployment/relay --replicas=0 -n zlay
k wait --for=delete pod -l app.kubernetes.io/name=relay -n zlay --timeout=2m
step 'restore' 'nothing was changed (it is one transaction), and the relay is stopped: "kubectl scale deployment/relay --replicas=1 -n zlay" starts it'
dump | feed "$file" "${postgres[@]}" "${restore[@]}" -d zlay
# Hosts that came after the dump have numbers that the data directory may know: they are not given again.
run "${postgres[@]}" psql -q -v ON_ERROR_STOP=1 -U relay -d zlay \
  -c 'UPDATE store SET next_host = next_host + 10000'
if [ "$before" = 0 ]; then
  step 'done'
  say 'next: just zlay-publish-remote'
  exit 0
fi
step 'start the relay' '"just zlay-logs" says why it does not start'
k scale deployment/relay --replicas=1 -n zlay
k rollout status deployment/relay -n zlay --timeout=10m
