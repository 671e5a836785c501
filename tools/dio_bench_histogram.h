#ifndef DIOFS_TOOLS_DIO_BENCH_HISTOGRAM_H_
#define DIOFS_TOOLS_DIO_BENCH_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace diofs {

// Latencies in nanoseconds: exact below 64, then 64 buckets for each power of
// two, so that a percentile is less than 1.6 % too high. A plain value; whoever
// records into it is its only user meanwhile.
class LatencyHistogram {
 public:
  void Record(uint64_t nanos) {
    ++counts_[Bucket(nanos)];
    ++count_;
    max_ = std::max(max_, nanos);
  }
  void Merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  uint64_t max() const { return max_; }
  // The latency that `fraction` (0 to 1) of all are not above; 0 of none.
  uint64_t Percentile(double fraction) const;

 private:
  static constexpr uint32_t kSubBits = 6;
  static constexpr uint64_t kSubBuckets = uint64_t{1} << kSubBits;
  // 18 minutes; what takes longer counts as that long, but for max().
  static constexpr uint32_t kMaxBits = 40;
  static constexpr size_t kBuckets = (kMaxBits - kSubBits + 1) * kSubBuckets;

  static size_t Bucket(uint64_t nanos) {
    if (nanos < kSubBuckets) return nanos;
    nanos = std::min(nanos, (uint64_t{1} << kMaxBits) - 1);
    const uint32_t shift = 63 - kSubBits - __builtin_clzll(nanos);
    // The leading bit counts one more row of buckets.
    return shift * kSubBuckets + (nanos >> shift);
  }
  // The largest latency that falls into `bucket`.
  static uint64_t UpperBound(size_t bucket);

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  uint64_t max_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_HISTOGRAM_H_
