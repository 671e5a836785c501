#ifndef DIOFS_TOOLS_DIO_BENCH_COMPARE_H_
#define DIOFS_TOOLS_DIO_BENCH_COMPARE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/result.h"
#include "tools/dio_bench_interrupt.h"
#include "tools/dio_bench_interval.h"

namespace diofs {

// A kind of work both sides are measured at. A constant.
struct Workload {
  const char* name;
  IoDirection direction;
  bool random;
  uint32_t request_bytes;
  uint32_t depth;

  // Of large requests the bandwidth counts, of others the number.
  bool by_bandwidth() const;
};

const std::vector<Workload>& AllWorkloads();

struct CompareOptions {
  uint64_t range_bytes = 0;
  uint32_t pairs = 10;
  double pair_seconds = 5;  // of each side
  uint32_t batch = 0;       // 0: a quarter of the depth
  uint64_t seed = 1;
};

// One run of one side, or, of several, one of each pair.
struct SideRun {
  double rate = 0;  // requests or, for large ones, bytes per second
  double cpu_seconds_per_io = 0;
};

// A way in which one side can do the work, and how fast it was when all were
// tried.
struct Contender {
  std::string name;  // "dio", or the ioengine of fio
  uint32_t threads = 1;
  uint32_t depth = 1;  // of each thread
  uint32_t batch = 1;
  SideRun trial = {};

  // "io_uring, depth 32, batches of 8".
  std::string Text() const;
};

// The place of the one with the highest rate; there is at least one.
size_t Fastest(const std::vector<Contender>& contenders);
// Of those about as fast the one that takes the least CPU time: how somebody
// would run it.
size_t CheapestOfTheFast(const std::vector<Contender>& contenders);

struct Comparison {
  const Workload* workload = nullptr;
  std::vector<Contender> our_contenders;
  std::vector<Contender> rivals;
  size_t ours = 0;   // the cheapest of the fast ones
  size_t rival = 0;  // the fastest
  std::vector<SideRun> our_runs;
  std::vector<SideRun> rival_runs;
  // Ours divided by the rival's, pair by pair.
  MedianInterval rate_ratio;
  MedianInterval cpu_ratio;

  Verdict rate_verdict() const;
  Verdict cpu_verdict() const;
  bool missed() const {
    return rate_verdict() == Verdict::kMissed ||
           cpu_verdict() == Verdict::kMissed;
  }
};

// Measures the engine on `device`, which is open at `path`, against fio there:
// chooses the best way of each side in a short round, then runs the two in
// turns. Owned by main(), used by one thread.
class CompareRunner {
 public:
  // Told before each run what it is, and how long all that is left will take.
  using ProgressFn =
      std::function<void(const std::string& what, double seconds_left)>;

  CompareRunner(BlockDevice* device, std::string path,
                const CompareOptions& options, Interrupt* interrupt,
                ProgressFn progress);

  // EINTR after an interrupt.
  Result Run(const std::vector<const Workload*>& workloads,
             std::vector<Comparison>* comparisons);

 private:
  void FindContenders(Comparison* comparison) const;
  Result RunWorkload(Comparison* comparison);
  Result RunPairs(Comparison* comparison);
  Result RunOurs(const Workload& workload, const Contender& contender,
                 double seconds, SideRun* run);
  Result RunRival(const Workload& workload, const Contender& contender,
                  double seconds, SideRun* run);
  // Says what comes next and subtracts `seconds` from what is left.
  Result Announce(const Workload& workload, const std::string& what,
                  double seconds);
  double TrialSeconds() const;

  BlockDevice* const device_;
  const std::string path_;
  const CompareOptions options_;
  Interrupt* const interrupt_;
  const ProgressFn progress_;
  double seconds_left_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_COMPARE_H_
