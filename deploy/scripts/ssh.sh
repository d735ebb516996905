#!/usr/bin/env bash
# A shell on the server, or one command there.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs terraform ssh
need_server
remote "$@"
