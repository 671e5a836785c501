#!/usr/bin/env bash
# Ctrl-C, kill and a closed pipe during diofs mkfs: an image that was being made
# is removed, and what was overwritten is no volume any more. strace sends the
# signal at a chosen write, so that no clock decides.
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

image=$workdir/volume.img
trace=(env "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
  strace -f -o /dev/null)
"${trace[@]}" true 2>/dev/null || skip "strace cannot trace here"

# Runs `diofs mkfs ARGUMENTS` and interrupts it at its Nth call that moves data.
interrupted() {
  local signal=$1 write=$2 status=0
  shift 2
  "${trace[@]}" -e trace=pwritev2,io_uring_enter \
    -e "inject=pwritev2,io_uring_enter:signal=$signal:when=$write" \
    "$tool" mkfs "$@" >"$workdir/out" 2>"$workdir/err" || status=$?
  ((status != 0)) || fail "mkfs $* was not interrupted: $(<"$workdir/out")"
}

for signal in INT TERM HUP PIPE; do
  say "$signal while an image is being made"
  interrupted "$signal" 10 --size=32M "$image"
  [[ ! -e $image ]] || fail "the image is still there"
  grep -q "interrupted; $image is removed" "$workdir/err" ||
    fail "$(<"$workdir/err")"
done

say "INT while a volume is being overwritten"
for write in 2 8 20; do
  rm -f "$image"
  quietly "$tool" mkfs --size=32M --prealloc=none "$image"
  interrupted INT "$write" --force --prealloc=full "$image"
  [[ -e $image ]] || fail "an image that was there is gone"
  grep -q "holds no volume that can be used" "$workdir/err" ||
    fail "$(<"$workdir/err")"
done
status=0
"$tool" fsck --wait=60 "$image" 2>"$workdir/err" || status=$?
expect_equal "exit code of fsck" 8 "$status"
grep -q "not formatted" "$workdir/err" || fail "$(<"$workdir/err")"

say "and once more, to the end"
quietly "$tool" mkfs --force "$image"
quietly "$tool" fsck "$image"
