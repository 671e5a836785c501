// Two writes of one 4096-byte block are never in flight together.

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dio/inflight_writes.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = InflightWrites::kBlockBytes;
constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kDeviceBytes = 64 * kBlock;

// A device that moves nothing, holds its bios until somebody waits or polls,
// completes them in any order, and complains of two writes of one block.
class OverlapDevice final : public BlockDevice {
 public:
  OverlapDevice()
      : BlockDevice("overlap", SimDevice::MakeGeometry(kDeviceBytes)),
        rng_(TestSeed()) {}
  ~OverlapDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    while (!dio->done()) {
      if (!CompleteAny()) sched_yield();
    }
  }
  void Poll() override { (void)CompleteAny(); }
  int64_t DoMove(Bio* bio) override {
    return bio->limit_bytes - bio->done_bytes;
  }
  const char* backend_name() const override { return "overlap"; }

  int overlaps() const { return overlaps_; }
  size_t most_in_flight() const { return most_in_flight_; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < count; ++i) {
      for (const Bio* other : bios_) {
        if (bios[i]->direction() == IoDirection::kWrite &&
            other->direction() == IoDirection::kWrite &&
            bios[i]->device_offset() / kBlock <=
                (other->device_end() - 1) / kBlock &&
            other->device_offset() / kBlock <=
                (bios[i]->device_end() - 1) / kBlock) {
          ++overlaps_;
        }
      }
      bios_.push_back(bios[i]);
    }
    most_in_flight_ = std::max(most_in_flight_.load(), bios_.size());
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  bool CompleteAny() {
    Bio* bio = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (bios_.empty()) return false;
      const auto chosen =
          bios_.begin() + static_cast<std::ptrdiff_t>(rng_() % bios_.size());
      bio = *chosen;
      bios_.erase(chosen);
    }
    Complete(bio, bio->bytes());
    return true;
  }

  std::mutex mutex_;  // guards rng_ and bios_
  std::mt19937_64 rng_;
  std::deque<Bio*> bios_;
  std::atomic<int> overlaps_{0};
  std::atomic<size_t> most_in_flight_{0};
};

TEST(InflightWritesDevice, WritesOfOneBlockInABatchFollowOneAnother) {
  OverlapDevice device;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 8));
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 1);
  // Eight sectors of a block, each a request of its own, and a neighbour.
  std::deque<Dio> dios;
  {
    Plug plug(&device);
    for (uint64_t i = 0; i < 9; ++i) {
      IoRequest io(IoDirection::kWrite, mapper, i * kSectorBytes,
                   memory.data() + i * kSectorBytes, kSectorBytes, 8 * kBlock);
      dios.emplace_back(&device);
      (void)dios.back().Submit(io.get(), &plug);
    }
  }
  for (Dio& dio : dios) EXPECT_EQ(kSectorBytes, dio.Wait().bytes());
  EXPECT_EQ(0, device.overlaps());
  EXPECT_EQ(7u, device.stats().write_conflicts);
  EXPECT_EQ(0u, device.writes_in_flight());
}

TEST(InflightWritesDevice, WritesOfOtherBlocksAndReadsDoNotWait) {
  OverlapDevice device;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 8));
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 2);
  std::deque<Dio> dios;
  {
    Plug plug(&device);
    for (uint64_t i = 0; i < 16; ++i) {
      IoRequest io(i % 2 == 0 ? IoDirection::kWrite : IoDirection::kRead,
                   mapper, i / 2 * kBlock, memory.data() + i / 2 * kBlock,
                   kBlock, 8 * kBlock);
      dios.emplace_back(&device);
      (void)dios.back().Submit(io.get(), &plug);
    }
  }
  EXPECT_EQ(8u, device.writes_in_flight());
  for (Dio& dio : dios) EXPECT_EQ(kBlock, dio.Wait().bytes());
  EXPECT_EQ(0u, device.stats().write_conflicts);
  EXPECT_EQ(16u, device.most_in_flight());
}

