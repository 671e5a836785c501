#ifndef DIOFS_TOOLS_DIO_BENCH_JOB_H_
#define DIOFS_TOOLS_DIO_BENCH_JOB_H_

#include <cstdint>

#include "dio/block_device.h"
#include "dio/result.h"
#include "tools/dio_bench_histogram.h"
#include "tools/dio_bench_interrupt.h"
#include "tools/dio_bench_worker.h"

namespace diofs {

// One measurement: threads that do the same, for a time or a number of
// requests. A plain value.
struct JobOptions {
  // Range, seed and max_ios are those of the whole job; each thread gets its
  // part (of a random job, the whole range).
  WorkOptions work;
  uint32_t threads = 1;
  // Use ReadBatch rather than a Dio for each request.
  bool read_batch = false;
  // 0: until max_ios have been done.
  double seconds = 0;
  // Have the kernel count system calls, where it can; slows each one a little.
  bool trace_syscalls = false;
};

struct JobResult {
  uint64_t ios = 0;
  uint64_t bytes = 0;
  double seconds = 0;
  // Of all threads of the process, those of the kernel's rings included.
  double user_seconds = 0;
  double system_seconds = 0;
  uint64_t system_calls = 0;
  bool system_calls_exact = false;
  LatencyHistogram latency;

  double ios_per_second() const { return PerSecond(ios); }
  double bytes_per_second() const { return PerSecond(bytes); }
  double cpu_seconds_per_io() const {
    return PerIo(user_seconds + system_seconds);
  }
  double system_calls_per_io() const {
    return PerIo(static_cast<double>(system_calls));
  }

 private:
  double PerSecond(uint64_t count) const {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0;
  }
  double PerIo(double sum) const {
    return ios > 0 ? sum / static_cast<double>(ios) : 0;
  }
};

// Measures `device`. An interrupt ends it early, with what was done so far. The
// first error of a request is the job's.
Result RunJob(BlockDevice* device, const JobOptions& options,
              Interrupt* interrupt, JobResult* result);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_JOB_H_
