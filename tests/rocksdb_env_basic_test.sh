#!/usr/bin/env bash
# RocksDB's own env_basic_test passes on a volume, reached as a FileSystem and
# as an Env.
# ctest: TIMEOUT=600
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

"$source_dir/tests/rocksdb_suite/run" --plugin="$plugin" \
  --preload="${stock[1]#LD_PRELOAD=}" env_basic_test
