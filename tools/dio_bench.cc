// dio_bench: measures the engine on a device or image, alone or against fio.

#include <gflags/gflags.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dio/align.h"
#include "env/volume_options.h"
#include "tools/dio_bench_compare.h"
#include "tools/dio_bench_fio.h"
#include "tools/dio_bench_interrupt.h"
#include "tools/dio_bench_job.h"
#include "tools/dio_bench_report.h"
#include "tools/dio_bench_target.h"
#include "tools/diofs_command.h"
#include "tools/diofs_util.h"

DEFINE_string(target, "", "The same as PATH.");
DEFINE_string(rw, "randread", "What to do; randread by default.");
DEFINE_string(bs, "4k", "Bytes of each request; 4k by default.");
DEFINE_uint32(depth, 1, "Requests in flight of each thread; 1 by default.");
DEFINE_uint32(threads, 1, "Threads; 1 by default.");
DEFINE_uint32(batch, 0,
              "Requests that are submitted, and waited for,\n"
              "together; a quarter of the depth by default.");
DEFINE_string(sync, "none",
              "When a write is done: when it has completed\n"
              "(none, the default), when a flush after it has\n"
              "(every), or as the engine makes one write durable:\n"
              "by a flush that it shares (flush), or by writing\n"
              "through where the device can (fua).");
DEFINE_bool(read_batch, false, "Read each batch by one ReadBatch.");
DEFINE_string(backend, "auto", "What carries the requests; auto by default.");
DEFINE_double(seconds, 5, "How long; 5 by default.");
DEFINE_uint64(ios, 0,
              "End after so many requests; without --seconds,\n"
              "however long they take.");
DEFINE_string(size, "",
              "Bytes of PATH that are used, from its start; all\n"
              "of it by default.");
DEFINE_uint64(seed, 1, "Which random offsets and data; 1 by default.");
DEFINE_bool(overwrite, false, "What PATH holds may be lost.");
DEFINE_bool(trace_syscalls, false,
            "Have the kernel count system calls (root, with\n"
            "tracefs mounted); it slows each one a little.\n"
            "Without it they are an estimate that leaves out\n"
            "waits, on a ring or between threads.");
DEFINE_bool(compare_fio, false, "Measure the engine and fio in turns.");
DEFINE_string(workload, "", "Compare at this one alone.");
DEFINE_uint32(pairs, 10, "Pairs of runs to compare; 10 by default.");
DEFINE_double(pair_seconds, 5,
              "How long each run of a pair takes; 5 by default.");
DEFINE_bool(prefill, true,
            "Write incompressible data first. --noprefill is for\n"
            "a target that holds such data already.");

