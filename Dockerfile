# syntax=docker/dockerfile:1
# The server. `--target node` (default) runs on Node; `--target deno` runs on Deno with only the permissions it needs.
# The base images are build arguments, so that an offline build can pass local ones. If npm needs a private CA, pass it
# as the build secret `ca`.
ARG NODE_IMAGE=node:24-bookworm-slim
ARG DENO_IMAGE=denoland/deno:debian-2.9.6

FROM ${NODE_IMAGE} AS build
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    if [ -f /run/secrets/ca.pem ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca.pem; fi; \
    npm ci --omit=dev --no-audit --no-fund
# ONNX Runtime brings builds for every browser; the server loads only one of them.
RUN find node_modules/onnxruntime-web/dist -type f ! -name ort.wasm.bundle.min.mjs \
      ! -name ort-wasm-simd-threaded.wasm -delete
COPY LICENSE deno.json ./
COPY src ./src
COPY model/weights ./model/weights
# Files have the modes that the umask of the clone gave them. Let every user read them, and only root write.
RUN chmod -R a+rX,go-w LICENSE deno.json package.json src model

FROM ${DENO_IMAGE} AS deno
# For the embedded model, see src/runtimes/embedded/painter.ts.
ENV DENO_V8_FLAGS=--no-wasm-tier-up,--no-wasm-dynamic-tiering
ENV NODE_ENV=production HOST=0.0.0.0 DENO_DIR=/deno-dir DENO_NO_UPDATE_CHECK=1 IMAGES_DIR=/data
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/package.json /app/LICENSE /app/deno.json ./
COPY --from=build /app/src ./src
COPY --from=build /app/model ./model
# Deno compiles the code here, because the root file system is read-only later.
RUN deno cache --quiet src/main.deno.ts src/main.wait.ts src/runtimes/embedded/painter-thread.ts && chmod -R a+rX,go-w /deno-dir
# For IMAGES_BACKEND=filesystem; mount a volume here.
RUN install -d -o 10001 -m 0700 /data
USER 10001:10001
EXPOSE 8080
# docs/security.md gives the reason of each permission. Files with secrets belong into /run/secrets.
ENTRYPOINT ["deno", "run", "--quiet", "--cached-only", "--no-prompt", "--allow-net", "--allow-env", "--allow-read=/app,/data,/run/secrets,/usr/bin/ldd", "--deny-read=/run/secrets/kubernetes.io", "--allow-write=/data", "--allow-sys=hostname", "--allow-ffi=/app/node_modules/@img", "--deny-run", "src/main.deno.ts"]

# A build without --target makes the last stage.
FROM ${NODE_IMAGE} AS node
# A small young generation takes a quarter less memory at its peak, at no measurable cost (bench/README.md).
ENV NODE_ENV=production HOST=0.0.0.0 NODE_COMPILE_CACHE=/app/.compiled NODE_OPTIONS=--max-semi-space-size=8 IMAGES_DIR=/data
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/src ./src
COPY --from=build /app/model ./model
# /data is for IMAGES_BACKEND=filesystem; mount a volume there.
RUN install -d -o 10001 .compiled && install -d -o 10001 -m 0700 /data
# Above 10000, so that it is not a user of the host. Any other UID (OpenShift) works too, because the server writes
# nothing here but pictures in /data, if it is told to.
USER 10001:10001
# Node compiles the code here, as the user of the server, because its cache is valid only for that user. A start then
# takes half the time and 18 MB less memory. Other users compile at every start.
RUN node --import ./src/jobs/valkey/jobs.ts --import ./src/images/valkey.ts --import ./src/images/s3/s3.ts \
      --import ./src/images/preview.ts src/main.node.ts --help > /dev/null && chmod -R a-w .compiled
EXPOSE 8080
# The server runs without a shell, so SIGTERM reaches it directly.
ENTRYPOINT ["node", "src/main.node.ts"]
