# The image of the registrar. `make image` builds it; docs/guides/deploy.md, "Containers", says how to run it.
# Both bases are Debian 12, so that the binary finds the glibc that it was linked with.
FROM docker.io/library/rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS builder

WORKDIR /src
# It adds the list of dependencies to the binary.
RUN cargo install --locked --version 0.7.7 cargo-auditable
# .dockerignore leaves only what the binary is built from.
COPY . .
# The commit that `registrar info` shows. The context has no .git.
ARG REGISTRAR_COMMIT
# Set by BuildKit; it keeps the caches of two architectures apart.
ARG TARGETARCH
RUN --mount=type=cache,id=registrar-cargo-${TARGETARCH},target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,id=registrar-target-${TARGETARCH},target=/src/target,sharing=locked \
    cargo auditable build --release --locked --bin registrar \
    && install -d /out/data \
    && install target/release/registrar /out/

# glibc, libgcc, the certificates of public authorities and time zones; no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f AS runtime

ARG REGISTRAR_COMMIT
LABEL org.opencontainers.image.title="registrar" \
      org.opencontainers.image.description="Registers document hashes on Base Sepolia over gRPC and tracks each one until it is final" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REGISTRAR_COMMIT}"

COPY --from=builder /out/registrar /usr/local/bin/registrar
# The only place that the service writes to. A named volume takes its owner from here.
COPY --from=builder --chown=65532:65532 /out/data /data

# Other machines reach a container by its address, so the service refuses to start until TLS and REGISTRAR_AUTH=enforce
# are set, or REGISTRAR_ALLOW_INSECURE=true.
ENV REGISTRAR_LISTEN=0.0.0.0:50051 \
    REGISTRAR_ADMIN_LISTEN=0.0.0.0:9464 \
    LOG_FORMAT=json

USER 65532:65532
# Where the default of REGISTRAR_DATABASE_URL puts the SQLite file.
WORKDIR /data
VOLUME /data
EXPOSE 50051 9464
STOPSIGNAL SIGTERM
# A start waits up to 30 s for an endpoint and the database.
HEALTHCHECK --interval=10s --timeout=5s --start-period=40s --retries=3 CMD ["/usr/local/bin/registrar", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/registrar"]
CMD ["serve"]
