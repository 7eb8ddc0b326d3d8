#!/usr/bin/env bash
# Builds both container images without a container engine or an image registry, starts them locked down (read-only,
# no capabilities, any user id) and asks them for pictures. Last line: N passed, N failed.
#
#   scripts/test-images.sh            what a commit of the working tree would hold
#   scripts/test-images.sh COMMIT     that commit
#
# Needs Linux with apt-get, and root (overlay storage, host network); without them it is skipped. It installs buildah,
# podman, runc, mmdebstrap and curl if they are missing. The images stay in $XDG_CACHE_HOME/diffusers-mcp/images (else
# ~/.cache), so a second run takes a minute; you may remove that folder at any time. Every server listens only on
# 127.0.0.1.
# shellcheck disable=SC2329 # functions are called through `check`
set -euo pipefail
umask 022
cd "$(dirname "$0")/.."
# shellcheck source=scripts/build-images.sh
. scripts/build-images.sh

# OpenShift gives every namespace user ids like this one, and always group 0.
OPENSHIFT=1000620000:0
REQUEST='{"prompt":"a red car","width":64,"height":64,"num_inference_steps":20,"seed":7}'

# Podman's own limits are higher than root may set inside a sandbox.
LIMITS=(--ulimit nofile=1024:4096 --ulimit nproc=4096:4096)
# With its shells masked an image proves that it needs none.
LOCKED=("${LIMITS[@]}" --log-driver k8s-file --read-only --cap-drop all --security-opt no-new-privileges
  --volume /dev/null:/usr/bin/dash:ro --volume /dev/null:/usr/bin/bash:ro)

passed=0
failed=0
containers=()

finish() {
  local id
  for id in "${containers[@]}"; do
    "${PODMAN[@]}" rm --force --time 0 "$id" > "$work/rm.log" 2>&1 || cat "$work/rm.log"
  done
  rm -rf "$work"
}
trap finish EXIT

check() { # check WHAT COMMAND...: counts it, sets $ok to yes or no; its output is shown when it fails
  local what=$1 begun=$SECONDS
  shift
  if "$@" > "$work/check.log" 2>&1; then
    passed=$((passed + 1)) ok=yes
    printf 'ok      %s (%s s)\n' "$what" $((SECONDS - begun))
  else
    failed=$((failed + 1)) ok=no
    printf 'FAILED  %s\n' "$what"
    tail -n 40 "$work/check.log"
  fi
}

