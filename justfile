# The recipes of this project; `just --list` is the help. `./bootstrap RECIPE` installs first what a
# new machine lacks.

# Outside the checkout, so that a new clone finds RocksDB built.
cache := env("XDG_CACHE_HOME", home_directory() / ".cache")
export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", cache / "zlay/target")

debug := CARGO_TARGET_DIR / "debug"
memlab := CARGO_TARGET_DIR / "memlab"

# More than there are cores: most tests wait for sockets and timers most of the time.
export RUST_TEST_THREADS := env("RUST_TEST_THREADS", "8")

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

# record what real PDSes send into tests/recorded, for the tests that read it (two minutes at first)
record-real *args:
    node tests/real/record.mjs {{ args }}

# formatting, clippy and documentation, all without a warning
lint:
    cargo fmt --check
    cargo fmt --check --manifest-path tests/real/oracle/Cargo.toml
    cargo fmt --check --manifest-path fuzz/Cargo.toml
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

# format the code
fmt:
    cargo fmt
    cargo fmt --manifest-path tests/real/oracle/Cargo.toml
    cargo fmt --manifest-path fuzz/Cargo.toml

# microbenchmarks (arguments go to Criterion). RocksDB is compiled once per profile, so this uses the
# one of the tests, with our own code optimised as in a release
bench *args:
    cargo bench --locked --profile dev --bench verify \
        --config profile.dev.package.zlay.opt-level=3 \
        --config profile.dev.package.zlay.codegen-units=1 \
        --config profile.dev.package.zlay.debug-assertions=false \
        --config profile.dev.package.zlay.overflow-checks=false \
        -- {{ args }}

# fuzz `frame`, `cbor`, `car`, `mst_invert` or `did_document` (needs a nightly compiler and cargo-fuzz)
fuzz target seconds="60":
    cargo test --locked --lib -- --ignored write_fuzz_seeds
    cargo +nightly fuzz run {{ target }} -- -max_total_time={{ seconds }}

# the relay under a large simulated network with faults, for ten minutes
soak *args: binaries
    {{ debug }}/zlay-sim soak --hosts 300 --duration 600s --faults some {{ args }}

# what relays take of the machine, by allocator, stack size and number of hosts (an hour; --quick:
# minutes): builds one optimised binary for each allocator (docs/memory.md)
memlab *args: memlab-binaries
    {{ CARGO_TARGET_DIR }}/release/zlay-sim memlab \
        --allocator system={{ memlab }}/zlay-system \
        --allocator system-2-arenas={{ memlab }}/zlay-system,MALLOC_ARENA_MAX=2 \
        --allocator mimalloc={{ memlab }}/zlay-mimalloc \
        --allocator jemalloc={{ memlab }}/zlay-jemalloc \
        {{ args }}

# the optimised binary, in $CARGO_TARGET_DIR/release
build *args:
    cargo build --locked --release {{ args }}

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
    cargo build --locked --release --bin zlay --no-default-features --features mimalloc
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-mimalloc
    cargo build --locked --release --bin zlay --no-default-features --features jemalloc
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-jemalloc
    cargo build --locked --release --bins --no-default-features
    cp {{ CARGO_TARGET_DIR }}/release/zlay {{ memlab }}/zlay-system
