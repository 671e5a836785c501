#!/usr/bin/env bash
# kill -9 of a stock db_bench in the middle of writing: what it had been told is
# written is there afterwards, as far as the mode of the volume promises.
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

volume=$workdir/image

# The highest number of Puts that db_bench has reported as done.
acknowledged() {
  sed -nE 's/.* thread 0: \([0-9]+,([0-9]+)\) ops.*/\1/p' "$workdir/bench.log" |
    tail -n 1
}

# Fills keys 0, 1, 2, … until `wanted` of them are acknowledged, then kills.
# Sets $acked.
fill_and_kill() {
  local mount=$1 wanted=$2 pid
  shift 2
  # Before there is one to be read: what the run before has reported is not ours.
  : >"$workdir/bench.log"
  # Small memtables, so that flushes, new logs and compactions are under way.
  "${stock[@]}" db_bench --fs_uri="dio://$volume?$mount" --db=/db \
    --benchmarks=fillseq --num=100000000 --value_size=100 \
    --write_buffer_size=262144 --stats_interval=100 "$@" \
    >"$workdir/bench.log" 2>&1 &
  pid=$!
  background+=("$pid")
  until acked=$(acknowledged) && ((${acked:-0} >= wanted)); do
    if ! kill -0 "$pid" 2>/dev/null; then
      fail "db_bench ended by itself: $(tail -n 20 "$workdir/bench.log")"
    fi
    sleep 0.1
  done
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || true
  background=()
  acked=$(acknowledged)
}

# Sets $found, after checking that the keys are 0 … found - 1 without a gap.
count_keys() {
  "${stock[@]}" ldb --fs_uri="dio://$volume" --db=/db scan --key_hex \
    --no_value >"$workdir/keys" 2>"$workdir/ldb.log" ||
    fail "ldb scan: $(cat "$workdir/ldb.log")"
  found=$(wc -l <"$workdir/keys")
  ((found > 0)) || return 0
  local last
  last=$(tail -n 1 "$workdir/keys")
  expect_equal "last of $found keys" "$((found - 1))" "$((16#${last:2:16}))"
}

check() {
  local promise=$1 mount=$2 wanted=$3
  shift 3
  say "$promise: $mount $*"
  rm -f "$volume"
  quietly "$tool" mkfs --size=256M --prealloc=none "$volume"
  fill_and_kill "$mount" "$wanted" "$@"
  count_keys
  echo "acknowledged $acked, found $found"
  if [[ $promise != prefix ]]; then
    expect_at_least "keys after kill -9" "$acked" "$found"
  fi
  quietly "${stock[@]}" ldb --fs_uri="dio://$volume" --db=/db checkconsistency
  quietly "$tool" fsck "$volume"
}

check "everything synced" flush=memory 1000 --sync
check "everything synced" flush=device 1000 --sync
check "everything flushed" flush=device 10000
# Nothing is promised here but that what is found has no gap.
check prefix flush=memory 20000
