#include "tools/dio_bench_interval.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace diofs {

namespace {

// In each tail, half of what 95 % leave.
constexpr double kTail = 0.025;

// The largest k for which fewer than k of `count` fair coins show heads with a
// probability of at most kTail; 0 where there is none.
size_t TailRank(size_t count) {
  double term = std::pow(0.5, static_cast<double>(count));
  double below = 0;  // of fewer than `rank` heads
  size_t rank = 0;
  while (rank < count / 2 && below + term <= kTail) {
    below += term;
    ++rank;
    term *= static_cast<double>(count - rank + 1) / static_cast<double>(rank);
  }
  return rank;
}

}  // namespace

MedianInterval EstimateMedian(std::vector<double> sample) {
  MedianInterval interval;
  if (sample.empty()) return interval;
  std::sort(sample.begin(), sample.end());
  const size_t count = sample.size();
  interval.median = (sample[(count - 1) / 2] + sample[count / 2]) / 2;
  const size_t rank = TailRank(count);
  interval.valid = rank > 0;
  const size_t first = interval.valid ? rank - 1 : 0;
  interval.low = sample[first];
  interval.high = sample[count - 1 - first];
  return interval;
}

Verdict JudgeAtLeast(const MedianInterval& interval, double goal) {
  if (!interval.valid) return Verdict::kUndecided;
  if (interval.low >= goal) return Verdict::kMet;
  return interval.high < goal ? Verdict::kMissed : Verdict::kUndecided;
}

Verdict JudgeAtMost(const MedianInterval& interval, double goal) {
  if (!interval.valid) return Verdict::kUndecided;
  if (interval.high <= goal) return Verdict::kMet;
  return interval.low > goal ? Verdict::kMissed : Verdict::kUndecided;
}

const char* VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kMet:
      return "met";
    case Verdict::kMissed:
      return "missed";
    default:
      return "undecided";
  }
}

}  // namespace diofs
