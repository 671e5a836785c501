#include "tools/dio_bench_compare.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "tools/dio_bench_fio.h"
#include "tools/dio_bench_job.h"

namespace diofs {

namespace {

// What the engine has to reach.
constexpr double kRateGoal = 0.97;
constexpr double kCpuGoal = 1.0;

constexpr uint32_t kLargeBytes = 64 << 10;
// How much of a pair's time each way of each side is tried for.
constexpr double kTrialShare = 0.25;
// Ways whose rates differ by less look the same in such a trial.
constexpr double kTrialTolerance = 0.05;

std::vector<double> Ratios(const std::vector<SideRun>& ours,
                           const std::vector<SideRun>& rivals,
                           double SideRun::*value) {
  std::vector<double> ratios;
  for (size_t i = 0; i < ours.size(); ++i) {
    const double rival = rivals[i].*value;
    if (rival > 0) ratios.push_back(ours[i].*value / rival);
  }
  return ratios;
}

}  // namespace

const std::vector<Workload>& AllWorkloads() {
  static const std::vector<Workload> workloads = {
      {"randread-d1", IoDirection::kRead, true, 4096, 1},
      {"randread-d32", IoDirection::kRead, true, 4096, 32},
      {"read-512k", IoDirection::kRead, false, 512 << 10, 8},
      {"write-512k", IoDirection::kWrite, false, 512 << 10, 8}};
  return workloads;
}

bool Workload::by_bandwidth() const { return request_bytes >= kLargeBytes; }

std::string Contender::Text() const {
  std::string text = name;
  if (depth > 1) text += ", depth " + std::to_string(depth);
  if (threads > 1) text += ", " + std::to_string(threads) + " threads";
  if (batch > 1) text += ", batches of " + std::to_string(batch);
  return text;
}

size_t Fastest(const std::vector<Contender>& contenders) {
  const auto best =
      std::max_element(contenders.begin(), contenders.end(),
                       [](const Contender& a, const Contender& b) {
                         return a.trial.rate < b.trial.rate;
                       });
  return static_cast<size_t>(best - contenders.begin());
}

size_t CheapestOfTheFast(const std::vector<Contender>& contenders) {
  const size_t fastest = Fastest(contenders);
  const double enough = contenders[fastest].trial.rate * (1 - kTrialTolerance);
  size_t cheapest = fastest;
  for (size_t i = 0; i < contenders.size(); ++i) {
    const SideRun& trial = contenders[i].trial;
    if (trial.rate >= enough &&
        trial.cpu_seconds_per_io <
            contenders[cheapest].trial.cpu_seconds_per_io) {
      cheapest = i;
    }
  }
  return cheapest;
}

// ---- Comparison ------------------------------------------------------------

Verdict Comparison::rate_verdict() const {
  return JudgeAtLeast(rate_ratio, kRateGoal);
}

Verdict Comparison::cpu_verdict() const {
  return JudgeAtMost(cpu_ratio, kCpuGoal);
}

// ---- CompareRunner ---------------------------------------------------------

CompareRunner::CompareRunner(BlockDevice* device, std::string path,
                             const CompareOptions& options,
                             Interrupt* interrupt, ProgressFn progress)
    : device_(device),
      path_(std::move(path)),
      options_(options),
      interrupt_(interrupt),
      progress_(std::move(progress)) {}

Result CompareRunner::Run(const std::vector<const Workload*>& workloads,
                          std::vector<Comparison>* comparisons) {
  for (const Workload* workload : workloads) {
    Comparison comparison;
    comparison.workload = workload;
    FindContenders(&comparison);
    seconds_left_ +=
        2 * options_.pairs * options_.pair_seconds +
        TrialSeconds() * static_cast<double>(comparison.our_contenders.size() +
                                             comparison.rivals.size());
    comparisons->push_back(std::move(comparison));
  }
  for (Comparison& comparison : *comparisons) {
    if (Result r = RunWorkload(&comparison); !r.ok()) {
      return std::move(r).With(comparison.workload->name);
    }
  }
  return Result::Ok();
}

void CompareRunner::FindContenders(Comparison* comparison) const {
  const uint32_t depth = comparison->workload->depth;
  const uint32_t batch = options_.batch > 0 ? std::min(options_.batch, depth)
                                            : std::max<uint32_t>(1, depth / 4);
  comparison->rivals = {{"psync", depth, 1, 1},
                        {"io_uring", 1, depth, 1},
                        {"libaio", 1, depth, 1}};
  if (depth == 1) {
    comparison->our_contenders = {{"dio", 1, 1, 1}};
    return;
  }
  comparison->our_contenders = {{"dio", 1, depth, batch}, {"dio", depth, 1, 1}};
  // Whatever batches do for us, they may do for the rival.
  if (batch > 1) {
    comparison->rivals.push_back({"io_uring", 1, depth, batch});
    comparison->rivals.push_back({"libaio", 1, depth, batch});
  }
}

Result CompareRunner::RunWorkload(Comparison* comparison) {
  const Workload& workload = *comparison->workload;
  const double seconds = TrialSeconds();
  for (Contender& contender : comparison->our_contenders) {
    Result result = Announce(workload, "trying " + contender.Text(), seconds);
    if (result.ok()) {
      result = RunOurs(workload, contender, seconds, &contender.trial);
    }
    if (!result.ok()) return result;
  }
  for (Contender& contender : comparison->rivals) {
    Result result =
        Announce(workload, "trying fio's " + contender.Text(), seconds);
    if (result.ok()) {
      result = RunRival(workload, contender, seconds, &contender.trial);
    }
    if (!result.ok()) return result;
  }
  comparison->ours = CheapestOfTheFast(comparison->our_contenders);
  comparison->rival = Fastest(comparison->rivals);
  return RunPairs(comparison);
}

Result CompareRunner::RunPairs(Comparison* comparison) {
  const Workload& workload = *comparison->workload;
  const Contender& ours = comparison->our_contenders[comparison->ours];
  const Contender& rival = comparison->rivals[comparison->rival];
  for (uint32_t pair = 0; pair < options_.pairs; ++pair) {
    SideRun our_run;
    SideRun rival_run;
    // In turns, so that neither always finds the device as the other left it.
    for (const bool our_turn : {pair % 2 == 0, pair % 2 != 0}) {
      Result result = Announce(workload,
                               "pair " + std::to_string(pair + 1) + " of " +
                                   std::to_string(options_.pairs),
                               options_.pair_seconds);
      if (!result.ok()) return result;
      result =
          our_turn
              ? RunOurs(workload, ours, options_.pair_seconds, &our_run)
              : RunRival(workload, rival, options_.pair_seconds, &rival_run);
      if (!result.ok()) return result;
    }
    comparison->our_runs.push_back(our_run);
    comparison->rival_runs.push_back(rival_run);
  }
  comparison->rate_ratio = EstimateMedian(
      Ratios(comparison->our_runs, comparison->rival_runs, &SideRun::rate));
  comparison->cpu_ratio =
      EstimateMedian(Ratios(comparison->our_runs, comparison->rival_runs,
                            &SideRun::cpu_seconds_per_io));
  return Result::Ok();
}

Result CompareRunner::RunOurs(const Workload& workload,
                              const Contender& contender, double seconds,
                              SideRun* run) {
  JobOptions job;
  job.work.direction = workload.direction;
  job.work.random = workload.random;
  job.work.request_bytes = workload.request_bytes;
  job.work.range_bytes = options_.range_bytes;
  job.work.depth = contender.depth;
  job.work.batch = contender.batch;
  job.work.seed = options_.seed;
  // fio reads no clocks for latencies either.
  job.work.latency = false;
  job.threads = contender.threads;
  job.seconds = seconds;
  JobResult result;
  if (Result r = RunJob(device_, job, interrupt_, &result); !r.ok()) return r;
  if (interrupt_->Happened()) return Result::Error(EINTR);
  run->rate = workload.by_bandwidth() ? result.bytes_per_second()
                                      : result.ios_per_second();
  run->cpu_seconds_per_io = result.cpu_seconds_per_io();
  return Result::Ok();
}

Result CompareRunner::RunRival(const Workload& workload,
                               const Contender& contender, double seconds,
                               SideRun* run) {
  FioJob job;
  job.target = path_;
  job.engine = contender.name;
  job.direction = workload.direction;
  job.random = workload.random;
  job.request_bytes = workload.request_bytes;
  job.range_bytes = options_.range_bytes;
  job.jobs = contender.threads;
  job.depth = contender.depth;
  job.batch = contender.batch;
  job.seed = options_.seed;
  job.seconds = seconds;
  FioResult result;
  if (Result r = RunFio(job, interrupt_, &result); !r.ok()) return r;
  run->rate =
      workload.by_bandwidth() ? result.bytes_per_second : result.ios_per_second;
  run->cpu_seconds_per_io = result.cpu_seconds_per_io;
  return Result::Ok();
}

Result CompareRunner::Announce(const Workload& workload,
                               const std::string& what, double seconds) {
  if (interrupt_->Happened()) return Result::Error(EINTR);
  progress_(std::string(workload.name) + ": " + what, seconds_left_);
  seconds_left_ -= seconds;
  return Result::Ok();
}

double CompareRunner::TrialSeconds() const {
  return options_.pair_seconds * kTrialShare;
}

}  // namespace diofs
