# The recipes of this project; `just --list` is the help. `./bootstrap RECIPE` installs first what a
# new machine lacks.

import 'deploy/zlay.just'

# Outside the checkout, so that a new clone finds RocksDB built.
cache := env("XDG_CACHE_HOME", home_directory() / ".cache")
export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", cache / "zlay/target")

debug := CARGO_TARGET_DIR / "debug"
memlab := CARGO_TARGET_DIR / "memlab"
fuzzing := CARGO_TARGET_DIR / "fuzz"

# More than there are cores: most tests wait for sockets and timers most of the time.
export RUST_TEST_THREADS := env("RUST_TEST_THREADS", "8")

# What a release is built for: `portable`, or `native`, the processor that builds it and no older one.
cpu := env("ZLAY_CPU", "portable")

# RocksDB checks every write and every block with CRC-32C, which processors have had an instruction for
# since 2008 that a compiler does not use unasked. The same flags are in the Dockerfile.
release := if cpu == "native" { "CFLAGS=-march=native CXXFLAGS=-march=native RUSTFLAGS='-C target-cpu=native'" } else if cpu != "portable" { error("ZLAY_CPU is portable or native") } else if arch() == "x86_64" { "CXXFLAGS='-msse4.2 -mpclmul'" } else { "" }

commit := `git rev-parse --short=12 HEAD 2>/dev/null || echo unknown`
version := `sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml`

# lint and test
default: lint test

# a simulated network, the relay, and what passes through it, on this machine
demo *args: binaries
    {{ debug }}/zlay-sim demo {{ args }}

# run the relay against the live network (arguments: see `zlay --help`)
run *args: binaries
    {{ debug }}/zlay {{ args }}

# all fast tests: units, sockets, whole relay (arguments go to `cargo test`)
test *args:
    cargo test --locked {{ args }}

# every rule of the protocol against the real program (docs/conformance.md)
conformance *args:
    cargo test --locked --test conformance -- {{ args }}

# write into docs/conformance.md which tests show each rule
conformance-table:
    ZLAY_UPDATE_TABLE=1 cargo test --locked --test conformance -- table

# the relay against real PDSes, a real directory and subscribers nobody here wrote (minutes)
test-real *args: binaries
    node tests/real/run.mjs {{ args }}

# every page in a real browser: looks, accessibility, and what can be done there (two minutes)
test-browser *args: binaries
    node tests/browser/run.mjs {{ args }}

# the pictures of pages in docs/images, made anew (two minutes)
screenshots: binaries
    node tests/browser/run.mjs --screenshots

# dashboard, alerts and metrics against a real Prometheus that reads a running relay (a minute)
test-monitoring *args:
    cargo test --locked --test monitoring -- --include-ignored {{ args }}

# record what real PDSes send into tests/recorded, for the tests that read it (two minutes at first)
record-real *args:
    node tests/real/record.mjs {{ args }}

# formatting, clippy and documentation, all without a warning
lint:
    cargo fmt --check
    cargo fmt --check --manifest-path tests/real/oracle/Cargo.toml
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo fmt --check --manifest-path tests/concurrency/Cargo.toml
    cargo fmt --check --manifest-path docs/examples/rust/Cargo.toml
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

# what is compiled in: licences, unwanted crates, where they come from (docs/security.md)
audit:
    cargo deny --config .ci/deny.toml --locked check bans licenses sources

# known vulnerabilities of what is compiled in (asks the RustSec database on the internet)
audit-advisories:
    cargo deny --config .ci/deny.toml --locked check advisories

# format the code
fmt:
    cargo fmt
    cargo fmt --manifest-path tests/real/oracle/Cargo.toml
    cargo fmt --manifest-path fuzz/Cargo.toml
    cargo fmt --manifest-path tests/concurrency/Cargo.toml
    cargo fmt --manifest-path docs/examples/rust/Cargo.toml

# RocksDB is compiled once per profile, so this uses the one of the tests, with our own code optimised
# as in a release. `just bench verify K256/` runs some lines of one file.
# all microbenchmarks (five minutes), or those of one file of benches/ (`just bench verify`)
bench name="*" *args:
    cargo bench --locked --profile dev --bench '{{ name }}' \
        --config profile.dev.package.zlay.opt-level=3 \
        --config profile.dev.package.zlay.codegen-units=1 \
        --config profile.dev.package.zlay.debug-assertions=false \
        --config profile.dev.package.zlay.overflow-checks=false \
        -- {{ args }}

# Every input has bounds of memory and time (fuzz/src/lib.rs, fuzz/src/cost.rs). The corpus stays in fuzz/corpus,
# so that the next run goes on where this one ends.

# any bytes at all: every target of fuzz/ for 20 minutes, or one (`just fuzz frame 300`)
fuzz target="all" seconds="1200": fuzz-seeds
    CARGO_TARGET_DIR={{ fuzzing }} fuzz/run {{ target }} {{ seconds }}

# noise, seeds, damaged seeds and all that was ever found, for every target of fuzz/ (a minute; no nightly)
test-fuzz *args: fuzz-seeds
    CARGO_TARGET_DIR={{ fuzzing }} cargo test --locked --manifest-path fuzz/pure/Cargo.toml {{ args }}

