#include "tools/dio_bench_syscalls.h"

#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace diofs {

namespace {

// The number of the tracepoint; 0 where there is none to be had.
uint64_t TracepointId() {
  for (const char* const folder :
       {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}) {
    std::ifstream file(std::string(folder) +
                       "/events/raw_syscalls/sys_enter/id");
    uint64_t id = 0;
    if (file >> id) return id;
  }
  return 0;
}

int OpenCounter(uint64_t tracepoint, pid_t thread) {
  perf_event_attr attributes = {};
  attributes.type = PERF_TYPE_TRACEPOINT;
  attributes.size = sizeof(attributes);
  attributes.config = tracepoint;
  attributes.disabled = 1;
  attributes.inherit = 1;  // threads that the engine starts meanwhile
  return static_cast<int>(syscall(SYS_perf_event_open, &attributes, thread, -1,
                                  -1, PERF_FLAG_FD_CLOEXEC));
}

// What the kernel has counted as reads and writes, in all threads.
uint64_t ReadsAndWrites() {
  std::ifstream file("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  uint64_t sum = 0;
  while (file >> name >> value) {
    if (name == "syscr:" || name == "syscw:") sum += value;
  }
  return sum;
}

uint64_t Estimate(BlockDevice* device) {
  const IoStats& stats = device->stats();
  return ReadsAndWrites() + stats.ring_submits.load(std::memory_order_relaxed) +
         stats.flushes.load(std::memory_order_relaxed);
}

}  // namespace

SyscallMeter::~SyscallMeter() {
  for (const int counter : counters_) close(counter);
}

bool SyscallMeter::OpenCounters() {
  const uint64_t tracepoint = TracepointId();
  if (tracepoint == 0) return false;
  std::error_code error;
  const std::filesystem::directory_iterator threads("/proc/self/task", error);
  for (const auto& entry : threads) {
    const int counter =
        OpenCounter(tracepoint, std::stoi(entry.path().filename().string()));
    if (counter < 0) return false;
    counters_.push_back(counter);
  }
  return !counters_.empty();
}

void SyscallMeter::Start(BlockDevice* device, bool trace) {
  exact_ = trace && OpenCounters();
  if (!exact_) {
    count_ = Estimate(device);
    return;
  }
  for (const int counter : counters_) ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
}

void SyscallMeter::Stop(BlockDevice* device) {
  if (!exact_) {
    count_ = Estimate(device) - count_;
    return;
  }
  for (const int counter : counters_) {
    ioctl(counter, PERF_EVENT_IOC_DISABLE, 0);
    uint64_t value = 0;
    if (read(counter, &value, sizeof(value)) == sizeof(value)) count_ += value;
  }
}

}  // namespace diofs