summary() {
  printf '\n%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

free_port() {
  "$NODE" -e '
    const server = require("net").createServer()
    server.listen(0, "127.0.0.1", () => { console.log(server.address().port); server.close() })'
}

# On the host's network, where HOST=127.0.0.1 keeps every port on the loopback interface.
start() { # start OPTION... IMAGE: sets $container; options as of podman run
  container=$("${PODMAN[@]}" create "${LOCKED[@]}" --network host --env HOST=127.0.0.1 "$@") || return
  containers+=("$container")
  "${PODMAN[@]}" start "$container"
}

state() { "${PODMAN[@]}" inspect --format "{{.State.$1}}" "$container"; }

answers() { # answers URL SECONDS: until it says 200, as long as the container runs
  local end=$((SECONDS + $2))
  until curl --silent --show-error --fail --max-time 10 "$1" > "$work/answer" 2>&1; do
    if [ "$(state Running)" != true ] || [ "$SECONDS" -ge "$end" ]; then
      cat "$work/answer"
      "${PODMAN[@]}" logs "$container"
      return 1
    fi
    sleep 0.3
  done
}

# Whether the container's process has this user id, no capability, and cannot get any.
locked_down() { # locked_down UID:GID
  local pid
  pid=$(state Pid)
  grep -E '^(Uid|Gid|CapEff|CapBnd|NoNewPrivs):' "/proc/$pid/status"
  awk -v want="$1" '
    { value[$1] = $2 }
    END {
      exit !(value["Uid:"] ":" value["Gid:"] == want && value["CapEff:"] value["CapBnd:"] ~ /^0+$/ && value["NoNewPrivs:"] == 1)
    }' "/proc/$pid/status"
}

# Whether FILE, a PNG or a prediction's answer, holds a picture of 64 by 64 that is mostly as red as was asked for.
is_picture() { # is_picture FILE
  "$NODE" --input-type=module -e '
    import { readFileSync } from "node:fs"
    import sharp from "sharp"
    import { dominantColour } from "./test/support/colours.ts"
    const file = readFileSync(process.argv[1])
    const bytes = file[0] === 0x7b ? Buffer.from(JSON.parse(file).predictions[0].image.b64, "base64") : file
    const { info } = await sharp(bytes).raw().toBuffer({ resolveWithObject: true })
    const { format } = await sharp(bytes).metadata()
    const colour = await dominantColour(bytes)
    console.log(format, info, colour)
    process.exit(format === "png" && info.width === 64 && info.height === 64 && colour === "red" ? 0 : 1)' "$1"
}

draws() { # draws URL BODY OPTION...: whether the answer to BODY is a picture
  local url=$1 body=$2
  shift 2
  rm -f "$work/picture"
  if curl --silent --show-error --fail-with-body --max-time 60 "$url" --output "$work/picture" \
    --header 'Content-Type: application/json' --data "$body" "$@"; then
    is_picture "$work/picture"
  else
    head -c 2000 "$work/picture"
    return 1
  fi
}

server_draws() { # server_draws PORT
  draws "http://127.0.0.1:$1/api/images" "$REQUEST" --header 'Accept: image/png'
}

runtime_draws() { # runtime_draws PORT
  draws "http://127.0.0.1:$1/v1/models/model:predict" "{\"instances\":[$REQUEST]}"
}

has_drawn() { # has_drawn METRICS_PORT COUNT: whether the runtime's metrics count that many pictures
  curl --silent --show-error --fail --max-time 10 "http://127.0.0.1:$1/metrics" > "$work/metrics"
  grep '^diffusers_runtime' "$work/metrics"
  grep -qx "diffusers_runtime_requests_total{outcome=\"succeeded\"} $2.0" "$work/metrics"
}

ends_on_sigterm() {
  local status
  "${PODMAN[@]}" kill --signal TERM "$container"
  status=$(timeout 60 "${PODMAN[@]}" wait "$container")
  "${PODMAN[@]}" logs "$container"
  echo "exit status $status"
  [ "$status" = 0 ]
}

# The image's own settings listen for everyone, which needs a decision about authentication. Should it start all the
# same, then without a network, and not for long.
refuses_to_be_open() { # refuses_to_be_open IMAGE
  local status=0
  timeout 30 "${PODMAN[@]}" run "${LOCKED[@]}" --network none --rm "$1" > "$work/refusal" 2>&1 || status=$?
  cat "$work/refusal"
  [ "$status" = 2 ] && grep -q 'HOST.*MCP_AUTH_TOKEN.*AUTH=none' "$work/refusal"
}

# Whether a start, here of the help, finds all its code compiled in the image.
starts_compiled() { # starts_compiled IMAGE
  timeout 60 "${PODMAN[@]}" run "${LOCKED[@]}" --network none --rm --env NODE_DEBUG_NATIVE=COMPILE_CACHE "$1" --help \
    > "$work/compiled" 2>&1
  grep 'was not initialized' "$work/compiled" && return 1
  grep -c 'was accepted' "$work/compiled"
}

size() { printf '        %s: %s\n' "$1" "$("${PODMAN[@]}" images --format '{{.Size}}' "$1")"; }

test_server() { # test_server IMAGE
  say "Server image $1"
  local user port
  for user in 10001:10001 "$OPENSHIFT"; do
    port=$(free_port)
    check "as $user: starts" start --user "$user" --env PORT="$port" "$1"
    check "as $user: /health" answers "http://127.0.0.1:$port/health" 30
    check "as $user: /ready" answers "http://127.0.0.1:$port/ready" 30
    check "as $user: no capability, no new privilege" locked_down "$user"
    check "as $user: a picture" server_draws "$port"
    check "as $user: SIGTERM ends it with 0" ends_on_sigterm
  done
  check 'refuses to listen for everyone without authentication' refuses_to_be_open "$1"
}

start_runtime() { # start_runtime USER PORT METRICS_PORT
  start --user "$1" --env PORT="$2" --env METRICS_PORT="$3" --env MODEL_ID=/models/icons --tmpfs /tmp "$RUNTIME"
}

test_runtime() {
  say 'Runtime image'
  local user port metrics
  for user in 10001:0 "$OPENSHIFT"; do
    port=$(free_port)
    metrics=$(free_port)
    check "as $user: starts" start_runtime "$user" "$port" "$metrics"
    check "as $user: /v2/health/ready" answers "http://127.0.0.1:$port/v2/health/ready" 120
    check "as $user: no capability, no new privilege" locked_down "$user"
    check "as $user: a picture" runtime_draws "$port"
    check "as $user: /metrics counts it" has_drawn "$metrics" 1
    check "as $user: SIGTERM ends it with 0" ends_on_sigterm
  done
}

test_both() {
  say 'The server in front of the runtime'
  local port metrics server_port runtime
  port=$(free_port)
  metrics=$(free_port)
  server_port=$(free_port)
  check 'the runtime starts' start_runtime 10001:0 "$port" "$metrics"
  runtime=$container
  check 'the runtime is ready' answers "http://127.0.0.1:$port/v2/health/ready" 120
  check 'the server starts' start --env PORT="$server_port" \
    --env DIFFUSERS_RUNTIME_URL="http://127.0.0.1:$port" "$SERVER"
  check 'the server is ready' answers "http://127.0.0.1:$server_port/ready" 30
  check 'a picture through both' server_draws "$server_port"
  check 'the runtime drew it' has_drawn "$metrics" 1
  check 'SIGTERM ends the server with 0' ends_on_sigterm
  container=$runtime
  check 'SIGTERM ends the runtime with 0' ends_on_sigterm
}

skip_without_builder 'tests of the container images'
prepare_images "${1:-}"

say 'Building the server image'
check 'the server image builds' build_server
[ "$ok" = yes ] || summary
size "$SERVER"
test_server "$SERVER"
check 'a start compiles nothing' starts_compiled "$SERVER"

say 'Building the server image for Deno'
check 'the server image for Deno builds' build_deno_server
[ "$ok" = yes ] || summary
size "$DENO_SERVER"
test_server "$DENO_SERVER"

say 'Building the runtime image'
check 'the runtime image builds' build_runtime
[ "$ok" = yes ] || summary
size "$RUNTIME"
test_runtime
test_both
summary
