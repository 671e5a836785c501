// dio_wait_bench: how long a read of one block takes when the thread that
// submitted it waits, and when another one waits while the submitter spins in
// user space and makes no system call. With a ring that completes requests in
// the submitter's system calls only, the second would last until the next timer
// interrupt.
//
// The image to read is made under $TMPDIR. Times are from the order to submit
// to the return from Wait.

#include <benchmark/benchmark.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/identity_mapper.h"
#include "dio/open_device.h"
#include "dio/plug.h"

namespace diofs {

namespace {

constexpr uint64_t kBlockBytes = 4096;
constexpr uint64_t kImageBytes = 64 << 20;

using Clock = std::chrono::steady_clock;

// An image without holes, open, and without a name.
class Target {
 public:
  explicit Target(Backend backend) {
    const char* const dir = std::getenv("TMPDIR");
    const std::string path = std::string(dir != nullptr ? dir : "/tmp") +
                             "/dio_wait_bench." + std::to_string(getpid());
    OpenDeviceOptions options;
    options.backend = backend;
    AlignedBuffer data = BufferPool::Get(1 << 20);
    if (!data || !CreateImageFile(path, kImageBytes, true).ok() ||
        !OpenBlockDevice(path, options, &device_).ok()) {
      unlink(path.c_str());
      return;
    }
    unlink(path.c_str());
    std::fill_n(data.data(), data.size(), 'd');
    ok_ = true;
    for (uint64_t at = 0; at < kImageBytes; at += data.size()) {
      ok_ = ok_ && device_->Write(at, data.data(), data.size(), 0).ok();
    }
  }

  bool ok() const { return ok_; }
  BlockDevice* device() { return device_.get(); }

 private:
  std::unique_ptr<BlockDevice> device_;
  bool ok_ = false;
};

// Reads one block after the other. Start and Wait may be on different threads.
class Reader {
 public:
  explicit Reader(BlockDevice* device)
      : device_(device), buffer_(BufferPool::Get(kBlockBytes)) {
    segment_ = {buffer_.data(), kBlockBytes};
    request_.segments = &segment_;
    request_.segment_count = 1;
    request_.file_size = kImageBytes;
    request_.mapper = &mapper_;
    request_.block_bytes = kBlockBytes;
    request_.async = true;
  }

  void Start() {
    // Far from the one before, and back at the first after all others.
    request_.offset = (request_.offset + 1021 * kBlockBytes) % kImageBytes;
    Plug plug(device_);
    dio_.emplace(device_);
    dio_->Submit(request_, &plug);
    plug.Finish();
  }
  bool Wait() { return dio_->Wait().bytes() == kBlockBytes; }

 private:
  BlockDevice* const device_;
  const IdentityMapper mapper_;
  AlignedBuffer buffer_;
  iovec segment_{};
  DioRequest request_;
  std::optional<Dio> dio_;
};

// Starts reads when told to and spins between them.
class SpinningSubmitter {
 public:
  explicit SpinningSubmitter(Reader* reader)
      : thread_([this, reader] {
          for (uint64_t done = 0;;) {
            const uint64_t asked = asked_.load(std::memory_order_acquire);
            if (asked == kStop) return;
            if (asked == done) continue;
            reader->Start();
            done = asked;
            started_.store(done, std::memory_order_release);
          }
        }) {}
  SpinningSubmitter(const SpinningSubmitter&) = delete;
  SpinningSubmitter& operator=(const SpinningSubmitter&) = delete;
  ~SpinningSubmitter() {
    asked_ = kStop;
    thread_.join();
  }

  void Start() {
    const uint64_t number = asked_.load() + 1;
    asked_.store(number, std::memory_order_release);
    while (started_.load(std::memory_order_acquire) != number) {
    }
  }

 private:
  static constexpr uint64_t kStop = UINT64_MAX;
  std::atomic<uint64_t> asked_{0};
  std::atomic<uint64_t> started_{0};
  std::thread thread_;  // the last, for it uses the others
};

template <typename Start>
void Run(benchmark::State& state, Reader* reader, const Start& start) {
  std::vector<double> micros;
  for (auto _ : state) {
    const Clock::time_point begin = Clock::now();
    start();
    if (!reader->Wait()) return state.SkipWithError("a read failed");
    const std::chrono::duration<double> elapsed = Clock::now() - begin;
    state.SetIterationTime(elapsed.count());
    micros.push_back(elapsed.count() * 1e6);
  }
  std::sort(micros.begin(), micros.end());
  state.counters["p50_us"] = micros[micros.size() / 2];
  state.counters["p99_us"] = micros[micros.size() * 99 / 100];
}

void WaitOfTheSubmitter(benchmark::State& state, Backend backend) {
  Target target(backend);
  if (!target.ok()) return state.SkipWithError("no image to read");
  Reader reader(target.device());
  Run(state, &reader, [&] { reader.Start(); });
}

void WaitOfAnother(benchmark::State& state, Backend backend) {
  Target target(backend);
  if (!target.ok()) return state.SkipWithError("no image to read");
  Reader reader(target.device());
  SpinningSubmitter submitter(&reader);
  Run(state, &reader, [&] { submitter.Start(); });
}

BENCHMARK_CAPTURE(WaitOfTheSubmitter, uring, Backend::kUring)->UseManualTime();
BENCHMARK_CAPTURE(WaitOfAnother, uring, Backend::kUring)->UseManualTime();
BENCHMARK_CAPTURE(WaitOfTheSubmitter, threads, Backend::kThreads)
    ->UseManualTime();
BENCHMARK_CAPTURE(WaitOfAnother, threads, Backend::kThreads)->UseManualTime();

}  // namespace

}  // namespace diofs

BENCHMARK_MAIN();
