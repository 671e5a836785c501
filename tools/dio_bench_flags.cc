#include "tools/dio_bench_flags.h"

#include <gflags/gflags.h>

#include <algorithm>
#include <cmath>

#include "dio/align.h"
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
DEFINE_bool(check, false, "End with exit code 3 where a goal is missed.");
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

// "pair_seconds" is --pair-seconds to people.
std::string Dashed(std::string flag) {
  std::replace(flag.begin(), flag.end(), '_', '-');
  return "--" + flag;
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

// Flags that would be ignored are mistakes.
std::string CheckTogether() {
  for (const char* const flag :
       {"rw", "bs", "depth", "threads", "sync", "read_batch", "seconds", "ios",
        "trace_syscalls"}) {
    if (FLAGS_compare_fio && Given(flag)) {
      return Dashed(flag) + " is not for --compare-fio";
    }
  }
  for (const char* const flag :
       {"workload", "pairs", "pair_seconds", "prefill", "check"}) {
    if (!FLAGS_compare_fio && Given(flag)) {
      return Dashed(flag) + " needs --compare-fio";
    }
  }
  return std::string();
}

bool IsDuration(double seconds) {
  return std::isfinite(seconds) && seconds > 0 && seconds <= kMaxSeconds;
}

std::string CheckLength(JobOptions* job) {
  if (!IsDuration(FLAGS_seconds)) return "--seconds is not above 0";
  job->work.max_ios = FLAGS_ios;
  if (FLAGS_ios > 0 && FLAGS_ios < job->threads) {
    return "--ios is less than --threads";
  }
  job->seconds = FLAGS_ios > 0 && !Given("seconds") ? 0 : FLAGS_seconds;
  return std::string();
}

std::string CheckComparison(BenchRequest* request) {
  CompareOptions* const options = &request->comparison;
  options->pairs = FLAGS_pairs;
  options->pair_seconds = FLAGS_pair_seconds;
  options->batch = FLAGS_batch;
  options->seed = FLAGS_seed;
  if (!IsDuration(FLAGS_pair_seconds)) return "--pair-seconds is not above 0";
  if (FLAGS_pairs < 1 || FLAGS_pairs > kMaxPairs) {
    return "--pairs is not in 1 to " + std::to_string(kMaxPairs);
  }
  uint32_t depth = 0;
  for (const Workload& workload : AllWorkloads()) {
    if (FLAGS_workload.empty() || FLAGS_workload == workload.name) {
      request->workloads.push_back(&workload);
      depth = std::max(depth, workload.depth);
    }
  }
  if (!request->workloads.empty()) {
    if (FLAGS_batch <= depth) return std::string();
    return "--batch is more than the depth, " + std::to_string(depth);
  }
  return "--workload=" + FLAGS_workload + " is none of " + WorkloadNames();
}

}  // namespace

std::string CheckBenchFlags(const std::vector<std::string>& arguments,
                            BenchRequest* request) {
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
  request->overwrite = FLAGS_overwrite;
  request->json = FLAGS_json;
  request->compare = FLAGS_compare_fio;
  request->check = FLAGS_check;
  request->prefill = FLAGS_prefill;
  request->job.work.seed = FLAGS_seed;
  request->job.trace_syscalls = FLAGS_trace_syscalls;
  std::string error = CheckTogether();
  if (!error.empty()) return error;
  if (request->compare) return CheckComparison(request);
  error = CheckPattern(&request->job.work);
  if (error.empty()) error = CheckSync(&request->job.work);
  if (error.empty()) error = CheckDepth(&request->job);
  if (error.empty()) error = CheckLength(&request->job);
  return error;
}

std::vector<CommandFlag> BenchFlags() {
  static const std::string backends = ListWords(kBackendWords);
  static const std::string syncs = ListWords(kBenchSyncWords);
  static const std::string workloads = WorkloadNames();
  return {{"target", "PATH"},
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
          {"check", nullptr},
          {"workload", workloads.c_str()},
          {"pairs", "N"},
          {"pair-seconds", "N"},
          {"prefill", nullptr},
          {"json", nullptr}};
}

}  // namespace diofs
