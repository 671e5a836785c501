// dio_bench: measures the engine on a device or image, alone or against fio.

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dio/align.h"
#include "tools/dio_bench_compare.h"
#include "tools/dio_bench_fio.h"
#include "tools/dio_bench_flags.h"
#include "tools/dio_bench_interrupt.h"
#include "tools/dio_bench_job.h"
#include "tools/dio_bench_report.h"
#include "tools/dio_bench_target.h"
#include "tools/diofs_command.h"
#include "tools/diofs_util.h"

namespace diofs {

namespace {

constexpr int kExitMissed = 3;
constexpr uint64_t kProgressBytes = 32 << 20;
constexpr uint64_t kVolumeBlockBytes = 4096;

void Tell(const std::string& message) {
  const std::string line = "dio_bench: " + Printable(message) + "\n";
  fwrite(line.data(), 1, line.size(), stderr);
}

// Tells how far a comparison has come: one line that changes, on a terminal
// only. A stack object.
class Progress {
 public:
  Progress() = default;
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { Show(std::string()); }

  void Show(const std::string& text) {
    if (!terminal_) return;
    // Erases what was there.
    fprintf(stderr, "\r\033[K%s", text.c_str());
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
};

// How much of the target is used: a multiple of `unit` with room for `least`.
Result FindRange(const BenchRequest& request, BlockDevice* device,
                 uint64_t unit, uint64_t least, uint64_t* range_bytes) {
  const uint64_t all = AlignDown(device->size_bytes(), kVolumeBlockBytes);
  if (request.size_bytes > all) {
    return Result::Error(
        EINVAL,
        request.path + ": has " + HumanBytes(all) + " (" + std::to_string(all) +
            " bytes), less than --size=" + std::to_string(request.size_bytes));
  }
  const uint64_t bytes = request.size_bytes > 0 ? request.size_bytes : all;
  *range_bytes = bytes - bytes % unit;
  if (*range_bytes >= least) return Result::Ok();
  return Result::Error(EINVAL, request.path + ": " + HumanBytes(bytes) +
                                   " are too few; this takes at least " +
                                   HumanBytes(least));
}

Result Measure(BenchRequest* request, BenchTarget* target, Interrupt* interrupt,
               std::string* text) {
  TargetOptions options;
  options.path = request->path;
  options.backend = request->backend;
  options.write = request->job.work.direction == IoDirection::kWrite;
  options.overwrite = request->overwrite;
  options.log = Tell;
  if (Result r = target->Open(options); !r.ok()) return r;
  BlockDevice* const device = target->device();
  WorkOptions* const work = &request->job.work;
  const uint32_t unit = device->geometry().offset_align_bytes;
  if (!IsAligned(work->request_bytes, unit)) {
    return Result::Error(EINVAL, request->path + ": takes requests of " +
                                     std::to_string(unit) +
                                     " bytes and multiples of it");
  }
  const uint64_t least =
      uint64_t{work->request_bytes} * (work->random ? 1 : request->job.threads);
  Result result = FindRange(*request, device, work->request_bytes, least,
                            &work->range_bytes);
  JobResult measured;
  if (result.ok()) result = RunJob(device, request->job, interrupt, &measured);
  if (!result.ok()) return result;
  *text = request->json ? JsonText(JobJson(*device, request->job, measured))
                        : JobText(*device, request->job, measured);
  return result;
}

Result OpenForComparison(const BenchRequest& request, BenchTarget* target) {
  TargetOptions options;
  options.path = request.path;
  options.backend = request.backend;
  options.write = request.prefill;
  for (const Workload* workload : request.workloads) {
    if (workload->direction == IoDirection::kWrite) options.write = true;
  }
  options.overwrite = request.overwrite;
  if (request.prefill) options.create_bytes = request.size_bytes;
  options.log = Tell;
  return target->Open(options);
}

// Sets *missed where the whole of an interval lies on the wrong side of a goal.
Result Compare(const BenchRequest& request, BenchTarget* target,
               Interrupt* interrupt, std::string* text, bool* missed) {
  std::string fio;
  if (Result r = FindFio(interrupt, &fio); !r.ok()) return r;
  if (Result r = OpenForComparison(request, target); !r.ok()) return r;
  BlockDevice* const device = target->device();
  CompareOptions options = request.comparison;
  // Every workload has to find room for the parts of all its threads.
  uint64_t unit = 0;
  uint64_t least = 0;
  for (const Workload* workload : request.workloads) {
    unit = std::max<uint64_t>(unit, workload->request_bytes);
    least = std::max<uint64_t>(
        least, uint64_t{workload->request_bytes} * workload->depth);
  }
  Result result = FindRange(request, device, unit, least, &options.range_bytes);
  if (!result.ok()) return result;

  Progress progress;
  if (request.prefill) {
    result = target->Prefill(
        options.range_bytes, options.seed, interrupt, [&](uint64_t done) {
          if (done % kProgressBytes != 0) return;
          progress.Show("prefilling: " + HumanBytes(done) + " of " +
                        HumanBytes(options.range_bytes));
        });
    if (!result.ok()) return result;
  }
  CompareRunner runner(
      device, request.path, options, interrupt,
      [&](const std::string& what, double seconds_left) {
        progress.Show(what + ", " + std::to_string(std::lround(seconds_left)) +
                      " s left");
      });
  std::vector<Comparison> comparisons;
  result = runner.Run(request.workloads, &comparisons);
  if (!result.ok()) return result;
  for (const Comparison& comparison : comparisons) {
    if (comparison.missed()) *missed = true;
  }
  *text = request.json
              ? JsonText(CompareJson(*device, fio, options, comparisons))
              : CompareText(*device, fio, comparisons);
  return result;
}

int Run(const std::vector<std::string>& arguments) {
  BenchRequest request;
  const std::string error = CheckBenchFlags(arguments, &request);
  if (!error.empty()) {
    Tell(error + "; see dio_bench --help");
    return kExitUsage;
  }
  Interrupt interrupt;
  std::string text;
  bool missed = false;
  Result result;
  {
    BenchTarget target;
    result = request.compare
                 ? Compare(request, &target, &interrupt, &text, &missed)
                 : Measure(&request, &target, &interrupt, &text);
  }
  if (interrupt.Happened()) {
    Tell("interrupted");
    fwrite(text.data(), 1, text.size(), stdout);
    return interrupt.exit_code();
  }
  if (!result.ok()) {
    Tell(Explain(request.path, result));
    return kExitFailure;
  }
  const int exit_code = Print("", text);
  return exit_code == kExitOk && request.check && missed ? kExitMissed
                                                         : exit_code;
}

constexpr char kDescription[] =
    R"(PATH is a block device or an image file. Reads take it as it is; a write to a
block device, or to an image that holds anything, needs --overwrite.

--compare-fio prefills PATH, tries in a short round the ways of the engine (one
thread, or as many as the depth) and of fio (psync, io_uring, libaio), and runs
fio's fastest one and the engine's cheapest of about its best rate in turns.
The verdict is by the median ratio of the pairs and the interval that holds it
with 95 %: met, missed, or, where the interval spans the goal (0.97 of the
rival's rate, 1.0 of its CPU time per I/O), undecided. A PATH that does not
exist becomes an image of --size, removed at the end.
)";

constexpr char kBenchExitCodes[] =
    "  0  success\n"
    "  1  failure, told in one line on standard error\n"
    "  2  wrong usage\n"
    "  3  with --check: a goal is missed\n";

const Command& BenchCommand() {
  static const Command command = {
      "dio_bench",
      "measure the direct-I/O engine on a device or image",
      "PATH",
      0,
      1,
      kDescription,
      BenchFlags(),
      {"dio_bench --depth=32 /dev/nvme0n1",
       "dio_bench --rw=write --bs=512k --depth=8 --overwrite /dev/nvme0n1p3",
       "dio_bench --rw=randwrite --sync=flush --ios=10000 test.img",
       "dio_bench --compare-fio --size=4G new.img",
       "dio_bench --compare-fio --pairs=20 --overwrite /dev/loop0"},
      kBenchExitCodes,
      kExitUsage,
      Run};
  return command;
}

// --pair_seconds is --pair-seconds.
std::string DashedName(std::string word) {
  if (word.compare(0, 2, "--") != 0) return word;
  const auto end = std::find(word.begin(), word.end(), '=');
  std::replace(word.begin(), end, '_', '-');
  return word;
}

int Main(const std::vector<std::string>& words) {
  const Command& command = BenchCommand();
  std::vector<std::string> given;
  given.reserve(words.size());
  for (const std::string& word : words) given.push_back(DashedName(word));
  std::vector<std::string> arguments;
  std::string error;
  switch (ParseArguments(command, given, &arguments, &error)) {
    case ParseOutcome::kHelp:
      return Print("", HelpText(command, ""));
    case ParseOutcome::kUsage:
      Tell(error + "; see dio_bench --help");
      return kExitUsage;
    case ParseOutcome::kRun:
      break;
  }
  return command.run(arguments);
}

}  // namespace

}  // namespace diofs

int main(int argc, char** argv) {
  return diofs::Main({argv + (argc > 0 ? 1 : 0), argv + argc});
}