TEST(InflightWritesDevice, ThreadsOfOneBlockTakeTurns) {
  OverlapDevice device;
  const uint64_t rounds = ScaledRounds(2000);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(TestSeed() + t);
      const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 3));
      AlignedBuffer memory = PatternBuffer(3 * kBlock, t);
      for (uint64_t round = 0; round < rounds; ++round) {
        const uint64_t first = rng() % 24;
        const uint64_t count = 1 + rng() % (24 - first);
        IoRequest io(IoDirection::kWrite, mapper, first * kSectorBytes,
                     memory.data() + first * kSectorBytes, count * kSectorBytes,
                     3 * kBlock);
        io->async = rng() % 2 == 0;
        ASSERT_EQ(count * kSectorBytes, RunIo(&device, &io).bytes());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0, device.overlaps());
  EXPECT_EQ(0u, device.writes_in_flight());
}

// ---- On every backend -------------------------------------------------------

class InflightWritesTest : public testing::TestWithParam<EngineParam> {
 protected:
  InflightWritesTest() : device_(GetParam(), kDeviceBytes) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  EngineDevice device_;
};

INSTANTIATE_TEST_SUITE_P(All, InflightWritesTest,
                         testing::ValuesIn(AllEngines()), EngineTestName);

// Carried out one after another, in the order of the batch: the last one is
// what the block holds.
TEST_P(InflightWritesTest, TheLastOfABatchIsWhatTheBlockHolds) {
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 2));
  for (uint64_t round = 0; round < 20; ++round) {
    std::vector<AlignedBuffer> memory;
    std::deque<Dio> dios;
    const uint64_t conflicts = device_->stats().write_conflicts;
    {
      Plug plug(device_.get());
      for (uint64_t i = 0; i < 6; ++i) {
        memory.push_back(PatternBuffer(2 * kBlock, 7 * round + i));
        IoRequest io(IoDirection::kWrite, mapper, 0, memory.back().data(),
                     2 * kBlock, 2 * kBlock);
        io->async = true;
        dios.emplace_back(device_.get());
        (void)dios.back().Submit(io.get(), &plug);
      }
    }
    for (Dio& dio : dios) ASSERT_EQ(2 * kBlock, dio.Wait().bytes());
    ASSERT_EQ(0, device_.Image().compare(4 * kBlock, 2 * kBlock,
                                         memory.back().data(), 2 * kBlock));
    EXPECT_EQ(0u, device_->writes_in_flight());
    // A backend that is done inside Submit has none, another has some.
    EXPECT_LE(device_->stats().write_conflicts - conflicts, 5u);
    if (GetParam().kind == EngineKind::kSimDelayed) {
      EXPECT_EQ(5u, device_->stats().write_conflicts - conflicts);
    }
  }
}

// Two threads fill one block, each its own half of the sectors; a read of both
// may run beside them.
TEST_P(InflightWritesTest, TwoThreadsFillOneBlock) {
  const uint64_t sector = GetParam().logical_block_bytes;
  constexpr uint64_t kSectors = 16;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 16));
  const uint64_t rounds = device_.sim() != nullptr ? 100 : 20;
  for (uint64_t round = 0; round < rounds; ++round) {
    AlignedBuffer memory = PatternBuffer(kSectors * sector, round);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        std::deque<Dio> dios;
        {
          Plug plug(device_.get());
          for (uint64_t i = t; i < kSectors; i += 2) {
            IoRequest io(IoDirection::kWrite, mapper, i * sector,
                         memory.data() + i * sector, sector, 16 * kBlock);
            io->async = true;
            dios.emplace_back(device_.get());
            (void)dios.back().Submit(io.get(), &plug);
          }
        }
        for (Dio& dio : dios) ASSERT_EQ(sector, dio.Wait().bytes());
      });
    }
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(0, device_.Image().compare(4 * kBlock, kSectors * sector,
                                         memory.data(), kSectors * sector));
  }
}

}  // namespace
}  // namespace diofs
