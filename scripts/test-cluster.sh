#!/usr/bin/env bash
# `npm run test:cluster`: the chart on a real cluster; arguments go to vitest. `scripts/test-cluster.sh --prepare` only
# builds the images and starts the cluster, for a run after it.
#
# With KUBECONFIG set: on that cluster, which needs to enforce NetworkPolicy, have the CRDs of KServe, OpenShift's
# Route, the Prometheus operator, Gateway API and KEDA, and reach the images that TEST_VALUES (like
# test/cluster/values.yaml), TEST_SERVER_IMAGE, TEST_S3_IMAGE and TEST_K6_IMAGE name. TEST_DNS_SECONDS: for how long its DNS
# caches the cluster's own names (0). What needs KEDA itself is skipped where KEDA does not run.
# Without it: on the cluster that the program CLUSTER_TOOL starts on this machine (default: ../shared/cluster/cluster,
# which lies outside this repository), with images built from this checkout. That needs root; see build-images.sh.
# With neither the tests are skipped.
#
# CLUSTER_TOOL has the verbs up, down, addon NAME, load IMAGE.tar and exec -- COMMAND, and keeps its state in $CLUSTER_DIR.
# CLUSTER_ADDONS="crds keda" also starts KEDA there, whose first build takes ten minutes.
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
vitest=(node_modules/.bin/vitest run --project cluster "$@")

if [ -n "${KUBECONFIG:-}" ]; then
  node scripts/setup.mjs
  exec "${vitest[@]}"
fi

CLUSTER_TOOL=${CLUSTER_TOOL:-../shared/cluster/cluster}
if [ ! -x "$CLUSTER_TOOL" ]; then
  echo "Skipped: tests on a real cluster. Set KUBECONFIG to a cluster for tests, or CLUSTER_TOOL to a program that starts one: there is no $CLUSTER_TOOL."
  exit 0
fi
export CLUSTER_DIR=${CLUSTER_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/diffusers-mcp/cluster}
# For the one volume that a test asks for.
export TEST_VOLUME=$CLUSTER_DIR/run/volume
# shellcheck source=scripts/build-images.sh
. scripts/build-images.sh
skip_without_builder 'tests on a real cluster'
# Which source the images in the running cluster are of.
loaded=$CLUSTER_DIR/run/loaded

bring_up() {
  say 'Images'
  prepare_images
  # Now, because the tests cannot: the network of the cluster leads nowhere.
  "$NODE" scripts/tools.ts > "$work/tools.log"
  for build in build_server build_deno_server build_valkey build_s3 build_k6 build_runtime; do
    "$build" > "$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; die "$build failed."; }
  done

  say 'Cluster'
  "$CLUSTER_TOOL" down
  nice -n 5 "$CLUSTER_TOOL" up
  # shellcheck disable=SC2086
  "$CLUSTER_TOOL" addon ${CLUSTER_ADDONS:-crds}
  # As kubeadm of Kubernetes 1.36 has it: new pods appear in DNS at once.
  "$CLUSTER_TOOL" exec -- bash -c 'set -o pipefail
    kubectl -n kube-system get configmap coredns -o yaml |
      sed "s/^\( *\)cache 30$/\1cache 30 {\n\1   disable success cluster.local\n\1   disable denial cluster.local\n\1}/" |
      kubectl apply -f -
    kubectl -n kube-system rollout restart deployment/coredns
    kubectl -n kube-system rollout status deployment/coredns --timeout=120s'
  for image in "$SERVER" "$DENO_SERVER" "$VALKEY" "$S3" "$K6" "$RUNTIME"; do
    save_image "$image" "$work/image.tar" > "$work/save.log" 2>&1 || { cat "$work/save.log"; die "$image cannot be saved."; }
    "$CLUSTER_TOOL" load "$work/image.tar"
  done
  mkdir -p "$TEST_VOLUME"
  source_tree > "$loaded"
}

if [ "${1:-}" = --prepare ]; then
  trap 'rm -rf "$work"' EXIT
  bring_up
  exit
fi

finish() {
  "$CLUSTER_TOOL" down
  rm -rf "$work"
}
trap finish EXIT

[ "$(cat "$loaded" 2> "$work/loaded.log")" = "$(source_tree)" ] || bring_up
say 'Tests'
"$CLUSTER_TOOL" exec -- "${vitest[@]}"
