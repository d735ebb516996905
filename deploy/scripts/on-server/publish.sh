#!/usr/bin/env bash
# Runs on the server, from `just zlay-publish-remote`: pull, build, image, import, roll out, wait.
# Nothing is changed in the cluster before the image is there.
set -euo pipefail

source_dir=${ZLAY_SOURCE:-/opt/zlay}
images_kept=5
export PATH="$HOME/.cargo/bin:/usr/local/bin:$PATH"

say() { printf '==> %s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

image=
imported() { k3s ctr images ls -q | grep -Fx "$image" >/dev/null; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A function, so that bash has read all of this before it begins: the script comes on standard input, which
# nothing that it starts may read.
publish() {
  cd "$source_dir"
  say 'pull'
  [ -z "$(git status --porcelain --untracked-files=no)" ] ||
    die "$source_dir has changes of its own; \`git -C $source_dir diff\` shows them"
  git pull --ff-only --quiet
  commit=$(git rev-parse --short=12 HEAD)
  image=localhost/zlay:$commit

  if imported; then
    say "$commit is there already"
  else
    say "build $commit for this processor"
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/zlay/target}
    RUSTFLAGS='-C target-cpu=native' CFLAGS='-march=native' CXXFLAGS='-march=native' \
      cargo build --locked --release --bin zlay

    say "image $image"
    cp "$CARGO_TARGET_DIR/release/zlay" "$work/zlay"
    buildah bud --quiet --format docker --file Dockerfile.runtime --tag "$image" \
      --build-arg "COMMIT=$commit" "$work"
    buildah push --quiet "$image" "docker-archive:$work/image.tar:$image"
    k3s ctr images import "$work/image.tar"
    imported || die "k3s does not list $image after the import"
  fi

  say "roll out $commit"
  k3s kubectl set image deployment/relay "relay=$image" -n zlay
  k3s kubectl annotate deployment/relay "kubernetes.io/change-cause=$commit" --overwrite -n zlay
  k3s kubectl scale deployment/relay --replicas=1 -n zlay
  k3s kubectl rollout status deployment/relay -n zlay --timeout=10m

  # The latest few stay to go back to.
  say 'tidy up'
  k3s ctr images ls -q >"$work/all"
  git log --format=localhost/zlay:%h --abbrev=12 -n 500 | grep -Fxf "$work/all" | tail -n "+$((images_kept + 1))" |
    while read -r old; do
      k3s ctr images rm "$old" >/dev/null
      buildah rmi "$old" >/dev/null 2>&1 || true
    done
  say "$commit runs"
}

publish </dev/null
