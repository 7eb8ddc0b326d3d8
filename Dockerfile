# syntax=docker/dockerfile:1
# The server. `--target node` (default) runs on Node. The base is a build argument: users get the public image, an
# offline build passes a local one. Where npm needs a private CA, pass it as the build secret `ca`.
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN --mount=type=secret,id=ca,target=/run/secrets/ca.pem \
    if [ -f /run/secrets/ca.pem ]; then export NODE_EXTRA_CA_CERTS=/run/secrets/ca.pem; fi; \
    npm ci --omit=dev --no-audit --no-fund
COPY LICENSE ./
COPY src ./src
# Files arrive with the modes that the checkout's umask gave them: let every user read them, and none but root write.
RUN chmod -R a+rX,go-w LICENSE package.json src

FROM ${NODE_IMAGE} AS node
ENV NODE_ENV=production HOST=0.0.0.0
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/src ./src
# Above 10000, so that it is no user of the host; any other UID (OpenShift) works too, nothing is written here.
USER 10001:10001
EXPOSE 8080
# No shell is needed to run; SIGTERM reaches the server itself.
ENTRYPOINT ["node", "src/main.node.ts"]
