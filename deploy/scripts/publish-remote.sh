#!/usr/bin/env bash
# Builds what the server's clone of zlay has to pull, on the server, and rolls it out by its commit.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need ZLAY_DOMAIN
need_programs terraform ssh

step 'where is the server' 'has "just zlay-infra" been here?'
need_server
step 'build and roll out (25 minutes at first, then two)' \
  'the error is above; what ran before runs on unless the roll-out has begun: then "just zlay-rollback"'
mapfile -d '' command < <(ssh_command bash -s --)
script=deploy/scripts/on-server/publish.sh
# shellcheck disable=SC2094  # the name is for a dry run
feed "$script" "${command[@]}" <"$script"
step 'done'
say 'next: just zlay-health'
