#!/usr/bin/env bash
# The relay's log, as it comes; arguments go to `kubectl logs` (--previous, --since=1h, --tail=1000).
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
if [ $# = 0 ]; then set -- --follow --tail=100; fi
k logs deployment/relay -n zlay "$@"
