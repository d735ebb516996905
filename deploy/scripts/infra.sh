#!/usr/bin/env bash
# Makes the server, or changes its firewall; waits until k3s runs on it.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need HCLOUD_TOKEN ZLAY_DOMAIN ZLAY_ADMIN_ADDRESSES ZLAY_REPOSITORY
need_programs terraform ssh ssh-keygen

public_key_file=${ZLAY_SSH_PUBLIC_KEY_FILE:-$HOME/.ssh/id_ed25519.pub}
dry_run || [ -f "$public_key_file" ] || die "no $public_key_file: set ZLAY_SSH_PUBLIC_KEY_FILE"

step 'the host key of the server'
umask 077
run mkdir -p "$state"
[ -f "$state/host_key" ] || run ssh-keygen -q -t ed25519 -N '' -C zlay -f "$state/host_key"

# Everything that terraform is told goes through its environment.
if ! dry_run; then
  TF_VAR_domain=$ZLAY_DOMAIN
  # shellcheck disable=SC2089,SC2090  # a list, as terraform reads it
  TF_VAR_admin_addresses="[\"${ZLAY_ADMIN_ADDRESSES//,/\",\"}\"]"
  TF_VAR_repository=$ZLAY_REPOSITORY
  TF_VAR_ssh_public_key=$(<"$public_key_file")
  TF_VAR_ssh_host_key=$(<"$state/host_key")$'\n'
  TF_VAR_ssh_host_public_key=$(<"$state/host_key.pub")
  # shellcheck disable=SC2090
  export TF_VAR_domain TF_VAR_admin_addresses TF_VAR_repository
  export TF_VAR_ssh_public_key TF_VAR_ssh_host_key TF_VAR_ssh_host_public_key
fi

step 'terraform: make the server' 'read the error above; nothing that exists was destroyed. Run it again'
approve=()
[ -z "${ZLAY_YES-}" ] || approve=(-auto-approve)
tf apply -input=false "${approve[@]}"
need_server

step 'the server is known by its key'
known() { printf '%s %s\n' "$server_ip" "$(cut -d ' ' -f 1-2 "$state/host_key.pub")"; }
if dry_run; then printf '# %s: %s and the public half of %s\n' "$state/known_hosts" "$server_ip" "$state/host_key"; else known >"$state/known_hosts"; fi

step 'wait for SSH' 'is your address within ZLAY_ADMIN_ADDRESSES? Then run "just zlay-infra" again'
attempts=60
until remote true; do
  attempts=$((attempts - 1))
  [ "$attempts" -gt 0 ] || exit 1
  sleep 5
done

step 'wait for k3s (five minutes)' '"just zlay-ssh tail -50 /var/log/cloud-init-output.log" says why; "just zlay-ssh zlay-prepare" tries again'
# Its exit code also tells of mere warnings, so the mark that everything is there decides.
remote 'cloud-init status --wait >/dev/null; test -e /var/lib/zlay-prepared'

step 'done'
say "DNS: $ZLAY_DOMAIN needs an A record with ${server_ip}, and no AAAA record."
say 'next: just zlay-kubeconfig'
