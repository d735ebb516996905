#!/usr/bin/env bash
# Fetches the credentials of the cluster into deploy/.state/kubeconfig.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need ZLAY_DOMAIN
need_programs terraform ssh kubectl

step 'where is the server' 'has "just zlay-infra" been here?'
need_server
step 'fetch the credentials' 'does "just zlay-ssh true" work?'
umask 077
run mkdir -p "$state"
if dry_run; then
  remote cat /etc/rancher/k3s/k3s.yaml
  printf '# 127.0.0.1 in it becomes %s; it is written to %s\n' "$server_ip" "$state/kubeconfig"
else
  text=$(remote cat /etc/rancher/k3s/k3s.yaml)
  [[ $text == *https://127.0.0.1:6443* ]] || die 'this is no kubeconfig of k3s'
  printf '%s\n' "${text/https:\/\/127.0.0.1:6443/https://$server_ip:6443}" >"$state/kubeconfig"
fi
step 'ask the cluster' 'port 6443 is open for ZLAY_ADMIN_ADDRESSES only'
k get nodes -o wide
