// What dio_bench reckons with: its histogram, its interval of a median, and
// what it tells fio and reads from it.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "tests/test_seed.h"
#include "tools/dio_bench_compare.h"
#include "tools/dio_bench_fio.h"
#include "tools/dio_bench_histogram.h"
#include "tools/dio_bench_interval.h"

namespace diofs {
namespace {

TEST(LatencyHistogramTest, IsExactForSmallValues) {
  LatencyHistogram histogram;
  for (uint64_t nanos = 1; nanos <= 100; ++nanos) histogram.Record(nanos);
  EXPECT_EQ(histogram.count(), 100u);
  EXPECT_EQ(histogram.Percentile(0.01), 1u);
  EXPECT_EQ(histogram.Percentile(0.5), 50u);
  EXPECT_EQ(histogram.Percentile(0.9), 90u);
  EXPECT_EQ(histogram.Percentile(1), 100u);
  EXPECT_EQ(histogram.max(), 100u);
}

TEST(LatencyHistogramTest, OfNothingIsZero) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.Percentile(0.5), 0u);
  EXPECT_EQ(histogram.Percentile(1), 0u);
}

TEST(LatencyHistogramTest, PercentilesAreAtMostOneBucketTooHigh) {
  std::mt19937_64 random(TestSeed());
  LatencyHistogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20000; ++i) {
    // Any magnitude from nanoseconds to minutes.
    const uint64_t value = random() >> (26 + random() % 38);
    values.push_back(value);
    histogram.Record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<size_t>(
        std::ceil(fraction * static_cast<double>(values.size())));
    const uint64_t exact = values[rank - 1];
    EXPECT_GE(histogram.Percentile(fraction), exact) << fraction;
    EXPECT_LE(histogram.Percentile(fraction), exact + exact / 64) << fraction;
  }
}

TEST(LatencyHistogramTest, KeepsTheGreatestAsItIs) {
  LatencyHistogram histogram;
  histogram.Record(UINT64_MAX);
  histogram.Record(5);
  EXPECT_EQ(histogram.max(), UINT64_MAX);
  EXPECT_EQ(histogram.Percentile(0.5), 5u);
}

TEST(LatencyHistogramTest, Merges) {
  LatencyHistogram one;
  LatencyHistogram other;
  one.Record(10);
  other.Record(3000);
  other.Record(20);
  one.Merge(other);
  EXPECT_EQ(one.count(), 3u);
  EXPECT_EQ(one.max(), 3000u);
  EXPECT_EQ(one.Percentile(0.6), 20u);
}

TEST(MedianIntervalTest, TakesTheOrderStatisticsOfTheSignTest) {
  std::vector<double> sample = {9, 1, 8, 2, 7, 3, 6, 4, 5, 10};
  const MedianInterval ten = EstimateMedian(sample);
  EXPECT_DOUBLE_EQ(ten.median, 5.5);
  EXPECT_TRUE(ten.valid);
  // Fewer than 2 of 10 coins: 11/1024; fewer than 3: 56/1024.
  EXPECT_DOUBLE_EQ(ten.low, 2);
  EXPECT_DOUBLE_EQ(ten.high, 9);
  sample.push_back(11);
  EXPECT_DOUBLE_EQ(EstimateMedian(sample).median, 6);
}

