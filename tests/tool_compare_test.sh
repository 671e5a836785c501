#!/usr/bin/env bash
# tools/compare: a short run on each file system, whose figures are there, and
# which leaves nothing behind. What they are is not judged here.
# ctest: RUN_SERIAL
# ctest: release-only
# ctest: TIMEOUT=600
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

compare=$source_dir/tools/compare
before=$(losetup --list --noheadings)
"$compare" --build="$build_dir" --rounds=1 --puts=20 --json \
  >"$workdir/out" 2>"$workdir/err" || fail "compare: $(<"$workdir/err")"
/usr/bin/python3 -c 'import json, sys
summary = json.load(open(sys.argv[1], encoding="utf-8"))
assert list(summary) == ["dio", "xfs", "ext4"], summary
for kind, figures in summary.items():
    assert figures["rate"] > 0 and figures["writes"] >= 1, summary
    assert figures["flushes"] >= 1, summary
    assert (kind == "dio") == ("ratio" not in figures), summary' "$workdir/out" ||
  fail "the figures: $(<"$workdir/out")"
[[ $(losetup --list --noheadings) == "$before" ]] || fail "a loop device is left"
status=0
"$compare" --rounds=0 >"$workdir/out" 2>&1 || status=$?
[[ $status == 2 ]] || fail "wrong usage ends with $status"
