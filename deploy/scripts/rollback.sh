#!/usr/bin/env bash
# Goes back to the image before, or to the commit that is named. The data stay as they are.
# shellcheck source=deploy/scripts/lib.sh
. "$(dirname "$0")/lib.sh"
need_programs kubectl
need_kubeconfig
[[ ${1-} =~ ^([0-9a-f]{12})?$ ]] || die 'a commit is named by its first twelve characters, as in "just zlay-status"'

if [ -n "${1-}" ]; then
  need_programs terraform ssh
  step "is the image of $1 on the server" '"just zlay-ssh k3s ctr images ls -q name~=localhost/zlay" lists what is there'
  need_server
  remote "k3s ctr images ls -q | grep -Fx localhost/zlay:$1"
  step "roll back to $1"
  k set image deployment/relay "relay=localhost/zlay:$1" -n zlay
else
  step 'roll back to the image before' '"just zlay-rollback COMMIT" names one'
  k rollout undo deployment/relay -n zlay
fi
step 'wait' '"just zlay-logs" says why it does not start; another commit: "just zlay-rollback COMMIT"'
k rollout status deployment/relay -n zlay --timeout=10m
