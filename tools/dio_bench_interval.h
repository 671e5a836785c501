#ifndef DIOFS_TOOLS_DIO_BENCH_INTERVAL_H_
#define DIOFS_TOOLS_DIO_BENCH_INTERVAL_H_

#include <vector>

namespace diofs {

// The median of a sample and the interval that holds the median of what it was
// drawn from with a probability of at least 95 %: between two values of the
// sample, whatever the distribution. Fewer than 6 values have no such interval;
// then `valid` is false, and low and high are the least and the greatest.
struct MedianInterval {
  double median = 0;
  double low = 0;
  double high = 0;
  bool valid = false;
};

MedianInterval EstimateMedian(std::vector<double> sample);

enum class Verdict { kMet, kMissed, kUndecided };

// Whether the median is at least (or at most) `goal`.
Verdict JudgeAtLeast(const MedianInterval& interval, double goal);
Verdict JudgeAtMost(const MedianInterval& interval, double goal);
const char* VerdictName(Verdict verdict);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_INTERVAL_H_
