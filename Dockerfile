# docker-stats-exporter in an image that holds nothing but the program.
#
#   docker build -t docker-stats-exporter .
#       builds the program in the official Rust image, statically linked, and puts it on `scratch`.
#
#   docker build -t docker-stats-exporter --target local --file Dockerfile DIRECTORY
#       the same image around a static binary DIRECTORY/docker-stats-exporter that was built before, without the
#       Rust image and without BuildKit. Both end in the stage `base`, so they differ in nothing but the build.

# Everything but the program.
FROM scratch AS base
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="docker-stats-exporter" \
      org.opencontainers.image.description="Prometheus metrics of every container on a Linux host, read straight from the kernel" \
      org.opencontainers.image.source="https://github.com/docker-stats-exporter/docker-stats-exporter" \
      org.opencontainers.image.documentation="https://github.com/docker-stats-exporter/docker-stats-exporter#readme" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
EXPOSE 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/docker-stats-exporter", "healthcheck"]
ENTRYPOINT ["/docker-stats-exporter"]

# The image around a binary from the build context.
FROM base AS local
COPY docker-stats-exporter /docker-stats-exporter

# The program. `crt-static` needs `--target`, or build scripts and macros would be linked statically too.
FROM rust:1.95 AS build
ARG REVISION=unknown
WORKDIR /src
COPY . .
RUN target="$(rustc --print host-tuple)" \
    && BUILD_REVISION="${REVISION}" RUSTFLAGS="-C target-feature=+crt-static" \
       cargo build --locked --profile dist --package docker-stats-exporter --target "${target}" \
    && install -D "target/${target}/dist/docker-stats-exporter" /out/docker-stats-exporter

FROM base
COPY --from=build /out/docker-stats-exporter /docker-stats-exporter
