#include <gtest/gtest.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "dio/read_batch.h"
#include "dio/ring_pool.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 512;
constexpr uint64_t kFileBytes = kBlocks * kBlock;

// Neighbours in the file lie far from each other on the device, so that each
// block is a bio of its own.
class SpreadMapper final : public BlockMapper {
 public:
  static uint64_t DeviceBlock(uint64_t block) { return block * 37 % kBlocks; }
  Result GetBlocks(uint64_t first, uint64_t /*count*/, bool /*create*/,
                   BlockMapping* mapping) const override {
    mapping->state = BlockState::kMapped;
    mapping->device_block = DeviceBlock(first);
    mapping->count = 1;
    return Result::Ok();
  }
};

// True where `memory` holds the poison that lies at `offset` of the file.
bool HoldsPoison(const char* memory, uint64_t offset, size_t bytes,
                 uint32_t logical_block_bytes) {
  for (uint64_t at = offset; at < offset + bytes; ++at) {
    const uint64_t place =
        SpreadMapper::DeviceBlock(at / kBlock) * kBlock + at % kBlock;
    if (*memory++ != SimDevice::Poison(place, logical_block_bytes)) {
      return false;
    }
  }
  return true;
}

// A read that some thread started and any thread ends: waited for, polled, or
// dropped. Used by one thread at a time, handed on through HandleQueue.
class Handle : public DioObserver {
 public:
  Handle(TracingDevice* device, std::mt19937_64* rng)
      : device_(device), batched_((*rng)() % 2 == 0), dio_(device) {
    if (batched_) {
      StartBatch(rng);
    } else {
      StartDio(rng);
    }
  }

  // Ends it on the calling thread, in one of three ways; false where anything
  // was not as it should be.
  bool End(uint64_t way) {
    ender_ = std::this_thread::get_id();
    if (way == 0) {
      while (batched_ ? !batch_->done() : !dio_->done()) device_->Poll();
    }
    if (way == 1) {
      // Without asking for the result: what is in flight still ends first.
      batch_.reset();
      dio_.reset();
      return batched_ || EndedOnce();
    }
    return batched_ ? EndBatch() : EndDio();
  }

  // Set when all is over; its submitter may be looking at it.
  std::shared_ptr<std::atomic<bool>> over =
      std::make_shared<std::atomic<bool>>(false);

 private:
  Result EndIo(const DioEnd& end) override {
    if (std::this_thread::get_id() == ender_ && completions_ == 0) ++ends_;
    return Result::Bytes(end.bytes);
  }
  void Complete(Dio* /*dio*/, const Result& /*result*/) override {
    if (std::this_thread::get_id() == ender_ && ends_ == 1) ++completions_;
  }

  void StartBatch(std::mt19937_64* rng) {
    memory_ = BufferPool::Get(16 * kBlock);
    char* next = memory_.data();
    ranges_.resize(1 + (*rng)() % 8);
    for (ReadRange& range : ranges_) {
      const bool aligned = (*rng)() % 2 == 0;
      range.length = aligned ? kBlock : 1 + (*rng)() % (2 * kBlock);
      range.offset = (*rng)() % (kFileBytes - 2 * kBlock);
      if (aligned) range.offset -= range.offset % kBlock;
      range.memory = next;
      next += 2 * kBlock;
    }
    ReadBatch::File file;
    file.device = device_;
    file.mapper = &mapper_;
    file.file_size = kFileBytes;
    batch_ = std::make_unique<ReadBatch>();
    batch_->Submit(file, ranges_.data(), ranges_.size(), /*async=*/true);
  }

  void StartDio(std::mt19937_64* rng) {
    const uint64_t blocks = 1 + (*rng)() % 8;
    memory_ = BufferPool::Get(blocks * kBlock);
    segment_ = {memory_.data(), blocks * kBlock};
    request_.offset = (*rng)() % (kBlocks - blocks) * kBlock;
    request_.segments = &segment_;
    request_.segment_count = 1;
    request_.file_size = kFileBytes;
    request_.mapper = &mapper_;
    request_.async = true;
    request_.observer = this;
    Plug plug(device_);
    queued_ = dio_->Submit(request_, &plug) == Dio::Submission::kQueued;
  }

  bool EndedOnce() const {
    return ends_ == 1 && completions_ == (queued_ ? 1 : 0);
  }

  bool EndDio() {
    const bool whole = dio_->Wait().bytes() == segment_.iov_len &&
                       dio_->Wait().bytes() == segment_.iov_len;
    return whole && EndedOnce() &&
           HoldsPoison(memory_.data(), request_.offset, segment_.iov_len,
                       device_->geometry().logical_block_bytes);
  }

