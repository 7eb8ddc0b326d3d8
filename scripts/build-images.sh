# shellcheck shell=bash
# Builds the container images without a container engine or an image registry, for the scripts that test them. Source
# this file from the repository's root. It needs Linux with apt-get, and root (overlay storage, host network), and
# installs buildah, podman, runc, mmdebstrap and curl if they are missing. The images stay in
# $XDG_CACHE_HOME/diffusers-mcp/images (else ~/.cache); you may remove that folder at any time.

IMAGES=${XDG_CACHE_HOME:-$HOME/.cache}/diffusers-mcp/images
# The runtime is tested without the 4 GB of CUDA. This script makes the libraries that torch then looks for.
STUBS=scripts/cuda-stubs.py

STORAGE=(--root "$IMAGES/storage" --runroot "$IMAGES/run" --storage-driver overlay)
BUILDAH=(nice -n 10 buildah "${STORAGE[@]}")
PODMAN=(nice -n 5 podman "${STORAGE[@]}" --cgroup-manager cgroupfs --events-backend none --runtime runc)
# A change of the runtime's lock file leaves 4 GB of layers behind; past this many GB the cache begins anew.
CACHE_MAX=20

work=$(mktemp -d)

say() { printf '\n=== %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# Ends the script with success and a line that says why, if this machine cannot build images. `.ci/run` counts the line.
skip_without_builder() { # skip_without_builder WHAT
  local why=
  if [ "$(uname -s)" != Linux ] || ! command -v apt-get > "$work/which"; then
    why='The images are built on Linux with apt-get.'
  elif [ "$(id -u)" -ne 0 ]; then
    why="The images are built by root: overlay storage, and containers on the host's network."
  fi
  [ -n "$why" ] || return 0
  printf 'Skipped: %s. %s\n' "$1" "$why"
  rm -rf "$work"
  exit 0
}

install_tools() {
  local missing=()
  local tool
  for tool in buildah podman runc mmdebstrap curl; do
    command -v "$tool" > "$work/which" || missing+=("$tool")
  done
  [ ${#missing[@]} -eq 0 ] && return
  say "Installing ${missing[*]} with apt-get"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" debian-archive-keyring
}

build() { # build TAG CONTEXT OPTION...
  local tag=$1 context=$2
  shift 2
  "${BUILDAH[@]}" bud --isolation chroot --layers --tag "$tag" "$@" "$context"
}

# Bases with the layout of the public ones, from Debian's packages and npm's binary of Node.
make_bases() {
  local base=$IMAGES/base
  mkdir -p "$base"
  if [ ! -f "$base/bookworm.tar" ]; then
    nice mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/bookworm.tar"
    mv "$work/bookworm.tar" "$base"
  fi
  rm -rf "$base/node" "$base/npm"
  cp "$NODE" "$base/node"
  cp -R "$(npm root --global)/npm" "$base/npm"
  build "$DEBIAN_IMAGE" "$base" --file - << 'END'
FROM scratch
ADD bookworm.tar /
CMD ["bash"]
END
  build "$NODE_IMAGE" "$base" --file - << END
FROM $DEBIAN_IMAGE
COPY npm /usr/local/lib/node_modules/npm
COPY --chmod=0755 node /usr/local/bin/node
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm && chmod +x /usr/local/lib/node_modules/npm/bin/*.js
END
  cp node_modules/deno/deno "$base/deno"
  build "$DENO_IMAGE" "$base" --file - << END
FROM $DEBIAN_IMAGE
COPY --chmod=0755 deno /usr/bin/deno
END
  build "$PYTHON_IMAGE" "$base" --file - << END
FROM $DEBIAN_IMAGE
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* && ln -s /usr/bin/python3 /usr/local/bin/python
END
}

# The working tree as an object of git's, through an index of its own: without what git ignores (node_modules).
source_tree() {
  export GIT_INDEX_FILE=$work/index
  git read-tree HEAD
  git add --all
  git write-tree
  unset GIT_INDEX_FILE
}

# The files of COMMIT, or of the working tree.
export_source() { # export_source FOLDER [COMMIT]
  local tree=${2:-}
  [ -n "$tree" ] || tree=$(source_tree)
  mkdir "$1"
  # Modes as in the checkout of somebody with a strict umask: the images' users must be able to read them all the same.
  git archive "$tree" | (umask 077 && tar -x --no-same-permissions -C "$1")
}

# Tools, bases and the source in $work/source: that of COMMIT, or of the working tree.
prepare_images() { # prepare_images [COMMIT]
  install_tools
  mkdir -p "$IMAGES/storage"
  if [ "$(du --summarize --block-size 1G "$IMAGES/storage" | cut -f 1)" -gt "$CACHE_MAX" ]; then
    "${PODMAN[@]}" rmi --all --force > "$work/rmi.log" 2>&1 || cat "$work/rmi.log"
  fi
  node scripts/setup.mjs
  NODE=$PWD/node_modules/node/bin/node
  DEBIAN_IMAGE=localhost/debian:bookworm
  DENO_IMAGE=localhost/deno:$("$NODE" -p 'require("deno/package.json").version')
  NODE_IMAGE=localhost/node:$("$NODE" -p 'process.versions.node')
  PYTHON_IMAGE=localhost/python:3.11
  SERVER=localhost/diffusers-mcp:test
  DENO_SERVER=localhost/diffusers-mcp:test-deno
  RUNTIME=localhost/diffusers-runtime:test
  VALKEY=localhost/valkey:test
  S3=localhost/seaweedfs:test
  K6=localhost/k6:test

  # Where this machine's certificates are not the public ones, the package managers inside the build need them too.
  certificates=${NODE_EXTRA_CA_CERTS:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}
  ca=()
  [ -f "$certificates" ] && ca=(--secret "id=ca,src=$certificates")

  say 'Base images'
  make_bases > "$work/bases.log" 2>&1 || { cat "$work/bases.log"; die 'The base images could not be made.'; }
  export_source "$work/source" "${1:-}"
}

build_server() { build "$SERVER" "$work/source" --target node --build-arg NODE_IMAGE="$NODE_IMAGE" "${ca[@]}"; }

build_deno_server() {
  build "$DENO_SERVER" "$work/source" --target deno --build-arg NODE_IMAGE="$NODE_IMAGE" \
    --build-arg DENO_IMAGE="$DENO_IMAGE" "${ca[@]}"
}

build_runtime() {
  build "$RUNTIME" "$work/source" --file "$work/source/runtime/Dockerfile" --build-arg PYTHON_IMAGE="$PYTHON_IMAGE" \
    --build-arg TORCH=stubs --secret "id=stubs,src=$STUBS" "${ca[@]}"
}

# Valkey from Debian's packages.
build_valkey() {
  local base=$IMAGES/base
  if [ ! -f "$base/valkey.tar" ]; then
    nice mmdebstrap --quiet --variant=minbase --include=valkey-server trixie "$work/valkey.tar"
    mv "$work/valkey.tar" "$base"
  fi
  build "$VALKEY" "$base" --file - << 'END'
FROM scratch
ADD valkey.tar /
USER 10002:10002
CMD ["valkey-server"]
END
}

# An S3-compatible store: SeaweedFS from PyPI.
build_s3() {
  cp "$("$NODE" -e 'import("./test/support/seaweedfs.ts").then((m) => console.log(m.seaweedfsProgram()))')" "$IMAGES/base/weed"
  build "$S3" "$IMAGES/base" --file - << END
FROM $DEBIAN_IMAGE
COPY --chmod=0755 weed /usr/bin/weed
USER 10001:10001
END
}

# k6 at the version of tools/k6, with the layout of its public image.
build_k6() {
  cp "$(command -v "$("$NODE" -e 'import("./scripts/tools.ts").then((m) => console.log(m.tool("k6")))')")" "$IMAGES/base/k6"
  build "$K6" "$IMAGES/base" --file - << END
FROM $DEBIAN_IMAGE
COPY --chmod=0755 k6 /usr/bin/k6
USER 12345:12345
END
}

# One file that `docker load`, `ctr images import` and the test cluster take.
save_image() { # save_image TAG FILE
  rm -f "$2"
  "${BUILDAH[@]}" push "$1" "docker-archive:$2:$1"
}
