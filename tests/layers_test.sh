#!/usr/bin/env bash
# The engine is one: no object outside dio/ reads, writes, syncs or opens a
# device by itself. Looks at the symbols that the compiled objects ask for.
set -euo pipefail

# Also the forms that fortified headers turn these calls into (__pread_chk).
# Host files of the outer layers (statistics, /proc) go through <fstream>.
readonly engine_calls='^(__)?('\
'p(read|write)v?(64)?(v2|v64v2)?|(open|openat|creat)(64)?(_2)?|'\
'flock|f(data)?sync|sync_file_range|(posix_)?fallocate(64)?|'\
'io_(setup|submit|getevents)|aio_[a-z]+(64)?|io_uring_.*'\
')(_chk)?$'

# A file of the host in shared memory, which is no device.
readonly shared_memory='staging_file\.cc\.o: (open|posix_fallocate|pread)(64)?$'

build=${DIOFS_BUILD_DIR:?is set by ctest}

# Prints "object: symbol" for each engine call of the objects and archives.
engine_references() {
  nm --undefined-only --print-file-name "$@" |
    awk -v calls="$engine_calls" '
      $NF ~ calls { symbol = $NF; sub(/:[^:]*$/, ""); print $0 ": " symbol }' |
    sort -u
}

# The check has to be able to fail: the engine itself does make these calls.
inside=$(engine_references "$build/libdio.a")
for call in preadv2 io_uring_submit open; do
  if ! grep -qE " $call(64)?(v2)?$" <<<"$inside"; then
    echo "libdio.a does not refer to $call: this test sees nothing" >&2
    exit 1
  fi
done

mapfile -t objects < <(
  find "$build/CMakeFiles/dio_plugin.dir" "$build/CMakeFiles/diofs.dir" \
    -name '*.o'
)
archives=("$build"/libdio_env_core.a "$build"/libdio_env.a
  "$build"/libdiofs_tool.a)
outside=$(engine_references "${archives[@]}" "${objects[@]}" |
  grep -vE "$shared_memory" || true)
if [[ -n $outside ]]; then
  echo "These objects outside dio/ go to the device by themselves:" >&2
  echo "$outside" >&2
  exit 1
fi
echo "${#archives[@]} archives and ${#objects[@]} objects outside dio/: clean"
