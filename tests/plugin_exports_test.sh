#!/usr/bin/env bash
# The plugin exports its C entries and nothing else: preloaded, it would answer
# for symbols of the program it is loaded into.
set -euo pipefail

plugin=${DIOFS_PLUGIN:?is set by ctest}
exported=$(nm --dynamic --defined-only --format=posix "$plugin" |
  cut -d' ' -f1 | LC_ALL=C sort)
wanted=$'dio_create_env\nregister_dio_plugin'
if [[ $exported != "$wanted" ]]; then
  echo "$plugin exports $(wc -l <<<"$exported") symbols, among them:" >&2
  head -n 5 <<<"$exported" | c++filt >&2
  exit 1
fi
echo "only $(tr '\n' ' ' <<<"$exported")"
