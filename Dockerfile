# Build: docker build -t hearthside --build-arg HEARTHSIDE_COMMIT=$(git rev-parse --short=12 HEAD) .
#        for other machines, too: docker buildx build --platform linux/amd64,linux/arm64 ...
# Run:   docker run -p 6380:6380 -e HEARTHSIDE__UPSTREAM__URL=redis://redis:6379 hearthside
#        with mappings: -v ./hearthside.toml:/etc/hearthside/config.toml:ro -e HEARTHSIDE__STORE__URL=postgres://...
# A compose file and Kubernetes manifests are in deploy/; scripts/image builds and tries the last stage without a registry.
#
# Whoever must have the same bytes again puts the digest behind the name of the base: @sha256:...
FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# The compiler of the image, whatever rust-toolchain.toml says.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /build
# The dependencies, built once and again when they change: of this package there are only empty files yet.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src benches && touch src/lib.rs \
    && for file in build.rs src/main.rs benches/load.rs benches/fanout.rs benches/paced.rs benches/micro.rs; do \
        echo 'fn main() {}' >$file; done \
    && cargo build --release --locked --bin hearthside
COPY . .
# What HEARTHSIDE STATUS says that this is; a checkout's .git is not copied.
ARG HEARTHSIDE_COMMIT=""
# The files that were copied may be older than the empty ones.
RUN touch build.rs src/lib.rs src/main.rs && cargo build --release --locked --bin hearthside \
    && deploy/image/assemble target/release/hearthside /image

FROM scratch
ARG HEARTHSIDE_COMMIT=""
LABEL org.opencontainers.image.title="Hearthside" \
      org.opencontainers.image.description="A read-through caching sidecar proxy for Redis" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${HEARTHSIDE_COMMIT}"
COPY --from=build /image/root /
# Data of the store, the journal and the private server: mount a volume here if what is in them must outlive the container.
COPY --from=build --chown=10001:10001 /image/state /var/lib
USER 10001:10001
WORKDIR /var/lib/hearthside
ENV PATH=/usr/bin
# Nobody outside a container can reach its loopback address, so the sidecar listens on every address, and the container's
# network decides who can connect. If that network is not yours alone, set auth.mode and HEARTHSIDE__SECURITY__ALLOW_NO_AUTH=false.
# From outside the container the admin port answers the probes and /metrics only, until admin.token_file is set.
ENV HEARTHSIDE__SERVER__LISTEN=0.0.0.0:6380 \
    HEARTHSIDE__ADMIN__LISTEN=0.0.0.0:9180 \
    HEARTHSIDE__SECURITY__ALLOW_NO_AUTH=true
EXPOSE 6380 9180
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["hearthside", "--config", "/etc/hearthside/config.toml", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/hearthside", "--config", "/etc/hearthside/config.toml"]
