#!/usr/bin/env bash
# The unit, and the installation without a package.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

unit=deploy/systemd/zlay.service
# Of ten; systemd calls what is below 2 "OK", and nothing that opens sockets gets below 1.
exposure_max=20

a_dry_run_says_what_is_done_and_does_nothing() {
  local said
  said=$(DESTDIR=/ROOT deploy/install --dry-run /built/zlay)
  equal "the dry run" "$(cat tests/deploy/install.expected)" "$said"
  [ ! -e /ROOT ]
}

an_installation_is_what_systemd_expects() {
  local root=$scratch/root file
  mkdir -p "$root/usr/lib/systemd"
  # What the unit orders itself after.
  cp -a /usr/lib/systemd/system "$root/usr/lib/systemd/"
  DESTDIR=$root deploy/install "$binaries/zlay"
  # A key that is not known is a warning only, and then not in force: any word is a failure.
  silent systemd-analyze verify --man=no --root="$root" zlay.service
  systemd-sysusers --root="$root"
  grep -q '^zlay:.*:/usr/sbin/nologin$' "$root/etc/passwd"
  # Its numbers, as this machine need not know the name.
  silent systemd-tmpfiles --create --root="$root" "$root/usr/lib/tmpfiles.d/zlay.conf"
  local user group
  user=$(awk -F: '$1 == "zlay" { print $3 }' "$root/etc/passwd")
  group=$(awk -F: '$1 == "zlay" { print $3 }' "$root/etc/group")
  equal "the data directory" "750 $user:$group" "$(stat -c '%a %u:%g' "$root/var/lib/zlay")"
  equal "the file with secrets" "640 0:$group" "$(stat -c '%a %u:%g' "$root/etc/zlay/zlay.env")"
  # What the operator has written stays.
  echo RELAY_PORT=4000 >"$root/etc/zlay/zlay.env"
  DESTDIR=$root deploy/install "$binaries/zlay" | grep 'zlay.env is kept'
  equal "zlay.env" RELAY_PORT=4000 "$(cat "$root/etc/zlay/zlay.env")"
  for file in $(cd "$root" && find . -type f -name 'zlay*'); do echo "$file"; done
}

the_unit_exposes_little() {
  systemd-analyze security --offline=true --no-pager --threshold="$exposure_max" "$unit"
}

a_drop_in_with_credentials_is_understood() {
  local root=$scratch/credentials
  mkdir -p "$root/usr/lib/systemd" "$root/etc/systemd/system/zlay.service.d"
  cp -a /usr/lib/systemd/system "$root/usr/lib/systemd/"
  DESTDIR=$root deploy/install "$binaries/zlay"
  # The example of zlay.env as it stands there.
  sed -n '/^#   \[Service\]/,/^$/s/^#   //p' deploy/systemd/zlay.env \
    >"$root/etc/systemd/system/zlay.service.d/secrets.conf"
  grep -c LoadCredential "$root/etc/systemd/system/zlay.service.d/secrets.conf" | grep -x 2
  silent systemd-analyze verify --man=no --root="$root" zlay.service
}

# As nobody, with a /proc of processes only, without a privilege; every system call is written down.
the_relay_does_nothing_that_the_unit_forbids() {
  local public internal plc
  read -r public internal plc < <(free_ports 3)
  local data=$scratch/data log=$scratch/strace
  install -d -o 65534 -g 65534 "$data" "$scratch/traced"
  chmod 0755 "$scratch"
  install -m 0755 "$binaries/zlay" "$scratch/zlay"
  local variables
  mapfile -t variables < <(simulated "$public" "$internal" "$plc")
  unshare --mount sh -c 'mount -t proc -o subset=pid,hidepid=invisible proc /proc && exec "$@"' sh \
    setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --inh-caps=-all \
    --bounding-set=-all \
    env -i PATH=/usr/bin:/bin RELAY_DATA_DIR="$data" RELAY_ADMIN_PASSWORD=secret "${variables[@]}" \
    strace --follow-forks --summary -C --output="$scratch/traced/log" --signal=none "$scratch/zlay" serve \
    2>"$log" &
  tracer=$!
  trap 'pkill -TERM -P "$tracer" 2>/dev/null; kill "$tracer" 2>/dev/null || true' EXIT
  eventually 30 "$binaries/zlay" health --url "http://127.0.0.1:$internal" || { cat "$log"; return 1; }
  network "$plc" "http://localhost:$public" 3
  pkill -TERM -P "$tracer"
  wait "$tracer" || { tail -n 20 "$log"; return 1; }
  trap - EXIT
  python3 tests/deploy/system_calls.py "$unit" "$scratch/traced/log"
}

check "a dry run of \`just install\` says what is done, and does nothing" \
  a_dry_run_says_what_is_done_and_does_nothing
check "what is installed is what systemd expects: unit, user, directories" \
  an_installation_is_what_systemd_expects
check "systemd-analyze security gives the unit less than 2.0" the_unit_exposes_little
check "secrets can be credentials, as zlay.env says" a_drop_in_with_credentials_is_understood
check "the relay does nothing that the unit forbids" the_relay_does_nothing_that_the_unit_forbids
checked
