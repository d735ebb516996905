#!/usr/bin/env bash
# Asks the relay, as its operator, to crawl every host that another relay lists (bsky.network). What is
# known already is asked once more, which does no harm.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
from=${1:-bsky.network}
[[ $from =~ ^[A-Za-z0-9.:-]+$ ]] || die 'the name of a relay, such as relay1.us-east.bsky.network'
step "hosts of $from" 'does the relay run ("just zlay-health")? Then the same again: it goes on'
# The password is in the environment of the container.
k exec -n zlay deployment/relay -c relay -- zlay hosts pull --from "$from"
