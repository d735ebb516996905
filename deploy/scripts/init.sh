#!/usr/bin/env bash
# Fetches the provider of terraform, and says which programs are missing here.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs terraform ssh ssh-keygen kubectl helm curl git

step 'terraform: fetch the provider' 'it comes from registry.terraform.io; try again when that is reachable'
tf init -input=false
step 'done'
say 'next: just zlay-infra'