namespace diofs {

namespace {

constexpr uint32_t kMaxThreads = 1024;
constexpr uint32_t kMaxDepth = 1024;
constexpr uint32_t kMaxPairs = 1000;
constexpr double kMaxSeconds = 1e6;
constexpr uint64_t kMaxRequestBytes = 64 << 20;
constexpr uint64_t kProgressBytes = 32 << 20;
constexpr uint64_t kVolumeBlockBytes = 4096;

// The command line, checked as far as it can be without looking at the target.
struct Request {
  std::string path;
  uint64_t size_bytes = 0;  // 0: all there is
  JobOptions job;
  Backend backend = Backend::kAuto;
  std::vector<const Workload*> workloads;
};

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

std::string WorkloadNames() {
  std::string names;
  for (const Workload& workload : AllWorkloads()) {
    names += (names.empty() ? "" : "|") + std::string(workload.name);
  }
  return names;
}

// "4k" as well as "4K".
bool ParseBytes(std::string text, uint64_t* bytes) {
  if (!text.empty() && text.back() == 'k') text.back() = 'K';
  if (!text.empty() && text.back() == 'm') text.back() = 'M';
  if (!text.empty() && text.back() == 'g') text.back() = 'G';
  return ParseSize(text, bytes);
}

bool Given(const char* flag) {
  gflags::CommandLineFlagInfo info;
  return gflags::GetCommandLineFlagInfo(flag, &info) && !info.is_default;
}

// The checks below return what is wrong, or nothing.

std::string CheckPattern(WorkOptions* work) {
  const bool random = FLAGS_rw.compare(0, 4, "rand") == 0;
  const std::string direction = random ? FLAGS_rw.substr(4) : FLAGS_rw;
  if (direction != "read" && direction != "write") {
    return "--rw=" + FLAGS_rw + " is none of randread, read, randwrite, write";
  }
  work->random = random;
  work->direction =
      direction == "read" ? IoDirection::kRead : IoDirection::kWrite;
  uint64_t bytes = 0;
  if (!ParseBytes(FLAGS_bs, &bytes) || bytes == 0 || bytes > kMaxRequestBytes ||
      !IsAligned(bytes, 512)) {
    return "--bs=" + FLAGS_bs +
           " is not a multiple of 512 bytes of at most 64M, such as 4k";
  }
  work->request_bytes = static_cast<uint32_t>(bytes);
  return std::string();
}

std::string CheckSync(WorkOptions* work) {
  if (!FindWord(kBenchSyncWords, FLAGS_sync, &work->sync)) {
    return "--sync=" + FLAGS_sync + " is none of " +
           ListWords(kBenchSyncWords, ", ");
  }
  if (work->sync != BenchSync::kNone && work->direction == IoDirection::kRead) {
    return "--sync=" + FLAGS_sync + " is for writes";
  }
  return std::string();
}

std::string CheckDepth(JobOptions* job) {
  WorkOptions* const work = &job->work;
  work->depth = FLAGS_depth;
  work->batch =
      FLAGS_batch > 0 ? FLAGS_batch : std::max<uint32_t>(1, FLAGS_depth / 4);
  job->threads = FLAGS_threads;
  job->read_batch = FLAGS_read_batch;
  if (work->depth < 1 || work->depth > kMaxDepth) {
    return "--depth is not in 1 to " + std::to_string(kMaxDepth);
  }
  if (job->threads < 1 || job->threads > kMaxThreads) {
    return "--threads is not in 1 to " + std::to_string(kMaxThreads);
  }
  if (work->batch > work->depth) return "--batch is more than --depth";
  if (!job->read_batch) return std::string();
  if (work->direction != IoDirection::kRead) return "--read-batch is for reads";
  if (work->depth % work->batch != 0) {
    return "--read-batch needs a --depth that is a multiple of --batch";
  }
  return std::string();
}

bool IsDuration(double seconds) {
  return std::isfinite(seconds) && seconds > 0 && seconds <= kMaxSeconds;
}

std::string CheckLength(JobOptions* job) {
  if (!IsDuration(FLAGS_seconds)) return "--seconds is not above 0";
  if (!IsDuration(FLAGS_pair_seconds)) return "--pair-seconds is not above 0";
  if (FLAGS_pairs < 1 || FLAGS_pairs > kMaxPairs) {
    return "--pairs is not in 1 to " + std::to_string(kMaxPairs);
  }
  job->work.max_ios = FLAGS_ios;
  if (FLAGS_ios > 0 && FLAGS_ios < job->threads) {
    return "--ios is less than --threads";
  }
  job->seconds = FLAGS_ios > 0 && !Given("seconds") ? 0 : FLAGS_seconds;
  return std::string();
}

std::string CheckWorkload(Request* request) {
  for (const Workload& workload : AllWorkloads()) {
    if (FLAGS_workload.empty() || FLAGS_workload == workload.name) {
      request->workloads.push_back(&workload);
    }
  }
  if (!request->workloads.empty()) return std::string();
  return "--workload=" + FLAGS_workload + " is none of " + WorkloadNames();
}

std::string CheckFlags(const std::vector<std::string>& arguments,
                       Request* request) {
  if (arguments.size() + (FLAGS_target.empty() ? 0 : 1) != 1) {
    return arguments.empty() ? "arguments missing: PATH"
                             : "PATH and --target are both given";
  }
  request->path = arguments.empty() ? FLAGS_target : arguments[0];
  if (!FLAGS_size.empty() && (!ParseBytes(FLAGS_size, &request->size_bytes) ||
                              request->size_bytes == 0)) {
    return "--size=" + FLAGS_size + " is not a size such as 512M or 4G";
  }
  if (!FindWord(kBackendWords, FLAGS_backend, &request->backend)) {
    return "--backend=" + FLAGS_backend + " is none of " +
           ListWords(kBackendWords);
  }
  request->job.work.seed = FLAGS_seed;
  request->job.trace_syscalls = FLAGS_trace_syscalls;
  std::string error = CheckPattern(&request->job.work);
  if (error.empty()) error = CheckSync(&request->job.work);
  if (error.empty()) error = CheckDepth(&request->job);
  if (error.empty()) error = CheckLength(&request->job);
  if (error.empty()) error = CheckWorkload(request);
  return error;
}

// How much of the target is used: a multiple of `unit` with room for `least`.
Result FindRange(const Request& request, BlockDevice* device, uint64_t unit,
                 uint64_t least, uint64_t* range_bytes) {
  const uint64_t all = AlignDown(device->size_bytes(), kVolumeBlockBytes);
  if (request.size_bytes > all) {
    return Result::Error(EINVAL, request.path + ": has " + HumanBytes(all) +
                                     ", less than --size=" + FLAGS_size);
  }
  const uint64_t bytes = request.size_bytes > 0 ? request.size_bytes : all;
  *range_bytes = bytes - bytes % unit;
  if (*range_bytes >= least) return Result::Ok();
  return Result::Error(EINVAL, request.path + ": " + HumanBytes(bytes) +
                                   " are too few; this takes at least " +
                                   HumanBytes(least));
}

Result Measure(Request* request, BenchTarget* target, Interrupt* interrupt,
               std::string* text) {
  TargetOptions options;
  options.path = request->path;
  options.backend = request->backend;
  options.write = request->job.work.direction == IoDirection::kWrite;
  options.overwrite = FLAGS_overwrite;
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
  *text = FLAGS_json ? JsonText(JobJson(*device, request->job, measured))
                     : JobText(*device, request->job, measured);
  return result;
}

Result OpenForComparison(const Request& request, BenchTarget* target) {
  TargetOptions options;
  options.path = request.path;
  options.backend = request.backend;
  options.write = FLAGS_prefill;
  for (const Workload* workload : request.workloads) {
    if (workload->direction == IoDirection::kWrite) options.write = true;
  }
  options.overwrite = FLAGS_overwrite;
  if (FLAGS_prefill) options.create_bytes = request.size_bytes;
  options.log = Tell;
  return target->Open(options);
}

Result Compare(const Request& request, BenchTarget* target,
               Interrupt* interrupt, std::string* text) {
  std::string fio;
  if (Result r = FindFio(interrupt, &fio); !r.ok()) return r;
  if (Result r = OpenForComparison(request, target); !r.ok()) return r;
  BlockDevice* const device = target->device();
  CompareOptions options;
  options.pairs = FLAGS_pairs;
  options.pair_seconds = FLAGS_pair_seconds;
  options.batch = FLAGS_batch;
  options.seed = FLAGS_seed;
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
  if (FLAGS_prefill) {
    result = target->Prefill(
        options.range_bytes, FLAGS_seed, interrupt, [&](uint64_t done) {
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
  *text = FLAGS_json ? JsonText(CompareJson(*device, fio, options, comparisons))
                     : CompareText(*device, fio, comparisons);
  return result;
}

int Run(const std::vector<std::string>& arguments) {
  Request request;
  const std::string error = CheckFlags(arguments, &request);
  if (!error.empty()) {
    Tell(error + "; see dio_bench --help");
    return kExitUsage;
  }
  Interrupt interrupt;
  std::string text;
  Result result;
  {
    BenchTarget target;
    result = FLAGS_compare_fio ? Compare(request, &target, &interrupt, &text)
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
  return Print("", text);
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

const Command& BenchCommand() {
  static const std::string backends = ListWords(kBackendWords);
  static const std::string syncs = ListWords(kBenchSyncWords);
  static const std::string workloads = WorkloadNames();
  static const Command command = {
      "dio_bench",
      "measure the direct-I/O engine on a device or image",
      "PATH",
      0,
      1,
      kDescription,
      {{"target", "PATH"},
       {"rw", "randread|read|randwrite|write"},
       {"bs", "SIZE"},
       {"depth", "N"},
       {"threads", "N"},
       {"batch", "N"},
       {"sync", syncs.c_str()},
       {"read-batch", nullptr},
       {"backend", backends.c_str()},
       {"seconds", "N"},
       {"ios", "N"},
       {"size", "SIZE"},
       {"seed", "N"},
       {"overwrite", nullptr},
       {"trace-syscalls", nullptr},
       {"compare-fio", nullptr},
       {"workload", workloads.c_str()},
       {"pairs", "N"},
       {"pair-seconds", "N"},
       {"prefill", nullptr},
       {"json", nullptr}},
      {"dio_bench --depth=32 /dev/nvme0n1",
       "dio_bench --rw=write --bs=512k --depth=8 --overwrite /dev/nvme0n1p3",
       "dio_bench --rw=randwrite --sync=flush --ios=10000 test.img",
       "dio_bench --compare-fio --size=4G new.img",
       "dio_bench --compare-fio --pairs=20 --overwrite /dev/loop0"},
      kExitCodes,
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
