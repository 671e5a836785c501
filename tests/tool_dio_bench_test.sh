#!/usr/bin/env bash
# dio_bench on image files: every pattern, backend and sync mode moves what it
# was told to and nothing else, what it refuses is left alone, and a comparison
# with fio leaves nothing behind. Requests are counted, so that no clock decides.
# ctest: TIMEOUT=900
set -euo pipefail
# shellcheck source=tests/lib.sh
source "$(dirname "$0")/lib.sh"

bench=$build_dir/dio_bench
image=$workdir/bench.img
image_bytes=$((8 << 20))

new_image() {
  rm -f "$image"
  truncate -s "$image_bytes" "$image"
}

checksum() {
  sha256sum <"$image"
}

# The FIELDS of the JSON in $workdir/out, blanks between them.
field() {
  /usr/bin/python3 -c 'import json, sys
values = []
for path in sys.argv[2:]:
    value = json.load(open(sys.argv[1], encoding="utf-8"))
    for key in path.split("/"):
        value = value[int(key) if isinstance(value, list) else key]
    values.append(str(value))
print(*values)' "$workdir/out" "$@"
}

# Runs `dio_bench ARGUMENTS`, whose JSON then is in $workdir/out.
measure() {
  "$bench" --json "$@" >"$workdir/out" 2>"$workdir/err" ||
    fail "dio_bench $*: $(<"$workdir/err")"
}

# refuses CODE TEXT ARGUMENTS...
refuses() {
  local code=$1 text=$2
  shift 2
  expect_refusal dio_bench "$code" "$text" "$bench" "$@"
}

state() {
  [[ ! -e $image ]] || checksum
}

# How many of the image's blocks of 4096 bytes in [FIRST, END) are not zero.
written_blocks() {
  /usr/bin/python3 -c 'import sys
path, first, end = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "rb") as file:
    data = file.read()[first * 4096:end * 4096]
print(sum(any(data[i:i + 4096]) for i in range(0, len(data), 4096)))' \
    "$image" "$1" "$2"
}

say "help"
"$bench" --help >"$workdir/out"
for text in 'usage: dio_bench [flags] PATH' '--compare-fio' 'examples:' \
  'exit codes:' '--backend=auto|uring|threads|sync'; do
  grep -qF -e "$text" "$workdir/out" || fail "no \"$text\" in --help"
done

say "every pattern, on every backend"
for backend in auto uring threads sync; do
  for rw in randread read randwrite write; do
    new_image
    before=$(checksum)
    measure --rw="$rw" --backend="$backend" --depth=8 --threads=2 --ios=501 \
      "$image"
    expect_equal "what was done" "501 $((501 * 4096)) $rw 2 $image" \
      "$(field ios bytes pattern batch target)"
    # What the kernel forbids here is replaced, with a line that says so.
    if [[ $backend != auto && ! -s $workdir/err ]]; then
      expect_equal backend "$backend" "$(field backend)"
    fi
    case $rw in
      *read) expect_equal "after $rw" "$before" "$(checksum)" ;;
      # 251 blocks by the first thread from the start, 250 from the middle.
      write)
        expect_equal "first half" 251 "$(written_blocks 0 1024)"
        expect_equal "second half" 250 "$(written_blocks 1024 2048)"
        ;;
      randwrite) expect_at_least "written" 400 "$(written_blocks 0 2048)" ;;
    esac
    # In ascending order, and none of them zero.
    latencies=$(field latency_ns/{p50,p90,p99,p99.9,max})
    expect_equal latencies "$(tr ' ' '\n' <<<"$latencies" | sort -n | xargs)" \
      "$latencies"
    expect_at_least "the median latency" 1 "${latencies%% *}"
  done
done

say "what a write shall be followed by"
for sync in none every flush fua; do
  for depth in 1 4; do
    new_image
    measure --rw=write --sync="$sync" --depth="$depth" --ios=50 "$image"
    expect_equal "what was done" "50 $sync" "$(field ios sync)"
    expect_equal written 50 "$(written_blocks 0 2048)"
  done
done

