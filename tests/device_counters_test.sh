#!/usr/bin/env bash
# The engine is the only way to the device: the sectors that a db_bench run
# moves on a loop device, as the kernel counts them, equal what the engine
# counted by kind of file.
# ctest: RUN_SERIAL
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

truncate -s 256M "$workdir/backing"
loop_device "$workdir/backing" || skip "no loop device to be had"
quietly "$tool" mkfs "$device"

# Sets $device_read and $device_written, in bytes, from the kernel's counters.
# It counts in sectors of 512 bytes whatever the device's own are.
device_io() {
  local -a counters
  read -ra counters <"/sys/block/${device##*/}/stat"
  device_read=$((counters[2] * 512))
  device_written=$((counters[6] * 512))
}

settle() {
  if command -v udevadm >/dev/null; then
    udevadm settle --timeout=10 || true
  fi
}

# Before there is an engine to count, each mount asks the kernel whether the
# device takes requests that must not block, by a read of one logical block.
probe=$(cat "/sys/block/${device##*/}/queue/logical_block_size")

# Where udev runs, it may look at the device after somebody closed it, at a time
# of its own. That adds reads and never a write; so reads may be equal in one of
# a few rounds only, and writes have to be in each.
run_round() {
  local workloads=$1 read_before written_before engine_read engine_written
  shift
  settle
  device_io
  read_before=$device_read
  written_before=$device_written
  quietly "${stock[@]}" db_bench --db=/db --num=4000 --value_size=400 --seed=7 \
    --fs_uri="dio://$device?stats_file=$workdir/stats" --reads=2000 \
    --write_buffer_size=262144 --batch_size=8 --multiread_batched \
    --progress_reports=0 --benchmarks="$workloads" "$@"
  device_io
  device_read=$((device_read - read_before))
  device_written=$((device_written - written_before))
  engine_read=$(engine_io "$workdir/stats" read_bytes)
  engine_written=$(engine_io "$workdir/stats" write_bytes)
  echo "$workloads: read $device_read, engine $engine_read;" \
    "written $device_written, engine $engine_written"
  expect_equal "bytes written to the device" "$engine_written" \
    "$device_written"
  expect_at_least "bytes read from the device" "$((engine_read + probe))" \
    "$device_read"
  ((device_read == engine_read + probe))
}

compare() {
  local round
  for round in 1 2 3; do
    if run_round "$@"; then
      return 0
    fi
  done
  fail "the device was read by somebody else in $round rounds"
}

compare fillrandom,overwrite,deleterandom,compact
for kind in wal sst manifest superblock journal; do
  expect_at_least "bytes of $kind written" 4096 \
    "$(engine_io "$workdir/stats" write_bytes "$kind")"
done
compare readrandom,multireadrandom,readseq,seekrandom --use_existing_db \
  --async_io --seek_nexts=10
expect_at_least "bytes of SST read" 100000 \
  "$(engine_io "$workdir/stats" read_bytes sst)"
compare overwrite,readrandom --use_existing_db --sync
