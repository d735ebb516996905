#!/usr/bin/env bash
# What can be checked of deploy/{terraform,k3s,scripts} without a server: `tests/deploy/cluster.sh`.
# One line a check; not 0 where one fails. `--update` writes the dry runs anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
venv=${XDG_CACHE_HOME:-$HOME/.cache}/zlay/deploy-cluster
requirements=cluster/requirements.txt
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
  cp "$requirements" "$venv/requirements.txt"
fi
PATH=$venv/bin:$PATH exec "$venv/bin/python" -B -m cluster "$@"
