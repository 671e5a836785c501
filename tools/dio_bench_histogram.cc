#include "tools/dio_bench_histogram.h"

#include <cmath>

namespace diofs {

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

uint64_t LatencyHistogram::Percentile(double fraction) const {
  const auto rank =
      static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
  uint64_t below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    below += counts_[i];
    if (below >= rank && below > 0) return std::min(max_, UpperBound(i));
  }
  return max_;
}

uint64_t LatencyHistogram::UpperBound(size_t bucket) {
  if (bucket < 2 * kSubBuckets) return bucket;
  const size_t shift = bucket / kSubBuckets - 1;
  const uint64_t top = kSubBuckets + bucket % kSubBuckets;
  return ((top + 1) << shift) - 1;
}

}  // namespace diofs