# seeds for the fuzz targets, from the simulator and from the recordings of real PDSes
[private]
fuzz-seeds:
    cargo test --locked --lib -- --ignored --exact atproto::prove::tests::seeds::write_fuzz_seeds

# what threads share, in every order in which they may take their turns (loom; a minute)
test-concurrency *args:
    CARGO_TARGET_DIR={{ fuzzing }} cargo test --locked --manifest-path tests/concurrency/Cargo.toml -- --nocapture {{ args }}

# the fuzz targets with a little noise in Miri (seven minutes; needs nightly Rust with miri and rust-src)
miri:
    CARGO_TARGET_DIR={{ fuzzing }} MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --locked \
        --manifest-path fuzz/pure/Cargo.toml --test smoke -- --nocapture

# hosts, sequencer, ring and subscribers with real threads under the thread sanitizer
tsan:
    CARGO_TARGET_DIR={{ fuzzing }} RUSTFLAGS=-Zsanitizer=thread cargo +nightly test --locked \
        --manifest-path fuzz/pure/Cargo.toml -Zbuild-std --target {{ arch() }}-unknown-linux-gnu --test threads

# Samples, plot and results go to soak-results; options, and a short form: `zlay-sim soak --help`.

# an hour of everything at once: 2,750 hosts, bursts, faults, churn; is the output right, and memory flat?
soak *args: build
    {{ CARGO_TARGET_DIR }}/release/zlay-sim soak {{ args }}

# `--only list` says which attacks there are, `--strict` fails where one does more than it may.

# hostile hosts and clients against a relay, and what they do to everybody else (twenty minutes)
siege *args: build
    {{ CARGO_TARGET_DIR }}/release/zlay-sim siege {{ args }}

# Options: `--kills N` and `--losses N` for each life, `--seed N`.

# kills at every named point and at random, and losses of power (ten minutes)
crashes *args:
    ZLAY_CRASHES='{{ args }}' cargo test --locked --test relay -- \
        --ignored --nocapture --test-threads 1 reliability::

# Builds one optimised binary for each allocator; what the results say: docs/memory.md.

# memory by allocator, stack size and number of hosts (an hour; `--quick`: minutes)
memlab *args: memlab-binaries
    {{ CARGO_TARGET_DIR }}/release/zlay-sim memlab \
        --allocator system={{ memlab }}/zlay-system \
        --allocator system-many-arenas={{ memlab }}/zlay-system,MALLOC_ARENA_MAX=0 \
        --allocator system-2-arenas={{ memlab }}/zlay-system,MALLOC_ARENA_MAX=2 \
        --allocator mimalloc={{ memlab }}/zlay-mimalloc \
        --allocator jemalloc={{ memlab }}/zlay-jemalloc \
        {{ args }}

# Options: `--out FILE` writes JSON, `--against FILE` compares, `--relay-cmd COMMAND` measures any other
# relay, `--only pages --span 30` pages of lists beside ingest with five million accounts (docs/performance.md).

# a relay under load, beside what the machine does at best (four minutes)
bench-relay *args: build
    {{ CARGO_TARGET_DIR }}/release/zlay-sim bench {{ args }}

# the optimised binaries, in $CARGO_TARGET_DIR/release
build *args:
    ZLAY_COMMIT="${ZLAY_COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}" \
        {{ release }} cargo build --locked --release --bins {{ args }}

# Where it goes is below DESTDIR, if that is set; `--dry-run` says what would be done.

# install the built relay as a service of systemd (arguments go to deploy/install)
install *args:
    deploy/install {{ args }} {{ CARGO_TARGET_DIR }}/release/zlay

# the container's image, of the built relay, as localhost/zlay:COMMIT (needs buildah)
image:
    buildah bud --format docker --file Dockerfile.runtime --tag localhost/zlay:{{ commit }} \
        --build-arg VERSION={{ version }} --build-arg COMMIT={{ commit }} \
        --build-arg DATE={{ datetime_utc("%Y-%m-%dT%H:%M:%SZ") }} {{ CARGO_TARGET_DIR }}/release

# the Debian package of the built relay, in OUT (needs cargo-deb)
deb out="dist":
    deploy/deb {{ CARGO_TARGET_DIR }}/release {{ out }}

# Everything but what is built goes to a copy with `--dry-run`; deploy/release says more.

# make a release: version, changelog, tag, programs, package, checksums, SBOM (see deploy/release --help)
release version *args:
    deploy/release {{ version }} {{ args }}

# all of deploy/ that one machine can check, or some (`just test-deploy image debian`)
test-deploy *names: binaries
    ZLAY_BINARIES={{ debug }} tests/deploy/run {{ names }}

# remove what was built for this crate; its dependencies (RocksDB: 12 to 25 minutes) stay
clean:
    cargo clean --package zlay

# both binaries in the profile that tests, demo and soak share
[private]
binaries:
    cargo build --locked --bins

# the relay with each allocator; the dependencies are compiled once
[private]
memlab-binaries:
    mkdir -p {{ memlab }}
    {{ release }} cargo build --locked --release --bin zlay --features mimalloc
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-mimalloc
    {{ release }} cargo build --locked --release --bin zlay --features jemalloc
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-jemalloc
    {{ release }} cargo build --locked --release --bins
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-system
