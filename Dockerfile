# Build: docker build -t hearthside --build-arg HEARTHSIDE_COMMIT=$(git rev-parse --short=12 HEAD) .
# Run:   docker run -p 6380:6380 -e HEARTHSIDE__UPSTREAM__URL=redis://redis:6379 -e HEARTHSIDE__STORE__URL=postgres://... hearthside
FROM rust:1.95.0-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# What HEARTHSIDE STATUS says that this is; a checkout's .git is not copied.
ARG HEARTHSIDE_COMMIT=""
RUN cargo build --release --locked --bin hearthside

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/hearthside --create-home hearthside
COPY --from=build /build/target/release/hearthside /usr/local/bin/hearthside
COPY --from=build /build/config.toml /var/lib/hearthside/config.toml
USER hearthside
WORKDIR /var/lib/hearthside
# Nobody outside a container can reach its loopback address, so the sidecar listens on every address, and the container's
# network decides who can connect. If that network is not yours alone, set auth.mode and remove the second line.
ENV HEARTHSIDE__SERVER__LISTEN=0.0.0.0:6380
ENV HEARTHSIDE__SECURITY__ALLOW_NO_AUTH=true
EXPOSE 6380 9180
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["hearthside", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["hearthside"]
