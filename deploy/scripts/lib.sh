# shellcheck shell=bash
# What the zlay-* scripts share. A script sources this, says what it needs, and then works in steps;
# where a step fails, it says which one, and what to do.
#
# --dry-run as the first argument, or DRY_RUN=1, prints every command instead of running it. Secrets are
# in no command: they go through standard input, files that only the operator can read, or the
# environment.
set -euo pipefail

# shellcheck disable=SC2034  # used by the scripts
k3s_dir=deploy/k3s
state=deploy/.state
# shellcheck disable=SC2034
cert_manager_version=v1.21.2
# shellcheck disable=SC2034
monitoring_version=93.9.0

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if [ "${1-}" = --dry-run ]; then
  DRY_RUN=1
  shift
fi
dry_run() { [ -n "${DRY_RUN-}" ] && [ "$DRY_RUN" != 0 ]; }

say() { printf '%s\n' "$*" >&2; }

# Begins a step: `step TEXT [WHAT TO DO WHERE IT FAILS]`.
current_step=
advice=
step() {
  current_step=$1
  advice=${2-}
  if dry_run; then printf '# %s\n' "$1"; else say "==> $1"; fi
}

finish() {
  local code=$?
  [ "$code" = 0 ] && return
  [ -z "$current_step" ] || say "failed (exit code $code): $current_step"
  [ -z "$advice" ] || say "what to do: $advice"
  exit "$code"
}
trap finish EXIT

die() {
  say "error: $*"
  exit 1
}

