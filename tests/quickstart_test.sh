#!/usr/bin/env bash
# tools/quickstart comes through on an image and on a device, leaves nothing
# behind, and touches no device that holds something else.
# ctest: release-only
# ctest: RESOURCE_LOCK=quickstart
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

# quickstart STATUS ARGUMENT...: its output goes to $workdir/output.
quickstart() {
  local wanted=$1 status=0
  shift
  say "quickstart $*"
  "$source_dir/tools/quickstart" --build="$build_dir" --keys=1000 "$@" \
    >"$workdir/output" 2>&1 </dev/null || status=$?
  if ((status != wanted)); then
    cat "$workdir/output" >&2
    fail "quickstart $*: status $status, not $wanted"
  fi
}

expect_output() {
  grep -qE -e "$1" "$workdir/output" ||
    fail "\"$1\" is not in: $(cat "$workdir/output")"
}

quickstart 0 --image="$workdir/image" --size=128M
expect_output 'everything went well'
for workload in 'MultiGet of 32' 'overwrite, per Put' 'compaction'; do
  expect_output "^  $workload.* [0-9]+ +[0-9.-]+ +[0-9.]+ +[0-9.]+\$"
done
[[ ! -e $workdir/image ]] || fail "the image is still there"

quickstart 0 --image="$workdir/image" --size=128M --keep
quietly "$tool" fsck "$workdir/image"

say "what cannot go well"
quickstart 2 --no-such-argument
quickstart 2 --keys=many
quickstart 1 --device=/dev/null
expect_output '/dev/null is not a block device'
head -c 32M /dev/urandom >"$workdir/foreign"
sum=$(sha256sum <"$workdir/foreign")
quickstart 1 --image="$workdir/foreign"
expect_output 'foreign exists and is no DioFS volume'
quickstart 1 --image="$workdir/small" --size=1M
expect_output 'FAILED with status 2; the end of'
expect_equal "content of what is not ours" "$sum" \
  "$(sha256sum <"$workdir/foreign")"

say "interrupted"
"$source_dir/tools/quickstart" --build="$build_dir" --keys=100000000 \
  --image="$workdir/interrupted" --size=64M >"$workdir/output" 2>&1 &
pid=$!
background+=("$pid")
until grep -q fillrandom "$workdir/output"; do
  kill -0 "$pid" || fail "ended by itself: $(cat "$workdir/output")"
  sleep 0.1
done
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
expect_equal "status when interrupted" 130 "$status"
[[ ! -e $workdir/interrupted ]] || fail "the image is still there"

if loop_device "$workdir/foreign"; then
  quickstart 1 --device="$device"
  expect_output "mkfs --force $device"
  expect_equal "content of what is not ours" "$sum" \
    "$(sha256sum <"$workdir/foreign")"
  truncate -s 128M "$workdir/blank"
  loop_device "$workdir/blank"
  quickstart 0 --device="$device"
  quickstart 0 --device="$device"
  expect_output 'holds a DioFS volume, which is used as it is'
fi
