#!/usr/bin/env bash
# Releases, made in a copy of this tree with the programs that the tests use.
# shellcheck source=tests/deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

copy=$scratch/zlay
# Nobody's own settings: of git, of whoever makes a release.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=tester GIT_AUTHOR_EMAIL=tester@example.com
export GIT_COMMITTER_NAME=tester GIT_COMMITTER_EMAIL=tester@example.com

# The tree as it is now, as the only commit of a repository of its own.
make_copy() {
  mkdir -p "$copy"
  git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
    if [ -e "$file" ]; then printf '%s\0' "$file"; fi
  done | tar --create --null --files-from - | tar --extract --directory "$copy"
  git -C "$copy" init --quiet --initial-branch main
  git -C "$copy" add --all
  git -C "$copy" commit --quiet --message "the state before"
}

release() { "$copy/deploy/release" "$@"; }
state() { git -C "$copy" for-each-ref && git -C "$copy" status --porcelain; }

# refused WORDS ARGUMENTS: it says so, and changes nothing.
refused() {
  local words=$1 said before
  shift
  before=$(state)
  if said=$(release "$@" 2>&1); then fail "not refused: $*"; fi
  grep -qF -- "$words" <<<"$said" || fail "it does not say \"$words\": $said"
  equal "the state after a refusal" "$before" "$(state)"
}

what_is_wrong_is_refused() {
  refused "is not a version" 1.2
  refused "is not a version" v1.2.3
  refused "is not a version" 01.2.3
  echo x >"$copy/stray"
  refused "the tree is not clean" 1.2.3
  rm "$copy/stray"
  git -C "$copy" switch --quiet --create other
  refused "releases are made of main, and this is other" 1.2.3
  git -C "$copy" switch --quiet main
  git -C "$copy" branch --quiet -D other
  git -C "$copy" tag v2.0.0
  refused "the tag v2.0.0 exists" 2.0.0
  refused "1.9.9 is not above the last version, 2.0.0" 1.9.9
  git -C "$copy" tag --delete v2.0.0 >/dev/null
  refused "the program in $binaries is" 99.0.0 --binaries "$binaries" --out "$scratch/refused"
  [ -z "$(ls -A "$scratch/refused")" ]
  mkdir -p "$scratch/full" && touch "$scratch/full/x"
  refused "is not empty" 99.0.0 --out "$scratch/full"
  sed -i '/^## \[Unreleased\]/,/^## \[/{/^[-*] /d}' "$copy/CHANGELOG.md"
  git -C "$copy" commit --quiet --all --message "nothing new"
  refused "what does this version change" 1.2.3
  git -C "$copy" reset --quiet --hard HEAD^
}

a_dry_run_shows_all_and_changes_nothing() {
  local before said line
  before=$(state)
  said=$(release 99.1.2 --dry-run --binaries "$binaries")
  equal "the state after a dry run" "$before" "$(state)"
  for line in \
    "release: commit: release: 99.1.2" \
    '  +version = "99.1.2"' \
    "  +## [99.1.2] - $(date -u +%F)" \
    '  +zlay (99.1.2-1) stable; urgency=medium' \
    "  +    image: \${ZLAY_IMAGE:-localhost/zlay:99.1.2}" \
    "release: tag: v99.1.2" \
    "release: dry run: done, and thrown away"; do
    grep -qxF -- "$line" <<<"$said" || fail "no line \"$line\" in: $said"
  done
  grep -Eq "^  [0-9a-f]{64}  zlay-99.1.2-$(uname -m)-linux-gnu.tar.gz$" <<<"$said"
  grep -Eq '^  [0-9a-f]{64}  zlay_99.1.2-1_[a-z0-9]+.deb$' <<<"$said"
  # Without programs it builds none.
  said=$(release 99.1.2 --dry-run)
  grep -qx 'release: the programs would be built: just build' <<<"$said"
}

a_release_is_commit_tag_and_files() {
  local version out=$scratch/dist
  # The version that the programs say they are.
  version=$("$binaries/zlay" --version | sed 's/^zlay //')
  release "$version" --binaries "$binaries" --out "$out"
  equal "the commit" "release: $version" "$(git -C "$copy" log -1 --format=%s)"
  equal "the tag" "$(git -C "$copy" rev-parse HEAD)" "$(git -C "$copy" rev-parse "v$version^{commit}")"
  grep -q '^### Added$' <<<"$(git -C "$copy" tag --list --format='%(contents)' "v$version")"
  [ -z "$(git -C "$copy" status --porcelain)" ]
  grep -qx "## \[$version\] - $(date -u +%F)" "$copy/CHANGELOG.md"
  grep -qx '## \[Unreleased\]' "$copy/CHANGELOG.md"
  (cd "$copy" && cargo metadata --locked --offline --no-deps --format-version 1 >/dev/null)

  (cd "$out" && sha256sum --check --quiet SHA256SUMS)
  equal "the files" "$(cd "$out" && find . -type f ! -name SHA256SUMS | sort)" \
    "$(sed 's/^[0-9a-f]*  /.\//' "$out/SHA256SUMS" | sort)"
  mkdir "$scratch/unpacked"
  tar --extract --file "$out/zlay-$version-$(uname -m)-linux-gnu.tar.gz" --directory "$scratch/unpacked" \
    --strip-components 1
  cmp "$binaries/zlay" "$scratch/unpacked/zlay"
  "$scratch/unpacked/zlay-sim" --version
  # What is in it can be installed without this repository.
  DESTDIR=$scratch/installed "$scratch/unpacked/deploy/install" "$scratch/unpacked/zlay"
  cmp deploy/systemd/zlay.service "$scratch/installed/usr/lib/systemd/system/zlay.service"
  equal "the package's version" "$version-1" "$(dpkg-deb --field "$out"/zlay_*.deb Version)"

  python3 - "$out/zlay-$version.cdx.json" "$version" <<'PYTHON'
import json, sys
with open(sys.argv[1], encoding="utf-8") as file:
    bom = json.load(file)
assert bom["bomFormat"] == "CycloneDX" and bom["specVersion"] == "1.5"
about = bom["metadata"]["component"]
assert (about["name"], about["version"]) == ("zlay", sys.argv[2]), about
components = {component["name"]: component for component in bom["components"]}
for name in ["rocksdb", "rustls", "tungstenite", "postgres"]:
    assert components[name]["purl"].startswith(f"pkg:cargo/{name}@"), components[name]
    assert components[name]["licenses"], name
with open("Cargo.lock", encoding="utf-8") as file:
    locked = file.read()
for component in bom["components"]:
    entry = f'name = "{component["name"]}"\nversion = "{component["version"]}"'
    assert entry in locked, entry
# Tests are not compiled in.
assert "proptest" not in components
print(len(components), "components")
PYTHON

  # And it can not be done twice.
  refused "the tag v$version exists" "$version" --out "$scratch/again"
}

make_copy
check "what is wrong is refused: tree, branch, tag, version, changelog, programs" what_is_wrong_is_refused
check "a dry run shows all, and changes nothing" a_dry_run_shows_all_and_changes_nothing
check "a release is a commit, a tag, an archive, a package, an SBOM and checksums" \
  a_release_is_commit_tag_and_files
checked
