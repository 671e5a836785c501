#!/usr/bin/env bash
# diofs on block devices: mkfs of a loop device, and that one which is mounted,
# partitioned or the other side of an image is never written.
set -euo pipefail

# A mount namespace of its own: what is mounted here is gone with this process,
# however it ends.
if [[ -z ${DIOFS_TEST_NAMESPACE-} ]]; then
  if ! unshare --mount --propagation private true 2>/dev/null; then
    echo "SKIPPED: no mount namespace to be had (root?)" >&2
    exit 77
  fi
  DIOFS_TEST_NAMESPACE=1 exec unshare --mount --propagation private "$0"
fi
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"
trap 'umount "$workdir/mnt" 2>/dev/null || true; cleanup' EXIT

backing=$workdir/backing

# refuses TEXT ARGUMENTS...
refuses() {
  local text=$1
  shift
  expect_refusal "diofs mkfs" 1 "$text" "$tool" mkfs "$@"
}

state() {
  sync "$backing"
  sha256sum "$backing"
}

say "a mounted file system"
truncate -s 32M "$backing"
quietly mkfs.ext4 -E lazy_itable_init=0,lazy_journal_init=0 -L precious \
  "$backing"
loop_device "$backing" || skip "no loop device to be had"
refuses 'contains a file system (ext4, label "precious")' "$device"
mkdir "$workdir/mnt"
mount -t ext4 -o ro,noload "$device" "$workdir/mnt" || skip "mount is not allowed"
refuses "is mounted on $workdir/mnt; release it first" "$device"
refuses "is mounted on $workdir/mnt; release it first" --force "$device"
ln -s "$device" "$workdir/link"
refuses "is mounted on" --force "$workdir/link"
refuses "is the file behind $device; release it first" --force "$backing"
umount "$workdir/mnt"

say "overwritten when told to"
refuses "exists, and --size is for new image files" --force --size=32M \
  "$device"
quietly "$tool" mkfs --force --label=ours "$device"
quietly "$tool" fsck "$device"
"$tool" info "$device" >"$workdir/out"
grep -q 'prealloc *none' "$workdir/out" || fail "$(<"$workdir/out")"
grep -q '32.0 MiB block device' "$workdir/out" || fail "$(<"$workdir/out")"
refuses 'contains a DioFS volume (label "ours")' "$device"

say "claimed by another program"
# O_EXCL without a flock, as mdadm, LVM and others have it.
python3 - "$tool" "$device" <<'END'
import os
import subprocess
import sys

tool, device = sys.argv[1:]
os.open(device, os.O_RDWR | os.O_EXCL)
run = subprocess.run([tool, "mkfs", "--force", device], capture_output=True,
                     text=True)
if run.returncode != 1 or "is in use" not in run.stderr:
    sys.exit(f"mkfs of a claimed device: {run}")
END
quietly "$tool" fsck "$device"

say "sectors of 4096 bytes"
backing=$workdir/backing4k
truncate -s 32M "$backing"
loop_device "$backing" 4096 || skip "no loop device of 4096-byte sectors"
quietly "$tool" mkfs --prealloc=full "$device"
quietly "$tool" fsck "$device"
"$tool" info "$device" >"$workdir/out"
grep -q 'prealloc *full' "$workdir/out" || fail "$(<"$workdir/out")"
grep -q '4096/4096-byte blocks' "$workdir/out" || fail "$(<"$workdir/out")"
expect_equal "ls of a fresh volume" "" "$("$tool" ls "$device")"

say "a partition table"
backing=$workdir/partitioned
truncate -s 32M "$backing"
printf '\x00\x20\x21\x00\x83\x10\x00\x00\x00\x08\x00\x00\x00\x40\x00\x00' |
  dd of="$backing" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$backing" bs=1 seek=510 conv=notrunc status=none
loop_device "$backing" || skip "no loop device to be had"
refuses "contains a partition table (dos)" "$device"
