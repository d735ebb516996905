# The image of a relay, from this source alone (20 to 40 minutes at first, most of them for RocksDB,
# which later builds find in the builder's cache):
#
#   docker build -t zlay .                          # for any x86-64 with SSE 4.2 (2011), or any arm64
#   docker build -t zlay --build-arg CPU=native .   # for the processor that builds it, and no older one
#
# With the date and the commit in the image's labels:
#   --build-arg VERSION=… --build-arg COMMIT="$(git rev-parse HEAD)" --build-arg DATE="$(date -u +%FT%TZ)"

ARG RUST=docker.io/library/rust:1.90-bookworm
ARG BASE=docker.io/library/debian:bookworm-slim

# hadolint ignore=DL3006
FROM ${RUST} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends clang libclang-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY benches benches
COPY src src
# Which tests read, and the documentation of the crate.
COPY README.md ./
ARG CPU=portable
# The flags are those of `just build`; what they are good for is said there.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    case "$CPU,$(uname -m)" in \
      portable,x86_64) export CXXFLAGS='-msse4.2 -mpclmul' ;; \
      portable,*) ;; \
      native,*) export CFLAGS=-march=native CXXFLAGS=-march=native RUSTFLAGS='-C target-cpu=native' ;; \
      *) echo "CPU is portable or native, not $CPU" >&2; exit 2 ;; \
    esac \
 && cargo build --locked --release --bin zlay \
 && install -D target/release/zlay /out/zlay

# From here on the same as Dockerfile.runtime; tests/deploy/image.sh compares them.
# hadolint ignore=DL3006
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
 && rm -rf /var/lib/apt/lists/* \
 && install --directory --owner=10001 --group=10001 --mode=0750 /data

COPY --from=build --chmod=0755 /out/zlay /usr/local/bin/zlay

ARG VERSION=unknown
ARG COMMIT=unknown
ARG DATE=unknown
LABEL org.opencontainers.image.title="zlay" \
      org.opencontainers.image.description="A synchronous, thread-per-host AT Protocol relay" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${DATE}"

USER 10001:10001
ENV RELAY_DATA_DIR=/data
WORKDIR /data
VOLUME ["/data"]

EXPOSE 3000 3001

HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=6 \
  CMD ["/usr/local/bin/zlay", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/zlay"]
