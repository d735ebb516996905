#!/usr/bin/env bash
# The Debian package: what is in it, and its life on a Debian that has nothing else.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

root=$scratch/root
package=

it_builds() {
  deploy/deb "$binaries" "$scratch/out"
  ls "$scratch"/out/zlay_*.deb
}

lintian_finds_no_error() {
  lintian --fail-on error --tag-display-limit 0 --allow-root "$package"
}

it_contains_what_it_should() {
  local files
  files=$(dpkg-deb --contents "$package" | awk '$1 !~ /^d/ { print $1, $2, $6 }' |
    grep -v ' \./usr/share/doc/zlay/docs/' | sort -k 3)
  equal "the contents" "$(sort -k 3 tests/deploy/package.expected)" "$files"
  equal "its configuration files" /etc/zlay/zlay.env "$(dpkg-deb --info "$package" conffiles)"
  local version depends
  version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
  equal "its version" "$version-1" "$(dpkg-deb --field "$package" Version)"
  depends=$(dpkg-deb --field "$package" Depends)
  for library in libc6 libstdc++6 systemd; do
    grep -qF "$library" <<<"$depends" || fail "it does not depend on $library: $depends"
  done
  # The scripts of debhelper are in: restarted after an upgrade if it runs, stopped before a removal.
  dpkg-deb --info "$package" postinst | grep 'systemd-sysusers.* zlay.conf'
  dpkg-deb --info "$package" postinst | grep 'deb-systemd-invoke try-restart .*zlay.service'
  dpkg-deb --info "$package" prerm | grep 'deb-systemd-invoke stop .*zlay.service'
}

inside() { chroot "$root" "$@"; }

it_installs_on_a_clean_debian() {
  debian_root "$root"
  cp "$package" "$root/tmp/zlay.deb"
  mount -t proc proc "$root/proc"
  # Which every machine has.
  echo "127.0.0.1 localhost" >"$root/etc/hosts"
  inside apt-get update -qq
  inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends /tmp/zlay.deb
  inside dpkg --verify zlay
  inside getent passwd zlay | grep ':/var/lib/zlay:/usr/sbin/nologin$'
  inside zlay --version | grep '^zlay '
  # The manual is one.
  MANWIDTH=500 man --warnings --local-file "$root/usr/share/man/man1/zlay.1.gz" >"$scratch/manual" 2>"$scratch/warnings"
  equal "what man says of it" "" "$(cat "$scratch/warnings")"
  grep -e '--retention-bytes' "$scratch/manual"
}

# What systemd would do, with the means at hand: directories, user, environment, ExecStart, NOTIFY_SOCKET.
its_service_starts_is_healthy_and_stops() {
  local public internal plc
  read -r public internal plc < <(free_ports 3)
  inside systemd-tmpfiles --create zlay.conf
  equal "the file with secrets" "640 root zlay" "$(inside stat -c '%a %U %G' /etc/zlay/zlay.env)"
  equal "the data directory" "750 zlay zlay" "$(inside stat -c '%a %U %G' /var/lib/zlay)"
  # Who installs it edits this file.
  simulated "$public" "$internal" "$plc" >>"$root/etc/zlay/zlay.env"
  local unit=$root/usr/lib/systemd/system/zlay.service variables command user
  mapfile -t variables < <(
    sed -n 's/^Environment=//p' "$unit"
    grep -v '^#' "$root/etc/zlay/zlay.env" | grep .
  )
  command=$(sed -n 's/^ExecStart=//p' "$unit")
  user=$(sed -n 's/^User=//p' "$unit")
  python3 tests/deploy/notify_listener.py "$root/run/notify" "$scratch/told" &
  manager=$! service=
  trap 'kill $manager $service 2>/dev/null || true' EXIT
  eventually 10 test -S "$root/run/notify"
  # shellcheck disable=SC2086 # the command of a unit is words
  chroot --userspec="$user:$user" "$root" env -i PATH=/usr/bin:/bin NOTIFY_SOCKET=/run/notify \
    WATCHDOG_USEC=2000000 "${variables[@]}" $command >"$scratch/log" 2>&1 &
  service=$!
  eventually 60 grep -qx READY=1 "$scratch/told" || { cat "$scratch/log"; return 1; }
  inside env RELAY_METRICS_PORT="$internal" zlay health --ready | grep -x ready
  eventually 10 grep -qx WATCHDOG=1 "$scratch/told"
  equal "its user" "$(inside id -u zlay)" "$(awk '/^Uid:/ { print $2 }' "/proc/$service/status")"
  network "$plc" "http://localhost:$public" 3
  eventually 10 grep -q '^STATUS=seq [1-9]' "$scratch/told"
  kill -TERM "$service"
  wait "$service" || { cat "$scratch/log"; return 1; }
  grep -qx STOPPING=1 "$scratch/told"
}

a_removal_leaves_the_data_and_a_purge_nothing() {
  inside dpkg --remove zlay
  [ -e "$root/etc/zlay/zlay.env" ] && [ -d "$root/var/lib/zlay/store" ]
  inside dpkg --purge zlay
  local left
  left=$(find "$root/etc" "$root/usr" "$root/var/lib" -path "$root/var/lib/dpkg" -prune -o -name 'zlay*' -print)
  equal "what is left" "" "$left"
}

check "cargo-deb makes it" it_builds
package=$(echo "$scratch"/out/zlay_*.deb)
if [ -f "$package" ]; then
  trap 'umount "$root/proc" 2>/dev/null || true; finish' EXIT
  check "lintian finds no error" lintian_finds_no_error
  check "it contains what it should" it_contains_what_it_should
  check "it installs on a clean Debian, with its user" it_installs_on_a_clean_debian
  check "its service says READY, is healthy, serves a network, feeds the watchdog, and stops" \
    its_service_starts_is_healthy_and_stops
  check "a removal leaves the data, and a purge nothing" a_removal_leaves_the_data_and_a_purge_nothing
  umount "$root/proc" || true
fi
checked
