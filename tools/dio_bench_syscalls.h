#ifndef DIOFS_TOOLS_DIO_BENCH_SYSCALLS_H_
#define DIOFS_TOOLS_DIO_BENCH_SYSCALLS_H_

#include <cstdint>
#include <vector>

#include "dio/block_device.h"

namespace diofs {

// Counts the system calls this process makes while a device is at work. With
// `trace` the kernel counts every one, where its tracepoint
// raw_syscalls:sys_enter can be opened (tracefs mounted, root); else it is an
// estimate: reads and writes by /proc/self/io, submissions to rings and flushes
// by the engine, without waits on a ring or between threads. Used by one
// thread, which starts no other one between Start and Stop.
class SyscallMeter {
 public:
  SyscallMeter() = default;
  SyscallMeter(const SyscallMeter&) = delete;
  SyscallMeter& operator=(const SyscallMeter&) = delete;
  ~SyscallMeter();

  void Start(BlockDevice* device, bool trace);
  void Stop(BlockDevice* device);

  uint64_t count() const { return count_; }
  // By the kernel; else it is the estimate.
  bool exact() const { return exact_; }

 private:
  bool OpenCounters();

  std::vector<int> counters_;  // perf events, one for each thread
  uint64_t count_ = 0;
  bool exact_ = false;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_SYSCALLS_H_
