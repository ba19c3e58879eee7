# syntax=docker/dockerfile:1

# The version of rust-toolchain.toml. That file is not copied: it would fetch components that only developers need.
ARG RUST=1.95.0

FROM rust:${RUST}-bookworm AS build
# Debian keeps one version of a package at a time; the next security update would remove a pinned one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake make musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
# Builds the dependencies in a separate layer, with a stub program.
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY crates crates
# A member of the workspace, which the build neither needs nor compiles.
COPY fuzz/Cargo.toml fuzz/Cargo.toml
RUN mkdir -p src fuzz/src \
    && touch src/lib.rs fuzz/src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin doorward
# `doorward init` writes these.
COPY envoy envoy
COPY examples/caddy examples/caddy
COPY examples/haproxy examples/haproxy
COPY examples/nginx examples/nginx
COPY examples/traefik examples/traefik
COPY src src
# The stub may be newer than the sources, and cargo would then keep it.
RUN find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin doorward \
    && install -D "target/$(uname -m)-unknown-linux-musl/release/doorward" /out/doorward \
    && install -d -m 0700 /out/data

FROM build AS build-upstream
COPY examples/upstream.rs examples/upstream.rs
RUN cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --example upstream \
    && install -D "target/$(uname -m)-unknown-linux-musl/release/examples/upstream" /out/upstream

# The service behind the gateway in compose.yaml and k8s/overlays/minikube; only for trying Doorward.
FROM scratch AS upstream
LABEL org.opencontainers.image.title="doorward-upstream" \
    org.opencontainers.image.description="A service that shows what the gateway sent it" \
    org.opencontainers.image.licenses="MIT"
ENV PATH=/usr/local/bin
# The health check uses this address, too.
COPY --from=build /out/doorward /usr/local/bin/doorward
COPY --from=build-upstream /out/upstream /usr/local/bin/upstream
USER 65532:65532
EXPOSE 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["doorward", "check", "--url", "http://127.0.0.1:8081/healthz"]
ENTRYPOINT ["upstream"]
CMD ["0.0.0.0:8081"]

# Envoy's images have different versions of glibc; a library that is built with an old one loads in all of them.
FROM rust:${RUST}-bullseye AS build-filter
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
COPY crates crates
COPY fuzz/Cargo.toml fuzz/Cargo.toml
RUN mkdir -p src fuzz/src \
    && touch src/lib.rs fuzz/src/lib.rs \
    && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked --package doorward-filter \
    && install -D -m 0755 target/release/libdoorward_filter.so /out/libdoorward.so

# The module for Envoy alone: COPY --from, an init container or an image volume.
FROM scratch AS filter
LABEL org.opencontainers.image.title="doorward-filter" \
    org.opencontainers.image.description="The judge of Doorward as a dynamic module of Envoy" \
    org.opencontainers.image.licenses="MIT"
COPY --from=build-filter /out/libdoorward.so /usr/lib/libdoorward.so

# The Envoy of compose.filter.yaml.
FROM envoyproxy/envoy:v1.40.0 AS envoy
LABEL org.opencontainers.image.title="doorward-envoy" \
    org.opencontainers.image.description="Envoy with the module of Doorward" \
    org.opencontainers.image.licenses="Apache-2.0 AND MIT"
COPY --from=build-filter /out/libdoorward.so /usr/lib/libdoorward.so
USER 101:101

FROM scratch AS doorward
LABEL org.opencontainers.image.title="doorward" \
    org.opencontainers.image.description="The login and the guard beside your gateway" \
    org.opencontainers.image.licenses="MIT"
ENV PATH=/usr/local/bin \
    DOORWARD_DATA_DIR=/var/lib/doorward
COPY --from=build /out/doorward /usr/local/bin/doorward
# For the embedded user table; with MySQL, Doorward writes nothing here.
COPY --from=build --chown=65532:65532 /out/data /var/lib/doorward
USER 65532:65532
EXPOSE 9001 9002 9003
# With a URL, the command reads no settings; if you change listen.ops, change the health check.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s CMD ["doorward", "check", "--url", "http://127.0.0.1:9003/readyz"]
ENTRYPOINT ["doorward"]
CMD ["serve"]
