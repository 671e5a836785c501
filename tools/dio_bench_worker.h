#ifndef DIOFS_TOOLS_DIO_BENCH_WORKER_H_
#define DIOFS_TOOLS_DIO_BENCH_WORKER_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/identity_mapper.h"
#include "dio/plug.h"
#include "dio/read_batch.h"
#include "dio/result.h"
#include "env/words.h"
#include "tools/dio_bench_histogram.h"

namespace diofs {

// When a write counts as done.
enum class BenchSync : uint8_t {
  kNone,   // it has completed
  kEvery,  // and a BlockDevice::Flush that followed it has, too
  kFlush,  // as Durability::kFlush has it
  kFua,    // as Durability::kFua has it
};

inline constexpr Words<BenchSync> kBenchSyncWords = {
    {"none", BenchSync::kNone},
    {"every", BenchSync::kEvery},
    {"flush", BenchSync::kFlush},
    {"fua", BenchSync::kFua}};

// "randread", "write", …
std::string PatternName(IoDirection direction, bool random);

// What one thread does, and to which part of the device.
struct WorkOptions {
  IoDirection direction = IoDirection::kRead;
  BenchSync sync = BenchSync::kNone;
  bool random = true;
  uint32_t request_bytes = 4096;
  // Requests in flight; of these so many leave, and are waited for, at once.
  uint32_t depth = 1;
  uint32_t batch = 1;
  // The range that is used; both multiples of request_bytes.
  uint64_t start = 0;
  uint64_t range_bytes = 0;
  uint64_t seed = 0;
  // 0: as many as the time allows.
  uint64_t max_ios = 0;
  // Without it no clock is read.
  bool latency = true;
};

// SplitMix64: a few instructions for each number, and any seed will do.
class BenchRandom {
 public:
  explicit BenchRandom(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t mixed = state_ += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
  }
  // Fills `bytes`, a multiple of 8, with what no device can compress.
  void Fill(char* memory, size_t bytes);

 private:
  uint64_t state_;
};

// One thread's share of a job: keeps its requests in flight until it is told to
// stop. Owned by the job; after Prepare, Run is all that its thread does, and
// the results are the job's once the thread is gone.
class BenchWorker {
 public:
  BenchWorker(BlockDevice* device, const WorkOptions& options);
  BenchWorker(const BenchWorker&) = delete;
  BenchWorker& operator=(const BenchWorker&) = delete;
  virtual ~BenchWorker();

  // All memory there is to take is taken here.
  virtual Result Prepare() = 0;
  // Returns when nothing is in flight any more, or stops early after an error.
  virtual void Run(const std::atomic<bool>& stop) = 0;

  uint64_t ios() const { return ios_; }
  const LatencyHistogram& latency() const { return latency_; }
  const Result& error() const { return error_; }

 protected:
  static uint64_t NowNanos();
  uint64_t NextOffset();
  // How many of `wanted` further requests may start.
  uint32_t Grant(uint32_t wanted, const std::atomic<bool>& stop);
  // Counts a request that has ended; keeps the first error.
  void Account(const Result& result);
  Result MakeBuffer(AlignedBuffer* buffer);

  BlockDevice* const device_;
  const WorkOptions options_;
  const IdentityMapper mapper_;
  const uint32_t block_bytes_;  // the mapper's
  LatencyHistogram latency_;

 private:
  void Fail(Result error);

  BenchRandom random_;
  const uint64_t requests_in_range_;
  uint64_t next_request_ = 0;  // of a sequential job
  uint64_t granted_ = 0;
  uint64_t ios_ = 0;
  bool failed_ = false;
  Result error_;
};

// Each request a Dio of its own, `batch` of them in a plug.
class DioWorker final : public BenchWorker {
 public:
  DioWorker(BlockDevice* device, const WorkOptions& options);
  Result Prepare() override;
  void Run(const std::atomic<bool>& stop) override;

 private:
  struct alignas(64) Slot {
    std::optional<Dio> dio;
    DioRequest request;
    iovec segment;
    uint64_t start_nanos = 0;
    AlignedBuffer buffer;
  };

  void Submit(const uint32_t* slots, uint32_t count, uint64_t now);
  void AwaitRound();
  void TakeDone();
  uint64_t EndRound();

  std::vector<Slot> slots_;
  Plug plug_;
  // Slots in flight, the oldest first, and those of this round that have ended.
  std::vector<uint32_t> in_flight_;
  std::vector<uint32_t> done_;
};

// `batch` reads in one ReadBatch, depth / batch of these in flight.
class ReadBatchWorker final : public BenchWorker {
 public:
  ReadBatchWorker(BlockDevice* device, const WorkOptions& options);
  Result Prepare() override;
  void Run(const std::atomic<bool>& stop) override;

 private:
  struct Group {
    std::vector<AlignedBuffer> buffers;
    std::vector<ReadRange> ranges;
    uint32_t used = 0;  // ranges of the present batch; 0 once there are no more
    uint64_t start_nanos = 0;
    // Last: waits for the device before the memory goes.
    ReadBatch batch;
  };

  void Submit(Group* group, const std::atomic<bool>& stop, uint64_t now);
  uint64_t Complete(Group* group);

  std::vector<Group> groups_;
  ReadBatch::File file_;
};

}  // namespace diofs

#endif  // DIOFS_TOOLS_DIO_BENCH_WORKER_H_
