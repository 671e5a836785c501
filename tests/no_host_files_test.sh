#!/usr/bin/env bash
# A database on a volume touches no file of the host: strace sees every call
# that takes a path, and only the volume is opened for writing.
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

command -v strace >/dev/null || skip "strace is not installed"
strace -o /dev/null true 2>/dev/null || skip "strace may not trace here"

# A name that can be found again in any call, and no place of the host.
readonly db=/diofs-no-host-files/db
readonly volume=$workdir/image

trace() {
  local log=$1
  shift
  strace -f -qq -y -s 4096 -o "$log" \
    -e trace=%file,ftruncate,fallocate,fchmod,fchown,memfd_create "$@" \
    >"$workdir/traced.log" 2>&1 || fail "$*: $(cat "$workdir/traced.log")"
}

# Prints the calls of a trace that are not to happen.
offences() {
  python3 - "$1" "$db" "$plugin" "$volume" "$workdir/stats" <<'END'
import re
import sys

log, db, plugin, *ours = sys.argv[1:]
# Where programs look for libraries, settings and facts about the machine.
READABLE = re.compile(r"/(proc|sys|dev|etc|lib\w*|usr|run|bin|sbin)(/|$)|"
                      + re.escape(plugin))
# The second is how a thread gets its name.
WRITABLE = re.compile(r"/dev/null$|/proc/self/task/\d+/comm$")
HARMLESS = {"execve", "getcwd", "memfd_create"}
LOOKS = {"access", "faccessat", "faccessat2", "stat", "lstat", "newfstatat",
         "statx", "readlink", "readlinkat", "statfs"}
OPENS = {"open", "openat", "openat2"}
WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC|TMPFILE|APPEND)")
CALL = re.compile(r"^\d+ +(\w+)\((.*)$")

seen = 0
for line in open(log, encoding="utf-8", errors="replace"):
    match = CALL.match(line)
    if not match:
        continue
    seen += 1
    call, text = match.groups()
    # The paths of the call; where it changes what a descriptor is open on, of
    # that, which -y shows.
    paths = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    named = [path for path in paths if path.startswith("/")]
    if not named and call not in OPENS | LOOKS:
        named = re.findall(r"^\d+<([^>]*)>", text)
    if call in HARMLESS:
        allowed = not any(path.startswith(db) for path in named)
    elif any(db in path for path in paths):
        allowed = False
    elif named and all(path in ours for path in named):
        allowed = True
    elif call in OPENS and WRITES.search(text):
        allowed = bool(named) and all(WRITABLE.match(path) for path in named)
    elif call in LOOKS | OPENS:
        # Above the volume too: finding out what it lies on.
        allowed = all(READABLE.match(path) or path == "/"
                      or ours[0].startswith(path + "/") for path in named)
    else:
        allowed = False
    if not allowed:
        print(line.rstrip())
if not seen:
    print("the trace is empty")
END
}

run_bench() {
  trace "$1" "${stock[@]}" db_bench --db="$2" --num=3000 --value_size=400 \
    --write_buffer_size=262144 --reads=500 --multiread_batched \
    --batch_size=10 --use_existing_db=0 --progress_reports=0 \
    --benchmarks=fillrandom,overwrite,readrandom,multireadrandom,compact \
    "${@:3}"
}

say "the check can fail: db_bench on the host's file system"
run_bench "$workdir/host.strace" "$workdir/host"
offences "$workdir/host.strace" >"$workdir/offences"
for call in mkdir rename unlink 'openat.*O_CREAT'; do
  grep -qE "^[0-9]+ +$call" "$workdir/offences" ||
    fail "no $call was seen in $workdir/host.strace"
done

say "db_bench on a volume"
quietly "$tool" mkfs --size=256M --prealloc=none "$volume"
run_bench "$workdir/volume.strace" "$db" \
  --fs_uri="dio://$volume?stats_file=$workdir/stats"
found=$(offences "$workdir/volume.strace")
if [[ -n $found ]]; then
  head -n 40 <<<"$found" >&2
  fail "$(wc -l <<<"$found") calls that touch the host"
fi
grep -q "openat.*\"$volume\", O_RDWR" "$workdir/volume.strace" ||
  fail "the volume was not seen being opened"
calls=$(wc -l <"$workdir/volume.strace")
echo "$calls calls with a path, none of them touches the host"

say "ldb and sst_dump on a volume"
for command in "ldb --db=$db scan" "ldb --db=$db checkconsistency" \
  "sst_dump --file=$db --command=verify"; do
  # shellcheck disable=SC2086  # words of the command
  trace "$workdir/tool.strace" "${stock[@]}" $command --fs_uri="dio://$volume"
  found=$(offences "$workdir/tool.strace")
  [[ -z $found ]] || fail "$command touches the host:
$found"
done
