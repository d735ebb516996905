# shellcheck shell=bash
# What the checks of deploy/ have in common; every tests/deploy/NAME.sh but this begins with it:
#
#   . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   check "what is so" a_function or command with its arguments
#
# A check is a command that succeeds. Its output is shown when it does not.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Outside the checkout, so that a second run, also of a new clone, takes a minute.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/zlay/deploy
# Where `zlay` and `zlay-sim` are; any profile will do.
binaries=${ZLAY_BINARIES:-${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/zlay/target}/debug}
# Where the checks report to, if there is somebody who counts.
results=${ZLAY_CHECK_RESULTS:-/dev/null}
# Files of this check.
scratch=$(mktemp -d "${TMPDIR:-/tmp}/zlay-deploy.XXXXXX")

cd "$repository"
mkdir -p "$cache"

# What the caller's environment says about another relay is not meant for those of the checks.
for variable in $(compgen -v RELAY_ || true) DATABASE_URL DATABASE_URL_FILE NOTIFY_SOCKET RUST_LOG; do
  unset "$variable"
done

finish() { rm -rf "$scratch"; }
trap finish EXIT

failures=0
# Runs one check, in a shell of its own, and says how it went. What it starts, it stops: with a trap on
# EXIT, whose variables are not local, because functions have ended by then.
check() {
  local what=$1 output=$scratch/output began=$SECONDS
  shift
  # In a subshell with `set -e`, which a condition would switch off.
  set +e
  (
    set -e
    "$@"
  ) >"$output" 2>&1 </dev/null
  local status=$?
  set -e
  if [ "$status" = 0 ]; then
    printf '  ok    %s (%d s)\n' "$what" $((SECONDS - began))
    echo ok >>"$results"
  else
    printf '  FAIL  %s (exit code %d)\n' "$what" "$status"
    sed 's/^/        | /' "$output"
    echo "$(basename "$0" .sh): $what" >>"$results.failed"
    failures=$((failures + 1))
  fi
}

# Ends a file of checks: with success only when all have had it.
checked() {
  trap - EXIT
  finish
  [ "$failures" = 0 ]
  exit
}

# Fails with words.
fail() {
  printf '%s\n' "$*" >&2
  return 1
}

# equal WHAT EXPECTED ACTUAL
equal() {
  [ "$2" = "$3" ] || {
    diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") | sed "s/^</expected:/; s/^>/actual:  /" >&2
    fail "$1 is not as expected"
  }
}

# Success without a word: for tools that only warn of what is wrong.
silent() {
  local said
  said=$("$@" 2>&1) || {
    printf '%s\n' "$said" >&2
    return 1
  }
  [ -z "$said" ] || fail "$said"
}

# Tries a command until it succeeds; fails after so many seconds.
eventually() {
  local seconds=$1 end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || {
      "$@" || fail "not within $seconds seconds: $*"
      return
    }
    sleep 0.2
  done
}

# Programs of requirements.txt, in an environment of their own.
tools=$cache/tools
install_tools() {
  local wanted=tests/deploy/requirements.txt
  if ! cmp -s "$wanted" "$tools/requirements.txt"; then
    rm -rf "$tools"
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r "$wanted"
    cp "$wanted" "$tools/requirements.txt"
  fi
}

# A Debian stable that has nothing but its essential packages; $1 is where a copy of it goes.
debian_root() {
  local root=$cache/bookworm
  if [ ! -e "$root/etc/debian_version" ]; then
    rm -rf "$root" "$root.new"
    debootstrap --variant=minbase bookworm "$root.new" >"$cache/debootstrap.log" 2>&1 ||
      { tail -n 20 "$cache/debootstrap.log" >&2; return 1; }
    mv "$root.new" "$root"
  fi
  cp -a "$root" "$1"
}

# N ports that nobody has: `read -r a b < <(free_ports 2)`.
free_ports() {
  python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in sockets:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))
PYTHON
}

# The environment of a relay of a simulated network on this machine, one assignment a line:
# simulated PUBLIC_PORT INTERNAL_PORT PLC_PORT
simulated() {
  cat <<TEXT
RELAY_BIND=127.0.0.1
RELAY_PORT=$1
RELAY_METRICS_PORT=$2
RELAY_PLC_URL=http://127.0.0.1:$3
RELAY_UPSTREAM=none
RELAY_ALLOW_PRIVATE_HOSTS=true
RELAY_TRUSTED_DOMAINS=localhost
RELAY_DEFAULT_ACCOUNT_LIMIT=1000000
RELAY_NEW_HOSTS_PER_DAY_LIMIT=1000000
TEXT
}

# A small network for some seconds, and what the relay at URL makes of it, compared event by event:
# network PLC_PORT URL SECONDS. Fails when anything is missing, or nothing came.
network() {
  local said=$scratch/network.log
  "$binaries/zlay-sim" run --hosts 4 --accounts 5 --rate 40 --duration "$3s" --plc-port "$1" \
    --relay "$2" >"$said" 2>&1 || {
    tail -n 40 "$said"
    return 1
  }
  cat "$said"
}
