#!/usr/bin/env bash
# Prints the server's address.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs terraform
step 'the address of the server' 'has "just zlay-infra" been here?'
tf output -raw ipv4
dry_run || echo