TEST(MedianIntervalTest, HasNoneForFiveValues) {
  const MedianInterval five = EstimateMedian({1, 2, 3, 4, 5});
  EXPECT_FALSE(five.valid);
  EXPECT_DOUBLE_EQ(five.low, 1);
  EXPECT_DOUBLE_EQ(five.high, 5);
  const MedianInterval six = EstimateMedian({1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(six.valid);
  EXPECT_DOUBLE_EQ(six.low, 1);
  EXPECT_DOUBLE_EQ(six.high, 6);
  EXPECT_FALSE(EstimateMedian({}).valid);
}

TEST(MedianIntervalTest, EndsForManyValues) {
  const MedianInterval many = EstimateMedian(std::vector<double>(5000, 2));
  EXPECT_DOUBLE_EQ(many.low, 2);
  EXPECT_DOUBLE_EQ(many.high, 2);
}

TEST(MedianIntervalTest, JudgesByTheWholeInterval) {
  MedianInterval interval;
  interval.median = 1;
  interval.low = 0.97;
  interval.high = 1.1;
  EXPECT_EQ(JudgeAtLeast(interval, 0.97), Verdict::kUndecided)
      << "too few values have no verdict";
  interval.valid = true;
  EXPECT_EQ(JudgeAtLeast(interval, 0.97), Verdict::kMet);
  EXPECT_EQ(JudgeAtMost(interval, 1.0), Verdict::kUndecided);
  EXPECT_EQ(JudgeAtMost(interval, 1.1), Verdict::kMet);
  interval.low = 0.96;
  EXPECT_EQ(JudgeAtLeast(interval, 0.97), Verdict::kUndecided);
  interval.high = 0.969;
  EXPECT_EQ(JudgeAtLeast(interval, 0.97), Verdict::kMissed);
  EXPECT_EQ(JudgeAtMost(interval, 0.95), Verdict::kMissed);
}

TEST(ContenderTest, OursIsTheCheapestOfTheFastAndTheRivalTheFastest) {
  std::vector<Contender> ways(4);
  ways[0].trial.rate = 94.9;  // too slow
  ways[0].trial.cpu_seconds_per_io = 1;
  ways[1].trial.rate = 95.1;
  ways[1].trial.cpu_seconds_per_io = 2;
  ways[2].trial.rate = 100;
  ways[2].trial.cpu_seconds_per_io = 3;
  ways[3].trial.rate = 99;
  ways[3].trial.cpu_seconds_per_io = 4;
  EXPECT_EQ(2u, Fastest(ways));
  EXPECT_EQ(1u, CheapestOfTheFast(ways));
  ways.resize(1);
  EXPECT_EQ(0u, Fastest(ways));
  EXPECT_EQ(0u, CheapestOfTheFast(ways));
}

bool Has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

TEST(FioTest, GivesEachSequentialJobItsPart) {
  FioJob job;
  job.target = "/tmp/a:b\\c";
  job.engine = "psync";
  job.direction = IoDirection::kWrite;
  job.random = false;
  job.request_bytes = 1 << 20;
  job.jobs = 3;
  job.range_bytes = 10 << 20;
  job.seconds = 0.25;
  const std::vector<std::string> arguments = FioArguments(job);
  for (const char* const wanted :
       {"--filename=/tmp/a\\:b\\\\c", "--rw=write", "--bs=1048576",
        "--ioengine=psync", "--numjobs=3", "--thread=1", "--direct=1",
        "--size=3145728", "--offset_increment=3145728", "--runtime=250ms",
        "--time_based=1", "--norandommap=1", "--allow_file_create=0"}) {
    EXPECT_TRUE(Has(arguments, wanted)) << wanted;
  }
}

TEST(FioTest, GivesEveryRandomJobTheWholeRange) {
  FioJob job;
  job.engine = "io_uring";
  job.jobs = 4;
  job.depth = 32;
  job.batch = 8;
  job.range_bytes = 10 << 20;
  const std::vector<std::string> arguments = FioArguments(job);
  for (const char* const wanted :
       {"--rw=randread", "--size=10485760", "--iodepth=32", "--iodepth_batch=8",
        "--iodepth_batch_complete_min=8"}) {
    EXPECT_TRUE(Has(arguments, wanted)) << wanted;
  }
  EXPECT_FALSE(Has(arguments, "--offset_increment=10485760"));
}

TEST(FioTest, SumsOverItsJobs) {
  const std::string text = R"(note: something first
    {"jobs": [
      {"error": 0, "job_runtime": 2000, "usr_cpu": 10.0, "sys_cpu": 40.0,
       "read": {"total_ios": 1000, "iops": 500.5, "bw_bytes": 2048000},
       "write": {"total_ios": 0, "iops": 0, "bw_bytes": 0}},
      {"error": 0, "job_runtime": 1000, "usr_cpu": 0.0, "sys_cpu": 100.0,
       "read": {"total_ios": 3000, "iops": 1500.0, "bw_bytes": 6144000}}]})";
  FioResult result;
  const Result parsed = ParseFioOutput(text, &result);
  ASSERT_TRUE(parsed.ok()) << parsed.ToString();
  EXPECT_EQ(result.ios, 4000u);
  EXPECT_DOUBLE_EQ(result.ios_per_second, 2000.5);
  EXPECT_DOUBLE_EQ(result.bytes_per_second, 8192000);
  // 50 % of 2 s and all of 1 s.
  EXPECT_DOUBLE_EQ(result.cpu_seconds_per_io, 2.0 / 4000);
}

TEST(FioTest, RefusesWhatIsNoResult) {
  FioResult result;
  for (const char* const text :
       {"", "fio: no such engine", "{", "[]", "{}", R"({"jobs": []})",
        R"({"jobs": 5})", R"({"jobs": [7]})",
        R"({"jobs": [{"error": 0, "read": {"total_ios": 0}}]})"}) {
    EXPECT_EQ(ParseFioOutput(text, &result).error(), EINVAL) << text;
  }
  EXPECT_EQ(ParseFioOutput(R"({"jobs": [{"error": 28}]})", &result).error(),
            ENOSPC);
}

}  // namespace
}  // namespace diofs