say "only --size bytes of the target"
for rw in randwrite write; do
  new_image
  measure --rw="$rw" --size=1m --depth=4 --ios=600 "$image"
  expect_equal "behind --size" 0 "$(written_blocks 256 2048)"
done

say "other sizes of requests, batches, and ReadBatch"
new_image
measure --rw=write --bs=512k --depth=4 --ios=16 "$image"
expect_equal "written" 2048 "$(written_blocks 0 2048)"
measure --bs=12k --depth=16 --batch=16 --ios=100 "$image"
expect_equal bytes 1228800 "$(field bytes)"
measure --read-batch --depth=16 --batch=4 --threads=3 --ios=100 "$image"
expect_equal "what was done" "100 True" "$(field ios read_batch)"
measure --read_batch --rw=read --ios=2100 "$image"
expect_equal ios 2100 "$(field ios)"
# A seed is a sequence of offsets.
new_image
measure --rw=randwrite --seed=7 --ios=300 "$image"
first=$(checksum)
new_image
measure --rw=randwrite --seed=7 --ios=300 "$image"
expect_equal "the image with the same seed" "$first" "$(checksum)"
new_image
measure --rw=randwrite --seed=8 --ios=300 "$image"
[[ $(checksum) != "$first" ]] || fail "another seed wrote the same"

say "what the CPU did"
for backend in sync uring; do
  measure --backend="$backend" --depth=8 --ios=2000 "$image"
  read -r user system cpu calls by <<<"$(field user_us_per_io system_us_per_io \
    cpu_us_per_io system_calls_per_io system_calls_counted_by)"
  # Of the sync backend the estimate is right, of rings it leaves out waits.
  /usr/bin/python3 -c "import sys
sys.exit(not ($cpu > 0 and abs($user + $system - $cpu) < 1e-6 * $cpu and
              0 < $calls <= 1.01 and '$by' == 'estimate'))" ||
    fail "$backend: $user + $system us, in all $cpu; $calls calls by $by"
done
# Tracing needs tracefs, mounted for this command alone.
traced=(unshare --mount sh -c
  'mount -t tracefs none /sys/kernel/tracing && exec "$@"' traced)
if ((EUID == 0)) && "${traced[@]}" true 2>/dev/null; then
  "${traced[@]}" "$bench" --json --backend=sync --ios=2000 --trace-syscalls \
    "$image" >"$workdir/out"
  read -r calls by <<<"$(field system_calls_per_io system_calls_counted_by)"
  # One pread each; to start and end the job takes some more.
  /usr/bin/python3 -c "import sys
sys.exit(not (1 <= $calls < 1.2 and '$by' == 'kernel'))" ||
    fail "$calls system calls per I/O, by $by"
else
  echo "no tracefs here: left out"
fi

say "by time, in one line"
"$bench" --seconds=0.05 --target "$image" >"$workdir/out"
expect_equal "lines" 1 "$(wc -l <"$workdir/out")"
grep -qE '^randread 4\.0 KiB, depth 1, threads 1, batch 1, [a-z]+: .* IOPS, .* p50 .* p99\.9 .* max .*, CPU .* us per I/O, .* system calls per I/O' \
  "$workdir/out" || fail "$(<"$workdir/out")"

say "a target that holds something"
new_image
quietly "$bench" --rw=write --ios=10 "$image"
refuses 1 "contains data of unknown origin; if what it holds may be lost, give \
--overwrite" --rw=write --ios=10 "$image"
refuses 1 "give --overwrite" --rw=randwrite --ios=10 "$image"
quietly "$bench" --rw=write --ios=10 --overwrite "$image"
rm "$image"
quietly "$tool" mkfs --size=16M --prealloc=none "$image"
refuses 1 "contains a DioFS volume" --rw=write --ios=10 "$image"
refuses 1 "contains a DioFS volume" --rw=randwrite --ios=10 --bs=512 "$image"
quietly "$bench" --ios=10 "$image"
quietly "$tool" fsck "$image"

say "a block device"
new_image
if loop_device "$image"; then
  refuses 1 "is a block device, to be written; if what it holds may be lost, \
give --overwrite" --rw=write --ios=10 "$device"
  quietly "$bench" --ios=10 "$device"
  quietly "$bench" --rw=write --ios=10 --overwrite "$device"
  refuses 1 "is the file behind $device; release it first" --rw=write --ios=1 \
    --overwrite "$image"
