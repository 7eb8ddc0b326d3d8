# syntax=docker/dockerfile:1
# The server. `--target node` (default) runs on Node, `--target deno` on Deno with the permissions that it needs by
# name. The bases are build arguments: users get the public images, an offline build passes local ones. Where npm
# needs a private CA, pass it as the build secret `ca`.
ARG NODE_IMAGE=node:24-bookworm-slim
ARG DENO_IMAGE=denoland/deno:debian-2.9.6

FROM ${NODE_IMAGE} AS build
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    if [ -f /run/secrets/ca.pem ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca.pem; fi; \
    npm ci --omit=dev --no-audit --no-fund
# ONNX Runtime brings builds for every browser; the server loads one of them.
RUN find node_modules/onnxruntime-web/dist -type f ! -name ort.wasm.bundle.min.mjs \
      ! -name ort-wasm-simd-threaded.wasm -delete
COPY LICENSE deno.json ./
COPY src ./src
COPY model/weights ./model/weights
# Files arrive with the modes that the checkout's umask gave them: let every user read them, and none but root write.
RUN chmod -R a+rX,go-w LICENSE deno.json package.json src model

FROM ${DENO_IMAGE} AS deno
# For the embedded model, see src/runtimes/embedded/painter.ts.
ENV DENO_V8_FLAGS=--no-wasm-tier-up,--no-wasm-dynamic-tiering
ENV NODE_ENV=production HOST=0.0.0.0 DENO_DIR=/deno-dir DENO_NO_UPDATE_CHECK=1
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/package.json /app/LICENSE /app/deno.json ./
COPY --from=build /app/src ./src
COPY --from=build /app/model ./model
# Translated here, because the root file system is read-only later.
RUN deno cache --quiet src/main.deno.ts src/main.wait.ts src/runtimes/embedded/painter-thread.ts && chmod -R a+rX,go-w /deno-dir
USER 10001:10001
EXPOSE 8080
# Sockets, the environment, files to read, the machine's name, and sharp's native library; nothing else.
ENTRYPOINT ["deno", "run", "--quiet", "--cached-only", "--no-prompt", "--allow-net", "--allow-env", "--allow-read", "--allow-sys", "--allow-ffi", "src/main.deno.ts"]

# The last stage is what a build without --target makes.
FROM ${NODE_IMAGE} AS node
# A small young generation: a quarter less memory at its peak, at no cost that could be measured (bench/README.md).
ENV NODE_ENV=production HOST=0.0.0.0 NODE_COMPILE_CACHE=/app/.compiled NODE_OPTIONS=--max-semi-space-size=8
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/src ./src
COPY --from=build /app/model ./model
RUN install -d -o 10001 .compiled
# Above 10000, so that it is no user of the host; any other UID (OpenShift) works too, nothing is written here.
USER 10001:10001
# Compiled here, by the user that Node keeps it for: a start then takes half the time and 18 MB less. Other users
# compile at every start.
RUN node --import ./src/jobs/valkey/jobs.ts --import ./src/images/valkey.ts --import ./src/images/s3/s3.ts \
      --import ./src/images/preview.ts src/main.node.ts --help > /dev/null && chmod -R a-w .compiled
EXPOSE 8080
# No shell is needed to run; SIGTERM reaches the server itself.
ENTRYPOINT ["node", "src/main.node.ts"]
