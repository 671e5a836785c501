#!/usr/bin/env bash
# diofs mkfs on image files: what it makes, and that what it refuses is left as
# it was, to the byte.
# ctest: TIMEOUT=900
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

image=$workdir/volume.img

# refuses CODE TEXT ARGUMENTS...
refuses() {
  local code=$1 text=$2
  shift 2
  expect_refusal "diofs mkfs" "$code" "$text" "$tool" mkfs "$@"
}

state() {
  find "$workdir" -name '*.img' -exec sha256sum {} + | sort
}

field() {
  python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."):
    value = value[key]
print(value)' "$1"
}

# The file at $1, whatever it holds, is refused with TEXT and overwritten when
# --force is given, and nothing of it is recognised afterwards.
refused_unless_forced() {
  local file=$1 text=$2
  refuses 1 "$text; if it may be lost, give --force" "$file"
  quietly "$tool" mkfs --force --prealloc=none "$file"
  quietly "$tool" fsck "$file"
  if blkid -p "$file" >"$workdir/out"; then
    fail "after --force: $(<"$workdir/out")"
  fi
  rm "$file"
}

say "a new image, every block written"
"$tool" mkfs --size=24M --label="my orders" "$image" >"$workdir/out"
grep -q '24.0 MiB DioFS volume "my orders"' "$workdir/out" ||
  fail "$(<"$workdir/out")"
expect_equal "size" $((24 << 20)) "$(stat -c %s "$image")"
expect_equal "mode" 600 "$(stat -c %a "$image")"
expect_at_least "allocated KiB" $((24 << 10)) "$(du -k "$image" | cut -f1)"
expect_equal prealloc full \
  "$("$tool" info --json "$image" | field superblock.prealloc)"
quietly "$tool" fsck "$image"
refuses 1 'contains a DioFS volume (label "my orders")' "$image"
refuses 1 "exists, and --size is for new image files" --size=24M "$image"
refuses 1 "exists, and --size is for new image files" --force --size=32M \
  "$image"
rm "$image"

say "a new image that is not preallocated"
"$tool" mkfs --size 64M --prealloc=none --json "$image" >"$workdir/out"
expect_equal label "" "$(field label <"$workdir/out")"
expect_equal device_bytes $((64 << 20)) "$(field device_bytes <"$workdir/out")"
allocated=$(du -k "$image" | cut -f1)
((allocated < 16 << 10)) || fail "$allocated KiB are allocated"
expect_equal prealloc none \
  "$("$tool" info --json "$image" | field superblock.prealloc)"
refused_unless_forced "$image" "contains a DioFS volume"

say "wrong usage"
refuses 2 "arguments missing: PATH"
refuses 2 "unexpected argument" --size=24M "$image" "$image"
refuses 2 "--size=many is not a size" --size=many "$image"
refuses 2 "--size=15M is too small" --size=15M "$image"
refuses 2 "is not a multiple of 4096" --size=20000001 "$image"
refuses 2 "--prealloc=some is neither full nor none" --size=24M \
  --prealloc=some "$image"
refuses 2 "--label is longer than 63 bytes" --size=24M \
  --label="$(printf '%064d' 0)" "$image"
refuses 2 "unknown flag --sise" --sise=24M "$image"
[[ ! -e $image ]] || fail "wrong usage made an image"

say "targets that are none"
refuses 1 "give --size=4G" "$image"
refuses 1 "neither a block device nor a regular file" "$workdir"
refuses 1 "neither a block device nor a regular file" --force /dev/null
refuses 1 "No such file or directory" --size=24M "$workdir/nowhere/x.img"
truncate -s 15M "$image"
refuses 1 "is too small with 15.0 MiB" "$image"
refuses 1 "is too small with 15.0 MiB" --force "$image"
rm "$image"

say "an image that is there and blank"
truncate -s 24M "$image"
quietly "$tool" mkfs "$image"
quietly "$tool" fsck "$image"
rm "$image"

say "bytes of unknown origin"
for offset in 0 1048575 $(((24 << 20) - 65536)) $(((24 << 20) - 1)); do
  rm -f "$image"
  truncate -s 24M "$image"
  printf 'x' | dd of="$image" bs=1 seek="$offset" conv=notrunc status=none
  refuses 1 "contains data of unknown origin" "$image"
done
refused_unless_forced "$image" "contains data of unknown origin"

say "a volume of another format"
quietly "$tool" mkfs --size=24M --prealloc=none "$image"
for offset in 0 $((1 << 20)) $((12 << 20)) $(((24 << 20) - 4096)); do
  printf '\x63' |
    dd of="$image" bs=1 seek=$((offset + 8)) conv=notrunc status=none
  printf '\x63' |
    dd of="$image" bs=1 seek=$((offset + 200)) conv=notrunc status=none
done
refused_unless_forced "$image" \
  "contains a DioFS volume that this version cannot read"

say "foreign signatures"
truncate -s 24M "$image"
quietly mkfs.ext4 -L "my data" "$image"
refused_unless_forced "$image" 'contains a file system (ext4, label "my data")'

truncate -s 24M "$image"
quietly mkswap "$image"
refused_unless_forced "$image" "contains data of another program (swap)"

truncate -s 24M "$image"
printf '\x00\x20\x21\x00\x83\x10\x00\x00\x00\x08\x00\x00\x00\x40\x00\x00' |
  dd of="$image" bs=1 seek=446 conv=notrunc status=none
printf '\x55\xaa' | dd of="$image" bs=1 seek=510 conv=notrunc status=none
refused_unless_forced "$image" "contains a partition table (dos)"

# Where neither a superblock nor the journal is going to lie.
truncate -s 24M "$image"
printf '\x01CD001\x01' |
  dd of="$image" bs=1 seek=32768 conv=notrunc status=none
refused_unless_forced "$image" "contains a file system (iso9660)"

say "no permission"
if ((EUID != 0)); then
  truncate -s 24M "$image"
  chmod 400 "$image"
  refuses 1 "Permission denied; run as root or as its owner" "$image"
  rm -f "$image"
else
  echo "root may write everything: left out"
fi

say "no room on the host"
refuses 1 "sparse.img" --size=8191T "$workdir/sparse.img"
[[ ! -e $workdir/sparse.img ]] || fail "an image was left behind"
