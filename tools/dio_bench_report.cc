#include "tools/dio_bench_report.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "tools/diofs_util.h"

namespace diofs {

namespace {

using Json = nlohmann::ordered_json;

constexpr double kMicrosPerSecond = 1e6;
constexpr double kNanosPerMicro = 1e3;

struct NamedFraction {
  const char* name;
  double fraction;
};
constexpr std::array kPercentiles = {
    NamedFraction{"p50", 0.5}, NamedFraction{"p90", 0.9},
    NamedFraction{"p99", 0.99}, NamedFraction{"p99.9", 0.999}};

std::string Fixed(double value, int digits) {
  std::array<char, 64> text;
  const int length = snprintf(text.data(), text.size(), "%.*f", digits, value);
  return std::string(text.data(), length);
}

std::string Micros(uint64_t nanos) {
  return Fixed(static_cast<double>(nanos) / kNanosPerMicro, 1);
}

// "123.4 k", "12".
std::string Count(double count) {
  return count < 10000 ? Fixed(count, 0) : Fixed(count / 1000, 1) + " k";
}

std::string Bandwidth(double bytes_per_second) {
  return HumanBytes(static_cast<uint64_t>(bytes_per_second)) + "/s";
}

std::string Rate(const Workload& workload, double rate) {
  return workload.by_bandwidth() ? Bandwidth(rate) : Count(rate) + " IOPS";
}

std::string Ratio(const MedianInterval& interval) {
  return Fixed(interval.median, 3) + " (" +
         (interval.valid ? "95 %: " : "too few pairs; range ") +
         Fixed(interval.low, 3) + " to " + Fixed(interval.high, 3) + ")";
}

Json LatencyJson(const LatencyHistogram& latency) {
  Json json;
  for (const NamedFraction& percentile : kPercentiles) {
    json[percentile.name] = latency.Percentile(percentile.fraction);
  }
  json["max"] = latency.max();
  return json;
}

Json IntervalJson(const MedianInterval& interval, Verdict verdict) {
  return {{"median", interval.median},
          {"low", interval.low},
          {"high", interval.high},
          {"interval_valid", interval.valid},
          {"verdict", VerdictName(verdict)}};
}

Json ContendersJson(const std::vector<Contender>& contenders) {
  Json json = Json::array();
  for (const Contender& contender : contenders) {
    json.push_back({{"name", contender.name},
                    {"threads", contender.threads},
                    {"depth", contender.depth},
                    {"batch", contender.batch},
                    {"trial_rate", contender.trial.rate}});
  }
  return json;
}

Json RunJson(const SideRun& run) {
  return {{"rate", run.rate},
          {"cpu_us_per_io", run.cpu_seconds_per_io * kMicrosPerSecond}};
}

Json ComparisonJson(const Comparison& comparison) {
  const Workload& workload = *comparison.workload;
  Json pairs = Json::array();
  for (size_t i = 0; i < comparison.our_runs.size(); ++i) {
    pairs.push_back({{"ours", RunJson(comparison.our_runs[i])},
                     {"rival", RunJson(comparison.rival_runs[i])}});
  }
  return {{"workload", workload.name},
          {"pattern", PatternName(workload.direction, workload.random)},
          {"request_bytes", workload.request_bytes},
          {"depth", workload.depth},
          {"rate_unit", workload.by_bandwidth() ? "bytes/s" : "requests/s"},
          {"our_contenders", ContendersJson(comparison.our_contenders)},
          {"rivals", ContendersJson(comparison.rivals)},
          {"ours", comparison.ours},
          {"rival", comparison.rival},
          {"pairs", std::move(pairs)},
          {"rate_ratio",
           IntervalJson(comparison.rate_ratio, comparison.rate_verdict())},
          {"cpu_ratio",
           IntervalJson(comparison.cpu_ratio, comparison.cpu_verdict())}};
}

// The middle run of one side, for people; the verdict is by pairs.
double MedianOf(const std::vector<SideRun>& runs, double SideRun::*value) {
  std::vector<double> values;
  values.reserve(runs.size());
  for (const SideRun& run : runs) values.push_back(run.*value);
  return EstimateMedian(values).median;
}

std::string SideText(const Workload& workload, const Contender& contender,
                     const std::vector<SideRun>& runs) {
  return Rate(workload, MedianOf(runs, &SideRun::rate)) + ", CPU " +
         Fixed(MedianOf(runs, &SideRun::cpu_seconds_per_io) * kMicrosPerSecond,
               2) +
         " us per I/O (" + contender.Text() + ")";
}

}  // namespace

std::string JobText(const BlockDevice& device, const JobOptions& options,
                    const JobResult& result) {
  const WorkOptions& work = options.work;
  std::string text = PatternName(work.direction, work.random) + " " +
                     HumanBytes(work.request_bytes) + ", depth " +
                     std::to_string(work.depth) + ", threads " +
                     std::to_string(options.threads) + ", batch " +
                     std::to_string(work.batch);
  if (work.sync != BenchSync::kNone) {
    text += ", sync " + WordFor(kBenchSyncWords, work.sync);
  }
  if (options.read_batch) text += ", ReadBatch";
  text += ", " + std::string(device.backend_name()) + ": " +
          Count(result.ios_per_second()) + " IOPS, " +
          Bandwidth(result.bytes_per_second()) + ", latency us";
  for (const NamedFraction& percentile : kPercentiles) {
    text += std::string(" ") + percentile.name + " " +
            Micros(result.latency.Percentile(percentile.fraction));
  }
  return text + " max " + Micros(result.latency.max()) + ", CPU " +
         Fixed(result.cpu_seconds_per_io() * kMicrosPerSecond, 2) +
         " us per I/O, " + Fixed(result.system_calls_per_io(), 2) +
         " system calls per I/O (" +
         (result.system_calls_exact ? "the kernel's count" : "estimate") +
         ")\n";
}

Json JobJson(const BlockDevice& device, const JobOptions& options,
             const JobResult& result) {
  const WorkOptions& work = options.work;
  const double ios = static_cast<double>(result.ios);
  return {{"target", device.name()},
          {"backend", device.backend_name()},
          {"pattern", PatternName(work.direction, work.random)},
          {"request_bytes", work.request_bytes},
          {"depth", work.depth},
          {"threads", options.threads},
          {"batch", work.batch},
          {"sync", WordFor(kBenchSyncWords, work.sync)},
          {"read_batch", options.read_batch},
          {"range_bytes", work.range_bytes},
          {"seed", work.seed},
          {"seconds", result.seconds},
          {"ios", result.ios},
          {"bytes", result.bytes},
          {"iops", result.ios_per_second()},
          {"bytes_per_second", result.bytes_per_second()},
          {"latency_ns", LatencyJson(result.latency)},
          {"user_us_per_io",
           ios > 0 ? result.user_seconds * kMicrosPerSecond / ios : 0},
          {"system_us_per_io",
           ios > 0 ? result.system_seconds * kMicrosPerSecond / ios : 0},
          {"cpu_us_per_io", result.cpu_seconds_per_io() * kMicrosPerSecond},
          {"system_calls_per_io", result.system_calls_per_io()},
          {"system_calls_counted_by",
           result.system_calls_exact ? "kernel" : "estimate"}};
}

std::string CompareText(const BlockDevice& device, const std::string& fio,
                        const std::vector<Comparison>& comparisons) {
  std::string text = Printable(device.name()) + ", " + device.backend_name() +
                     " against " + Printable(fio) + "\n";
  for (const Comparison& comparison : comparisons) {
    const Workload& workload = *comparison.workload;
    text += std::string(workload.name) + ": " +
            (workload.by_bandwidth() ? "bandwidth" : "IOPS") + " ratio " +
            Ratio(comparison.rate_ratio) + ": " +
            VerdictName(comparison.rate_verdict()) + "; CPU per I/O ratio " +
            Ratio(comparison.cpu_ratio) + ": " +
            VerdictName(comparison.cpu_verdict()) + "\n  ours   " +
            SideText(workload, comparison.our_contenders[comparison.ours],
                     comparison.our_runs) +
            "\n  rival  " +
            SideText(workload, comparison.rivals[comparison.rival],
                     comparison.rival_runs) +
            "\n";
  }
  return text;
}

Json CompareJson(const BlockDevice& device, const std::string& fio,
                 const CompareOptions& options,
                 const std::vector<Comparison>& comparisons) {
  Json workloads = Json::array();
  for (const Comparison& comparison : comparisons) {
    workloads.push_back(ComparisonJson(comparison));
  }
  return {{"target", device.name()},
          {"backend", device.backend_name()},
          {"rival", fio},
          {"range_bytes", options.range_bytes},
          {"pairs", options.pairs},
          {"pair_seconds", options.pair_seconds},
          {"seed", options.seed},
          {"workloads", std::move(workloads)}};
}

}  // namespace diofs
