#!/usr/bin/env bash
# The images: built without a registry on a Debian of our own, looked at, and run as their own user.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
install_tools

base=localhost/zlay-test-debian:bookworm
image=localhost/zlay-test:check
# A container's file system is a plain copy, which needs nothing of the kernel.
in_buildah() {
  buildah --storage-driver vfs --root "$cache/buildah" --runroot "$scratch/buildah" "$@"
}

hadolint_passes() { "$tools/bin/hadolint" --failure-threshold style Dockerfile Dockerfile.runtime; }

# The last stage of a Dockerfile, without comments and without where the program comes from.
last_stage() {
  tac "$1" | sed '/^FROM/q' | tac | grep -v '^#' | sed 's/^COPY .* \(\S*\)$/COPY \1/' | grep -v '^$'
}

both_make_the_same_image() {
  equal "the last stage of Dockerfile" "$(last_stage Dockerfile.runtime)" "$(last_stage Dockerfile)"
}

# CXXFLAGS of the recipe and of the Dockerfile.
flags_are_those_of_the_recipes() {
  local cpu
  for cpu in portable native; do
    local recipe docker
    recipe=$(ZLAY_CPU=$cpu just --evaluate release)
    docker=$(sed -n "s/^ *$cpu,[^)]*) export \(.*\) ;; .*/\1/p" Dockerfile | tail -n 1)
    [ "$cpu" = native ] || docker=$(sed -n 's/^ *portable,x86_64) export \(.*\) ;; .*/\1/p' Dockerfile)
    if [ "$cpu" = native ] || [ "$(uname -m)" = x86_64 ]; then
      equal "the flags for a $cpu build" "$recipe" "$docker"
    fi
  done
  if ZLAY_CPU=nativ just --evaluate release; then fail "a wrong ZLAY_CPU is taken"; fi
}

# With nothing but the files that the Dockerfile copies, and those only that .dockerignore lets through.
the_build_has_all_files_that_it_needs() {
  local context=$scratch/context file
  mkdir -p "$context"
  grep -E '^COPY [^-]' Dockerfile | sed 's/^COPY //; s/ [^ ]*$//' | tr ' ' '\n' >"$scratch/copied"
  sed -n 's|^!/||p' .dockerignore | sort >"$scratch/let-through"
  equal "what .dockerignore lets through" "$(sort "$scratch/copied")" "$(cat "$scratch/let-through")"
  while read -r file; do cp -a "$file" "$context/"; done <"$scratch/copied"
  cd "$context"
  cargo check --locked --quiet --bin zlay
}

there_is_a_base() {
  in_buildah inspect --type image "$base" >/dev/null 2>&1 && return
  debian_root "$scratch/debian"
  printf 'FROM scratch\nADD . /\nCMD ["bash"]\n' >"$scratch/Dockerfile.base"
  in_buildah bud --isolation chroot --quiet --file "$scratch/Dockerfile.base" --tag "$base" \
    "$scratch/debian"
  rm -rf "$scratch/debian"
}

the_image_builds() {
  mkdir "$scratch/built"
  cp "$binaries/zlay" "$scratch/built/"
  in_buildah bud --isolation chroot --format docker --quiet --file Dockerfile.runtime --tag "$image" \
    --build-arg BASE="$base" --build-arg VERSION=1.2.3 --build-arg COMMIT=0123abc \
    --build-arg DATE=2026-01-02T03:04:05Z "$scratch/built"
}

# All of the Dockerfile but the compiler, which would take half an hour: in its place is a script that looks
# at what it is given, and hands out the program that was built already.
the_standalone_dockerfile_works_around_the_compiler() {
  local stub=$scratch/stub
  mkdir "$stub"
  cp "$binaries/zlay" "$stub/"
  printf '#!/bin/sh\n' >"$stub/apt-get"
  cat >"$stub/cargo" <<'CARGO'
#!/bin/sh
set -eux
[ "$*" = "build --locked --release --bin zlay" ]
[ "$CXXFLAGS" = -march=native ] && [ "$RUSTFLAGS" = "-C target-cpu=native" ]
[ -f Cargo.lock ] && [ -f src/main.rs ] && [ -f benches/verify.rs ]
# What .dockerignore keeps out.
[ ! -e tests ] && [ ! -e .git ]
mkdir -p target/release
cp /usr/local/share/zlay target/release/zlay
CARGO
  chmod +x "$stub/apt-get" "$stub/cargo"
  printf 'FROM %s\nCOPY cargo apt-get /usr/local/sbin/\nCOPY zlay /usr/local/share/zlay\n' "$base" \
    >"$stub/Dockerfile"
  in_buildah bud --isolation chroot --quiet --tag "$image-compiler" "$stub"
  in_buildah bud --isolation chroot --format docker --quiet --file Dockerfile --tag "$image-standalone" \
    --build-arg RUST="$image-compiler" --build-arg BASE="$base" --build-arg CPU=native .
  local container
  container=$(in_buildah from "$image-standalone")
  in_buildah run --isolation chroot "$container" -- zlay --version | grep '^zlay '
}