else
  echo "no loop device is to be had: left out"
fi

say "targets that are none"
refuses 1 "there is no such file or device" "$workdir/nowhere.img"
refuses 1 "neither a block device nor a regular file" "$workdir"
refuses 1 "neither a block device nor a regular file" /dev/null
image=$workdir/other.img
new_image
refuses 1 "has 8.0 MiB (8388608 bytes), less than --size=16777216" --size=16M "$image"
refuses 1 "are too few; this takes at least" --bs=16M "$image"
refuses 1 "are too few; this takes at least" --rw=read --bs=1M --threads=9 \
  "$image"

say "wrong usage"
refuses 2 "arguments missing: PATH"
refuses 2 "PATH and --target are both given" --target="$image" "$image"
refuses 2 "unexpected argument" "$image" "$image"
refuses 2 "unknown flag --sise" --sise=4 "$image"
refuses 2 "--rw=trim is none of" --rw=trim "$image"
refuses 2 "--rw=randtrim is none of" --rw=randtrim "$image"
for size in many 0 1000 128M -4k; do
  refuses 2 "--bs=$size is not a multiple of 512" --bs="$size" "$image"
done
refuses 2 "--size=many is not a size" --size=many "$image"
refuses 2 "--backend=spdk is none of auto|uring|threads|sync" --backend=spdk \
  "$image"
refuses 2 "--sync=all is none of" --rw=write --sync=all "$image"
refuses 2 "--sync=every is for writes" --sync=every "$image"
refuses 2 "--depth is not in 1 to 1024" --depth=0 "$image"
refuses 2 "--threads is not in 1 to 1024" --threads=5000 "$image"
refuses 2 'invalid value "-1" for --threads' --threads=-1 "$image"
refuses 2 "--batch is more than --depth" --depth=4 --batch=5 "$image"
refuses 2 "--read-batch is for reads" --rw=write --read-batch "$image"
refuses 2 "a --depth that is a multiple of --batch" --depth=5 --batch=2 \
  --read-batch "$image"
refuses 2 "--seconds is not above 0" --seconds=0 "$image"
refuses 2 "--seconds is not above 0" --seconds=nan "$image"
refuses 2 "--ios is less than --threads" --ios=3 --threads=4 "$image"
refuses 2 "--pairs is not in 1 to 1000" --compare-fio --pairs=0 "$image"
refuses 2 "--workload=all is none of randread-d1|" --compare-fio \
  --workload=all "$image"
refuses 2 "--batch is more than the depth, 1" --compare-fio --batch=2 \
  --workload=randread-d1 "$image"
for flag in --rw=read --bs=8k --depth=2 --threads=2 --sync=none --read-batch \
  --seconds=1 --ios=10 --trace-syscalls; do
  refuses 2 "${flag%%=*} is not for --compare-fio" --compare-fio "$flag" \
    "$image"
done
for flag in --workload=randread-d1 --pairs=2 --pair-seconds=1 --noprefill \
  --check; do
  name=${flag%%=*}
  refuses 2 "${name/--no/--} needs --compare-fio" "$flag" "$image"
done

# Main is all that strace follows; it sleeps in ppoll while others work.
trace=(env "ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
  strace -o /dev/null)
interrupted() {
  local when=$1 status=0
  shift
  "${trace[@]}" -e trace=ppoll -e "inject=ppoll:signal=TERM:when=$when" \
    "$bench" "$@" >"$workdir/out" 2>"$workdir/err" || status=$?
  expect_equal "exit code of the interrupted dio_bench $*" 143 "$status"
  expect_equal "what it says" "dio_bench: interrupted" "$(<"$workdir/err")"
}

say "interrupted"
if "${trace[@]}" true 2>/dev/null; then
  interrupted 2 --seconds=600 --depth=8 --threads=2 --json "$image"
  expect_equal pattern randread "$(field pattern)"
else
  echo "strace cannot trace here: left out"
fi