# Reads .env: lines of NAME=VALUE, taken as they are. What is in the environment already goes before it.
load_env() {
  local file=${ZLAY_ENV_FILE-.env} line name value
  [ -f "$file" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do
    [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
    [[ $line =~ ^([A-Z_][A-Z0-9_]*)=(.*)$ ]] || die "$file: not NAME=VALUE: ${line%%=*}"
    name=${BASH_REMATCH[1]}
    value=${BASH_REMATCH[2]}
    if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then value=${BASH_REMATCH[1]}; fi
    [ -n "${!name-}" ] || export "$name=$value"
  done <"$file"
}

# Names every variable that is missing, before anything starts.
need() {
  local name missing=()
  load_env
  for name in "$@"; do [ -n "${!name-}" ] || missing+=("$name"); done
  if [ ${#missing[@]} -gt 0 ]; then
    say "error: not set: ${missing[*]}"
    say "Set them in .env; .env.example explains each."
    exit 2
  fi
  check_values
}

# Values become part of manifests and commands, so they have to look like what they are.
check_values() {
  local label='[a-z0-9]([a-z0-9-]*[a-z0-9])?'
  matches ZLAY_DOMAIN "^($label\.)+[a-z]{2,}$" 'a domain such as relay.example.com'
  matches LETSENCRYPT_EMAIL '^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+\.[a-z]+$' 'an address such as operator@example.com'
  matches ZLAY_ISSUER '^letsencrypt-(staging|production)$' 'letsencrypt-staging or letsencrypt-production'
  matches ZLAY_RETENTION_BYTES '^[0-9]+[KMGT]?$' 'a number of bytes such as 12G'
  matches ZLAY_RETENTION_HOURS '^[0-9]+$' 'a number of hours such as 72'
  local networks='^[0-9a-f.:]+/[0-9]+(,[0-9a-f.:]+/[0-9]+)*$'
  matches ZLAY_ADMIN_ALLOW "$networks" 'networks such as 203.0.113.7/32, comma separated'
  matches ZLAY_ADMIN_ADDRESSES "$networks" 'networks such as 203.0.113.7/32, comma separated'
  # They are lines of files and parts of URLs.
  for name in ZLAY_ADMIN_PASSWORD ZLAY_POSTGRES_PASSWORD ZLAY_GRAFANA_PASSWORD; do
    [[ ${!name-} != *[$'\n\r']* ]] || die "$name has a line break in it"
  done
}

matches() {
  local name=$1 pattern=$2 meaning=$3
  [ -n "${!name-}" ] || return 0
  [[ ${!name} =~ $pattern ]] || die "$name is not $meaning"
}

need_programs() {
  local program missing=()
  dry_run && return 0
  for program in "$@"; do command -v "$program" >/dev/null || missing+=("$program"); done
  [ ${#missing[@]} = 0 ] || die "not installed here: ${missing[*]} (docs/deployment.md says where from)"
}

# A command as it could be typed.
typed() {
  local word words=()
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then words+=("$word"); else words+=("'${word//\'/\'\\\'\'}'"); fi
  done
  printf '%s' "${words[*]}"
}

run() {
  if dry_run; then printf '%s\n' "$(typed "$@")"; else "$@"; fi
}

# `... | feed WHAT COMMAND...`: a command with something on its standard input.
feed() {
  local what=$1
  shift
  if dry_run; then
    cat >/dev/null
    printf '%s   # < %s\n' "$(typed "$@")" "$what"
  else
    "$@"
  fi
}

# `capture NAME VALUE-IN-A-DRY-RUN COMMAND...`: what a command prints becomes the variable NAME.
capture() {
  local name=$1 example=$2 value
  shift 2
  if dry_run; then
    # shellcheck disable=SC2016
    printf '%s=$(%s)\n' "$name" "$(typed "$@")"
    value=$example
  else
    value=$("$@")
  fi
  printf -v "$name" %s "$value"
}

tf() { run terraform -chdir=deploy/terraform "$@"; }

server_ip=
need_server() { capture server_ip SERVER terraform -chdir=deploy/terraform output -raw ipv4; }

# The server is known by a key that was made before it: no first connection is taken on trust.
ssh_command() {
  printf '%s\0' ssh -o "UserKnownHostsFile=$state/known_hosts" -o StrictHostKeyChecking=yes \
    -o HostKeyAlgorithms=ssh-ed25519 -o ConnectTimeout=10 -o ServerAliveInterval=30 "root@$server_ip" "$@"
}

remote() {
  local command
  mapfile -d '' command < <(ssh_command "$@")
  run "${command[@]}"
}

need_kubeconfig() {
  dry_run || [ -f "$state/kubeconfig" ] || die "no $state/kubeconfig: \`just zlay-kubeconfig\` fetches it"
}

kube=(kubectl --kubeconfig "$state/kubeconfig")
k() { run "${kube[@]}" "$@"; }
apply=("${kube[@]}" apply --server-side --force-conflicts --field-manager=zlay -f -)

# A Secret as YAML: `secret NAMESPACE NAME [KEY VALUE]...`. Only builtins see the values.
secret() {
  printf 'apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata:\n  namespace: %s\n  name: %s\ndata:\n' "$1" "$2"
  shift 2
  while [ $# -gt 0 ]; do
    printf '  %s: %s\n' "$1" "$(printf %s "$2" | base64 -w 0)"
    shift 2
  done
}

# A password as part of a URL.
url_encoded() {
  local LC_ALL=C text=$1 out='' char code i
  for ((i = 0; i < ${#text}; i++)); do
    char=${text:i:1}
    case $char in
      [A-Za-z0-9._~-]) out+=$char ;;
      *)
        printf -v code %d "'$char"
        printf -v char '%%%02X' $((code & 255))
        out+=$char
        ;;
    esac
  done
  printf %s "$out"
}

# Manifests with the operator's values in the place of the examples in them.
image=
replicas=0
settings_version=none
render() {
  local allow=${ZLAY_ADMIN_ALLOW:-127.0.0.1/32}
  allow=${allow//,/\\n      - }
  sed -e "s/relay\.example\.com/$ZLAY_DOMAIN/g" \
    -e "s/operator@example\.com/$LETSENCRYPT_EMAIL/g" \
    -e "s/\(cluster-issuer:\) letsencrypt-production$/\1 ${ZLAY_ISSUER:-letsencrypt-production}/" \
    -e "s|^      - 127\.0\.0\.1/32$|      - $allow|" \
    -e "s/\(RELAY_RETENTION_BYTES:\) 12G$/\1 ${ZLAY_RETENTION_BYTES:-12G}/" \
    -e "s/\(RELAY_RETENTION_HOURS:\) \"72\"$/\1 \"${ZLAY_RETENTION_HOURS:-72}\"/" \
    -e "s|localhost/zlay:unpublished|${image:-localhost/zlay:unpublished}|" \
    -e "s/^  replicas: 0$/  replicas: $replicas/" \
    -e "s/settings-version: none$/settings-version: \"$settings_version\"/" \
    "$@"
}

apply_files() {
  local file
  for file in "$@"; do render "$file" | feed "$file, rendered" "${apply[@]}"; done
}