it_says_what_it_is() {
  in_buildah inspect --type image "$image" >"$scratch/inspected"
  python3 - "$scratch/inspected" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    config = json.load(file)["Docker"]["config"]
expected = {
    "User": "10001:10001",
    "ExposedPorts": {"3000/tcp": {}, "3001/tcp": {}},
    "Entrypoint": ["/usr/local/bin/zlay"],
    "Volumes": {"/data": {}},
    "StopSignal": "SIGTERM",
    "WorkingDir": "/data",
}
for key, value in expected.items():
    assert config.get(key) == value, (key, config.get(key))
assert not config.get("Cmd"), config["Cmd"]
assert "RELAY_DATA_DIR=/data" in config["Env"], config["Env"]
assert config["Healthcheck"]["Test"] == ["CMD", "/usr/local/bin/zlay", "health"], config["Healthcheck"]
labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
assert labels["version"] == "1.2.3" and labels["revision"] == "0123abc", labels
assert labels["created"] == "2026-01-02T03:04:05Z" and labels["title"] == "zlay", labels
assert labels["licenses"] == "MIT OR Apache-2.0", labels
PYTHON
}

# The relay in its container, the network beside it, a subscriber that compares every event.
it_serves_a_network_as_its_own_user() {
  local public internal plc container
  read -r public internal plc < <(free_ports 3)
  container=$(in_buildah from "$image")
  local variables=() variable
  while read -r variable; do variables+=(--env "$variable"); done < <(simulated "$public" "$internal" "$plc")
  in_buildah run --isolation chroot "${variables[@]}" "$container" -- /usr/local/bin/zlay serve \
    >"$scratch/log" 2>&1 &
  running=$! relay=
  trap 'kill $relay $running 2>/dev/null || true' EXIT
  eventually 60 grep -q 'listening public=' "$scratch/log" || { cat "$scratch/log"; return 1; }
  relay=$(sed -n 's/^ *process  *\([0-9]*\)$/\1/p' "$scratch/log")
  equal "its user" "10001 10001" "$(awk '/^Uid:/ { print $2, $3 }' "/proc/$relay/status")"
  equal "its program" "/usr/local/bin/zlay" "$(sed 's/.*\(\/usr\/local\)/\1/' <(readlink "/proc/$relay/exe"))"
  in_buildah run --isolation chroot --env RELAY_METRICS_PORT="$internal" "$container" -- \
    /usr/local/bin/zlay health | grep -x alive
  network "$plc" "http://localhost:$public" 3
  kill -TERM "$relay"
  wait "$running" || { cat "$scratch/log"; return 1; }
  trap - EXIT
  grep -q 'stopped seq=[1-9]' "$scratch/log"
  # And where there is none, the check says so.
  if in_buildah run --isolation chroot --env RELAY_METRICS_PORT="$internal" "$container" -- \
    /usr/local/bin/zlay health; then
    fail "a relay that has ended is healthy"
  fi
}

it_is_an_archive_for_containerd() {
  in_buildah push --quiet "$image" "docker-archive:$scratch/image.tar:$image"
  tar -xOf "$scratch/image.tar" manifest.json | grep '"localhost/zlay-test:check"'
}

check "hadolint has nothing to say of either Dockerfile" hadolint_passes
check "both Dockerfiles make the same image" both_make_the_same_image
check "both build with the flags of \`just build\`" flags_are_those_of_the_recipes
check "the Dockerfile copies all that the relay is built of" the_build_has_all_files_that_it_needs
check "there is a Debian to build on" there_is_a_base
check "Dockerfile.runtime builds" the_image_builds
check "Dockerfile builds, with the program in place of its compiler" \
  the_standalone_dockerfile_works_around_the_compiler
check "the image says its user, ports, volume, health check, labels" it_says_what_it_is
check "its relay serves a network as the image's user, is asked how it does, and stops" \
  it_serves_a_network_as_its_own_user
check "it can be imported elsewhere" it_is_an_archive_for_containerd
for container in $(in_buildah containers --quiet); do in_buildah rm "$container" >/dev/null || true; done
in_buildah rmi "$image" "$image-compiler" "$image-standalone" >/dev/null 2>&1 || true
checked