say "a comparison without fio"
rm "$image"
status=0
env PATH="$workdir" "$bench" --compare-fio --size=8M "$image" \
  2>"$workdir/err" || status=$?
expect_equal "exit code" 1 "$status"
expect_equal "what it says" \
  "dio_bench: $image: fio is not installed; install the package fio" \
  "$(<"$workdir/err")"
[[ ! -e $image ]] || fail "an image was made"

say "goals met and missed"
# One that prints what the test has chosen.
cat >"$workdir/fio" <<'END'
#!/bin/sh
[ "$1" != --version ] || exec echo fio-made-up
printf '{"jobs": [{"error": 0, "job_runtime": 1000, "usr_cpu": %s,
  "sys_cpu": 0, "read": {"total_ios": 1000, "iops": %s, "bw_bytes": 1}}]}' \
  "$RIVAL_CPU" "$RIVAL_IOPS"
END
chmod +x "$workdir/fio"
# RIVAL_IOPS RIVAL_CPU EXIT_CODE RATE_VERDICT CPU_VERDICT FLAG...
judged() {
  local status=0
  env PATH="$workdir:$PATH" RIVAL_IOPS="$1" RIVAL_CPU="$2" "$bench" \
    --compare-fio --json --pairs=6 --pair-seconds=0.02 --size=8M \
    --workload=randread-d1 "${@:6}" "$image" >"$workdir/out" || status=$?
  expect_equal "exit code with a rival of $1 IOPS, CPU $2" "$3" "$status"
  expect_equal "its verdicts" "$4 $5" \
    "$(field workloads/0/{rate,cpu}_ratio/verdict)"
}
judged 1 99 0 met met --check
judged 1e12 99 3 missed met --check
judged 1 1e-9 3 met missed --check
judged 1e12 1e-9 0 missed missed

if ! command -v fio >/dev/null; then
  echo "fio is not installed: the comparison is left out"
  exit 0
fi

say "a comparison on an image of its own"
compare=(--compare-fio --pairs=1 --pair-seconds=0.05)
measure "${compare[@]}" --size=24M "$image"
[[ ! -e $image ]] || fail "the image was left behind"
expect_equal workloads "4" "$(/usr/bin/python3 -c 'import json, sys
workloads = json.load(open(sys.argv[1]))["workloads"]
for workload in workloads:
    assert len(workload["pairs"]) == 1, workload
    for side in ("ours", "rival"):
        assert workload["pairs"][0][side]["rate"] > 0, workload
    for ratio in ("rate_ratio", "cpu_ratio"):
        # One pair proves nothing.
        assert workload[ratio]["verdict"] == "undecided", workload
    names = {rival["name"] for rival in workload["rivals"]}
    assert names == {"psync", "io_uring", "libaio"}, workload
    assert all(rival["trial_rate"] > 0 for rival in workload["rivals"])
print(len(workloads))' "$workdir/out")"

say "a comparison on an image of somebody else"
new_image
quietly "$bench" --rw=write --ios=10 "$image"
refuses 1 "give --overwrite" "${compare[@]}" "$image"
refuses 1 "give --overwrite" "${compare[@]}" --noprefill --workload=write-512k \
  "$image"
before=$(checksum)
measure "${compare[@]}" --noprefill --workload=randread-d32 "$image"
expect_equal "the image that was only read" "$before" "$(checksum)"
"$bench" "${compare[@]}" --overwrite --workload=randread-d1 "$image" \
  >"$workdir/out"
grep -q '^randread-d1: IOPS ratio .* (too few pairs; range .* undecided' \
  "$workdir/out" || fail "$(<"$workdir/out")"
expect_equal "prefilled blocks" 2048 "$(written_blocks 0 2048)"

if "${trace[@]}" true 2>/dev/null; then
  say "a comparison that is interrupted"
  rm "$image"
  # While it prefills, measures, and runs fio.
  for when in 6 30 36 40; do
    interrupted "$when" --compare-fio --pairs=100 --pair-seconds=0.4 \
      --size=24M --workload=randread-d1 "$image"
    [[ ! -e $image ]] || fail "the image was left behind"
    [[ ! -s $workdir/out ]] || fail "$(<"$workdir/out")"
  done
fi
