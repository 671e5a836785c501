#!/usr/bin/env bash
# Sourced by the script tests. Under ctest the environment says what to test;
# by hand it is build/release.
#
# Gives: $tool, $plugin, $workdir (made, and removed at the end), the array
# $stock to put before a stock RocksDB program, and the functions below.
# shellcheck disable=SC2034  # used by the scripts that source this

# mkfs.ext4, blkid and losetup are not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin

source_dir=${DIOFS_SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
build_dir=${DIOFS_BUILD_DIR:-$source_dir/build/release}
tool=${DIOFS_TOOL:-$build_dir/diofs}
plugin=${DIOFS_PLUGIN:-$build_dir/librocksdb_dio.so}

# Stock programs are not instrumented: the sanitizer's runtime has to come
# before everything else, and what they leak themselves is not ours to judge.
stock=(env "LD_PRELOAD=${DIOFS_SANITIZER_LIB:+$DIOFS_SANITIZER_LIB }$plugin"
  "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0")

say() {
  echo "--- $*"
}

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# For ctest, 77 is "skipped"; the reason stands in its log.
skip() {
  echo "SKIPPED: $*" >&2
  exit 77
}

expect_equal() {
  local what=$1 wanted=$2 got=$3
  [[ $got == "$wanted" ]] || fail "$what: expected $wanted, got $got"
}

expect_at_least() {
  local what=$1 least=$2 got=$3
  ((got >= least)) || fail "$what: expected at least $least, got $got"
}

# Runs a command whose output matters only when it fails.
quietly() {
  local log=$workdir/quietly.log
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "$*"
  fi
}

# expect_refusal NAME CODE TEXT COMMAND...: the command has to fail with CODE
# and one line on standard error that begins with NAME and contains TEXT, to
# write nothing else, and to leave what the script's function `state` prints as
# it is.
expect_refusal() {
  local name=$1 code=$2 text=$3 status=0 before after
  shift 3
  before=$(state)
  "$@" >"$workdir/out" 2>"$workdir/err" || status=$?
  after=$(state)
  expect_equal "exit code of $*" "$code" "$status"
  expect_equal "lines told by $*" 1 "$(wc -l <"$workdir/err")"
  grep -q "^$name: " "$workdir/err" || fail "$(<"$workdir/err")"
  grep -qF -e "$text" "$workdir/err" ||
    fail "$*: no \"$text\" in: $(<"$workdir/err")"
  [[ ! -s $workdir/out ]] || fail "$*: wrote to standard output"
  expect_equal "what was there before $*" "$before" "$after"
}

# ---- What is to be gone at the end -----------------------------------------

workdir=$(mktemp -d "${TMPDIR:-/tmp}/diofs-test.XXXXXX")
background=()

cleanup() {
  local pid
  for pid in "${background[@]}"; do
    kill -KILL "$pid" 2>/dev/null || true
  done
  rm -rf "$workdir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# Sets $device to a loop device over FILE. It is detached while this shell
# holds it open: the kernel clears it when the shell and all it started are
# gone, however that comes about. Held read-only: closing a writable descriptor
# would make udev read the device.
loop_device() {
  local file=$1 sector_bytes=${2:-512} setup fd
  ((EUID == 0)) || return 1
  command -v losetup >/dev/null || return 1
  setup=(--find --show "--sector-size=$sector_bytes")
  device=$(losetup "${setup[@]}" --direct-io=on "$file" 2>/dev/null ||
    losetup "${setup[@]}" "$file") || return 1
  if ! exec {fd}<"$device"; then
    losetup --detach "$device"
    return 1
  fi
  losetup --detach "$device"
}

# The answer of `stats_file`: FIELD (reads, read_bytes, writes, write_bytes)
# summed over the last line of FILE, or over the KINDS given.
engine_io() {
  local file=$1 field=$2
  shift 2
  python3 - "$file" "$field" "$@" <<'END'
import json
import sys

file, field, *kinds = sys.argv[1:]
with open(file, encoding="utf-8") as lines:
    io = json.loads(lines.readlines()[-1])["io"]
print(sum(io[kind][field] for kind in kinds or io))
END
}
