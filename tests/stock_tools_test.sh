#!/usr/bin/env bash
# The distribution's db_bench, ldb and sst_dump, unmodified, on a volume:
# the workloads run, leave the very data that they leave on the host's file
# system, and the tools find every file in order.
#
#   stock_tools_test.sh [image|device]
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

case ${1:-image} in
  image)
    volume=$workdir/image
    keys=6000
    quietly "$tool" mkfs --size=256M --prealloc=none "$volume"
    ;;
  device)
    truncate -s 256M "$workdir/backing"
    loop_device "$workdir/backing" || skip "no loop device to be had"
    volume=$device
    keys=2000 # a loop device takes a millisecond for each write
    quietly "$tool" mkfs "$volume"
    ;;
esac
uri="dio://$volume?stats_file=$workdir/stats"

# on PLACE PROGRAM ARGUMENT... with the database PLACE:PATH.
on() {
  local place=${1%%:*} db=${1#*:} program=$2
  shift 2
  if [[ $place == volume ]]; then
    "${stock[@]}" "$program" --fs_uri="$uri" --db="$db" "$@"
  else
    "$program" --db="$db" "$@"
  fi
}

# bench DATABASE WORKLOADS OPTION...: each workload must say that it ran.
bench() {
  local database=$1 workloads=$2 workload
  shift 2
  say "db_bench $workloads $*"
  if ! on "$database" db_bench --benchmarks="$workloads" --num="$keys" \
    --value_size=400 --seed=7 --write_buffer_size=1048576 \
    --target_file_size_base=1048576 --progress_reports=0 "$@" \
    >"$workdir/bench.log" 2>&1; then
    tail -n 40 "$workdir/bench.log" >&2
    fail "db_bench $workloads"
  fi
  for workload in ${workloads//,/ }; do
    grep -E "^$workload +: .* [1-9][0-9]* operations;" "$workdir/bench.log" ||
      fail "$workload did not run: $(cat "$workdir/bench.log")"
  done
  if grep -E '\(0 of [0-9]+ found\)' "$workdir/bench.log"; then
    fail "nothing was found"
  fi
}

# Every key and value of a database, as one sum.
content() {
  on "$1" ldb scan --hex >"$workdir/scan" || fail "ldb scan of $1"
  sort "$workdir/scan" | sha256sum
}

readonly changes=fillrandom,overwrite,deleterandom
mkdir "$workdir/host"
bench "host:$workdir/host/db" "$changes"
bench volume:/bench/db "$changes"
wanted=$(content "host:$workdir/host/db")
expect_at_least "keys in the database" 400 "$(wc -l <"$workdir/scan")"
expect_equal "content after $changes" "$wanted" "$(content volume:/bench/db)"

bench volume:/bench/db readrandom,readseq,seekrandom \
  --use_existing_db --reads=2000 --seek_nexts=20
bench volume:/bench/db multireadrandom --use_existing_db --reads=3200 \
  --multiread_batched --batch_size=32
bench volume:/bench/db seekrandom,readseq --use_existing_db --reads=500 \
  --seek_nexts=50 --async_io
bench volume:/bench/db compact --use_existing_db
expect_equal "content after compact" "$wanted" "$(content volume:/bench/db)"

say "ldb checkpoint"
quietly on volume:/bench/db ldb checkpoint --checkpoint_dir=/bench/checkpoint
expect_equal "content of the checkpoint" "$wanted" \
  "$(content volume:/bench/checkpoint)"

bench volume:/bench/db readwhilewriting --use_existing_db --reads=3000
for database in /bench/db /bench/checkpoint; do
  say "ldb and sst_dump on $database"
  quietly on "volume:$database" ldb checkconsistency
  for check in verify check; do
    "${stock[@]}" sst_dump --fs_uri="$uri" --file="$database" \
      --command="$check" >"$workdir/sst_dump" 2>&1 ||
      fail "sst_dump: $(cat "$workdir/sst_dump")"
    files=$("$tool" ls "$volume" "$database" | grep -c '\.sst$' || true)
    expect_at_least "SSTs of $database" 1 "$files"
    expect_equal "files that sst_dump looked at" "$files" \
      "$(grep -c "^Process $database/.*\.sst\$" "$workdir/sst_dump")"
    if [[ $check == verify ]]; then
      expect_equal "files that sst_dump found good" "$files" \
        "$(grep -c '^The file is ok' "$workdir/sst_dump")"
    fi
  done
done

quietly "$tool" fsck "$volume"
expect_at_least "bytes of SST written by the engine" 300000 \
  "$(engine_io <(head -n 1 "$workdir/stats") write_bytes sst)"
