#ifndef DIOFS_TOOLS_DIO_BENCH_FIO_H_
#define DIOFS_TOOLS_DIO_BENCH_FIO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/result.h"
#include "tools/dio_bench_interrupt.h"

namespace diofs {

// What fio shall do: the counterpart of JobOptions. A plain value.
struct FioJob {
  std::string target;
  std::string engine;  // psync, io_uring, libaio
  IoDirection direction = IoDirection::kRead;
  bool random = true;
  uint32_t request_bytes = 4096;
  // Threads, and requests in flight of each.
  uint32_t jobs = 1;
  uint32_t depth = 1;
  // Requests that leave, and are waited for, at once; 1: as fio does by itself.
  uint32_t batch = 1;
  uint64_t range_bytes = 0;
  uint64_t seed = 1;
  double seconds = 0;
};

struct FioResult {
  uint64_t ios = 0;
  double ios_per_second = 0;
  double bytes_per_second = 0;
  double cpu_seconds_per_io = 0;
};

// The command line, the program's name first: direct, without a map of what was
// read, and without the clocks that only its latencies need.
std::vector<std::string> FioArguments(const FioJob& job);

// Reads the JSON fio printed, summing over its jobs. EINVAL with the reason
// for what is none; the errno where fio tells of one.
Result ParseFioOutput(const std::string& text, FioResult* result);

// Runs fio and waits for it. EINVAL, with the reason, where it cannot be run or
// fails; EINTR after an interrupt, which ends fio too.
Result RunFio(const FioJob& job, Interrupt* interrupt, FioResult* result);

// As RunFio, of `fio --version` alone: whether it can be run.
Result FindFio(Interrupt* interrupt, std::string* version);

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_FIO_H_