  bool EndBatch() {
    batch_->Wait();
    for (const ReadRange& range : ranges_) {
      if (range.result.bytes() != range.length ||
          !HoldsPoison(range.memory, range.offset, range.length,
                       device_->geometry().logical_block_bytes)) {
        return false;
      }
    }
    return true;
  }

  TracingDevice* const device_;
  const bool batched_;
  const SpreadMapper mapper_;
  AlignedBuffer memory_;
  std::vector<ReadRange> ranges_;
  iovec segment_ = {};
  DioRequest request_;
  bool queued_ = false;
  std::thread::id ender_;
  int ends_ = 0;
  int completions_ = 0;
  // Last, so that they end before what they use goes.
  std::unique_ptr<ReadBatch> batch_;
  std::optional<Dio> dio_;
};

// Where handles change hands. Thread-safe.
class HandleQueue {
 public:
  void Put(std::unique_ptr<Handle> handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    handles_.push_back(std::move(handle));
  }
  // Any of them; null where there is none.
  std::unique_ptr<Handle> Take(std::mt19937_64* rng) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (handles_.empty()) return nullptr;
    std::swap(handles_[(*rng)() % handles_.size()], handles_.back());
    std::unique_ptr<Handle> handle = std::move(handles_.back());
    handles_.pop_back();
    return handle;
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Handle>> handles_;  // guarded by mutex_
};

class AsyncStress : public testing::TestWithParam<EngineParam> {
 protected:
  // More threads than rings, so that rings are shared.
  static constexpr int kTraders = 18;
  static constexpr int kSpinners = 2;
  static_assert(kTraders + kSpinners > RingPool::kMaxRings);

  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  void EndOne(std::unique_ptr<Handle> handle, std::mt19937_64* rng) {
    if (!handle->End((*rng)() % 3)) ++failures_;
    const auto over = handle->over;
    handle.reset();
    *over = true;
    ++ended_;
  }

  // Starts reads and ends anybody's.
  void Trade(uint64_t rounds, std::mt19937_64 rng) {
    for (uint64_t i = 0; i < rounds; ++i) {
      queue_.Put(std::make_unique<Handle>(device_.get(), &rng));
      ++started_;
      if (rng() % 8 == 0) device_->Poll();
      if (auto handle = queue_.Take(&rng)) EndOne(std::move(handle), &rng);
    }
    // The spinners need somebody who waits for what they start.
    while (spinning_ > 0 || started_ != ended_) {
      auto handle = queue_.Take(&rng);
      if (handle == nullptr) {
        std::this_thread::yield();
      } else {
        EndOne(std::move(handle), &rng);
      }
    }
  }

  // Starts reads and enters the kernel no more until somebody has ended them.
  void Spin(uint64_t rounds, std::mt19937_64 rng) {
    for (uint64_t i = 0; i < rounds; ++i) {
      auto handle = std::make_unique<Handle>(device_.get(), &rng);
      const auto over = handle->over;
      ++started_;
      queue_.Put(std::move(handle));
      while (!*over) {
      }
    }
    --spinning_;
  }

  void Run(uint64_t rounds) {
    std::vector<std::thread> threads;
    threads.reserve(kTraders + kSpinners);
    for (int t = 0; t < kTraders + kSpinners; ++t) {
      const std::mt19937_64 rng(TestSeed() + static_cast<uint64_t>(t));
      threads.emplace_back([this, t, rounds, rng] {
        if (t < kTraders) {
          Trade(rounds, rng);
        } else {
          Spin(std::max<uint64_t>(rounds / 8, 1), rng);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(0, failures_);
    EXPECT_EQ(started_, ended_);
  }

  EngineDevice device_{GetParam(), kFileBytes};
  HandleQueue queue_;
  std::atomic<uint64_t> started_{0};
  std::atomic<uint64_t> ended_{0};
  std::atomic<int> spinning_{kSpinners};
  std::atomic<int> failures_{0};
};

TEST_P(AsyncStress, HandlesChangeHandsAndEndOnce) { Run(ScaledRounds(60)); }

// A timer's signals, which restart nothing, reach whichever thread is there:
// also one that waits in the kernel.
TEST_P(AsyncStress, SignalsDisturbNoHandle) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {};  // without SA_RESTART
  ASSERT_EQ(0, sigaction(SIGALRM, &action, &before));
  const itimerval every = {{0, 1000}, {0, 1000}};
  ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, nullptr));
  Run(ScaledRounds(60));
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
}

INSTANTIATE_TEST_SUITE_P(All, AsyncStress, testing::ValuesIn(AllEngines()),
                         EngineTestName);

}  // namespace
}  // namespace diofs
