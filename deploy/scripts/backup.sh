#!/usr/bin/env bash
# Takes a dump of Postgres off the server: `zlay-backup [FILE]`, else into backups/.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
umask 077
file=${1:-backups/zlay-$(date -u +%Y%m%dT%H%M%SZ).dump}
if dry_run; then file=${1:-backups/zlay-TIME.dump}; fi
postgres=("${kube[@]}" exec -i -n zlay postgres-0 --)

step "dump into $file" 'nothing was written under that name; is postgres-0 up ("just zlay-status")?'
dry_run || [ ! -e "$file" ] || die "$file is there already"
run mkdir -p "$(dirname "$file")"
dump=(pg_dump --format=custom --no-owner -U relay -d zlay)
if dry_run; then
  printf '%s   # > %s\n' "$(typed "${postgres[@]}" "${dump[@]}")" "$file.part"
else
  "${postgres[@]}" "${dump[@]}" >"$file.part"
fi
step 'can it be read' "the dump is incomplete: $file.part"
feed "$file.part" "${postgres[@]}" pg_restore --list < <(dry_run || cat "$file.part") |
  if dry_run; then cat; else grep -c 'TABLE DATA' >&2; fi
run mv "$file.part" "$file"
step 'done'
dry_run || say "$(du -h "$file" | cut -f 1) in $file: keep it where the server is not"
