#include "tools/dio_bench_job.h"

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tools/dio_bench_syscalls.h"

namespace diofs {

namespace {

using Clock = std::chrono::steady_clock;

// How long a job without a limit of its own may take.
constexpr std::chrono::hours kForever(24 * 365);

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) +
         static_cast<double>(time.tv_usec) / 1e6;
}

// Holds the threads back until all are there, and tells when all have ended.
// Owned by the job.
class StartingLine {
 public:
  explicit StartingLine(uint32_t threads)
      : expected_(threads),
        running_(threads),
        ended_fd_(eventfd(0, EFD_CLOEXEC)) {}
  StartingLine(const StartingLine&) = delete;
  StartingLine& operator=(const StartingLine&) = delete;
  ~StartingLine() { close(ended_fd_); }

  void AwaitGo() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (--expected_ == 0) ready_.notify_one();
    go_.wait(lock, [this] { return gone_; });
  }
  void AwaitReady() {
    std::unique_lock<std::mutex> lock(mutex_);
    ready_.wait(lock, [this] { return expected_ == 0; });
  }
  void Go() {
    const std::lock_guard<std::mutex> lock(mutex_);
    gone_ = true;
    go_.notify_all();
  }
  void End() {
    if (running_.fetch_sub(1) == 1) eventfd_write(ended_fd_, 1);
  }
  // Can be read once every thread has called End.
  int ended_fd() const { return ended_fd_; }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::condition_variable go_;
  uint32_t expected_;  // guarded by mutex_
  bool gone_ = false;  // guarded by mutex_
  std::atomic<uint32_t> running_;
  const int ended_fd_;
};

// The part of the job that is thread number `index`'s.
WorkOptions Share(const JobOptions& options, uint32_t index) {
  WorkOptions work = options.work;
  // Far apart in the generator's sequence.
  work.seed += uint64_t{index} << 40;
  work.max_ios = work.max_ios / options.threads +
                 (index < work.max_ios % options.threads ? 1 : 0);
  if (!work.random) {
    const uint64_t requests = work.range_bytes / work.request_bytes;
    work.range_bytes = requests / options.threads * work.request_bytes;
    work.start += index * work.range_bytes;
  }
  return work;
}

Result MakeWorkers(BlockDevice* device, const JobOptions& options,
                   std::vector<std::unique_ptr<BenchWorker>>* workers) {
  for (uint32_t i = 0; i < options.threads; ++i) {
    const WorkOptions work = Share(options, i);
    if (options.read_batch) {
      workers->push_back(std::make_unique<ReadBatchWorker>(device, work));
    } else {
      workers->push_back(std::make_unique<DioWorker>(device, work));
    }
    if (Result r = workers->back()->Prepare(); !r.ok()) return r;
  }
  return Result::Ok();
}

// Sleeps until the job is over, one way or the other.
void AwaitEnd(const JobOptions& options, const StartingLine& line,
              Interrupt* interrupt) {
  const Clock::duration limit =
      options.seconds > 0 ? std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(options.seconds))
                          : kForever;
  const Clock::time_point deadline = Clock::now() + limit;
  while (!interrupt->Happened()) {
    const Clock::duration left = deadline - Clock::now();
    if (left <= Clock::duration::zero()) return;
    if (interrupt->Wait(line.ended_fd(), left)) return;
  }
}

// Takes the time, the CPU time and the system calls from Start to Stop.
class Meter {
 public:
  explicit Meter(BlockDevice* device) : device_(device) {}

  void Start(bool trace_syscalls) {
    syscalls_.Start(device_, trace_syscalls);
    getrusage(RUSAGE_SELF, &usage_);
    start_ = Clock::now();
  }
  void Stop(JobResult* result) {
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    syscalls_.Stop(device_);
    result->seconds = seconds.count();
    result->user_seconds = Seconds(usage.ru_utime) - Seconds(usage_.ru_utime);
    result->system_seconds = Seconds(usage.ru_stime) - Seconds(usage_.ru_stime);
    result->system_calls = syscalls_.count();
    result->system_calls_exact = syscalls_.exact();
  }

 private:
  BlockDevice* const device_;
  SyscallMeter syscalls_;
  rusage usage_ = {};
  Clock::time_point start_;
};

}  // namespace

Result RunJob(BlockDevice* device, const JobOptions& options,
              Interrupt* interrupt, JobResult* result) {
  *result = JobResult();
  std::vector<std::unique_ptr<BenchWorker>> workers;
  if (Result r = MakeWorkers(device, options, &workers); !r.ok()) return r;

  std::atomic<bool> stop{false};
  StartingLine line(options.threads);
  std::vector<std::thread> threads;
  threads.reserve(workers.size());
  for (const auto& worker : workers) {
    threads.emplace_back([&line, &stop, worker = worker.get()] {
      line.AwaitGo();
      worker->Run(stop);
      line.End();
    });
  }
  line.AwaitReady();
  Meter meter(device);
  meter.Start(options.trace_syscalls);
  line.Go();
  AwaitEnd(options, line, interrupt);
  stop.store(true, std::memory_order_relaxed);
  for (std::thread& thread : threads) thread.join();
  meter.Stop(result);

  for (const auto& worker : workers) {
    if (!worker->error().ok()) return worker->error();
    result->ios += worker->ios();
    result->latency.Merge(worker->latency());
  }
  result->bytes = result->ios * options.work.request_bytes;
  return Result::Ok();
}

}  // namespace diofs
