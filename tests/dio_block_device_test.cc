#include <gtest/gtest.h>
#include <sched.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"
#include "tests/tracing_device.h"

namespace diofs {
namespace {

constexpr uint64_t kBytes = 4 << 20;

class BlockDeviceTest : public testing::TestWithParam<EngineParam> {
 protected:
  BlockDeviceTest()
      : sector_(GetParam().logical_block_bytes),
        device_(GetParam(), kBytes),
        memory_(BufferPool::Get(2 << 20)) {
    std::memset(memory_.data(), 'm', memory_.size());
  }
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }
  // What the backend was asked for.
  IoStats& stats() { return device_->inner()->stats(); }

  const uint64_t sector_;
  EngineDevice device_;
  AlignedBuffer memory_;
};

INSTANTIATE_TEST_SUITE_P(All, BlockDeviceTest, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(BlockDeviceTest, LongTransfersAreCutIntoBios) {
  // 512 KiB a bio; the first ends where a physical block does.
  const uint64_t offset = sector_;
  const uint64_t bytes = 1 << 20;
  ASSERT_EQ(bytes, device_->Write(offset, memory_.data(), bytes, 1).bytes());
  std::vector<uint64_t> cut;
  for (const TracedBio& bio : device_->trace()) cut.push_back(bio.bytes);
  constexpr uint64_t kMost = 512 << 10;
  EXPECT_EQ(sector_ == 512 ? std::vector<uint64_t>({kMost - 512, kMost, 512})
                           : std::vector<uint64_t>({kMost, kMost}),
            cut);
  std::memset(memory_.data(), 0, bytes);
  ASSERT_EQ(bytes, device_->Read(offset, memory_.data(), bytes, 1).bytes());
  EXPECT_EQ(std::string(bytes, 'm'), std::string(memory_.data(), bytes));
}

TEST_P(BlockDeviceTest, NothingMisalignedOrOutsideReachesTheBackend) {
  struct {
    uint64_t offset;
    size_t memory;
    size_t bytes;
  } const bad[] = {
      {100, 0, sector_},
      {sector_ / 2, 0, sector_},
      {0, 0, 100},
      {0, 0, sector_ / 2},
      {0, 100, sector_},
      {kBytes, 0, sector_},
      {kBytes - sector_, 0, 2 * sector_},
      {UINT64_MAX - sector_ + 1, 0, sector_},
      {UINT64_MAX - sector_ + 1, 0, 2 * sector_},
      {kBytes + 4096, 0, sector_},
  };
  for (const auto& transfer : bad) {
    char* const memory = memory_.data() + transfer.memory;
    EXPECT_EQ(
        EINVAL,
        device_->Read(transfer.offset, memory, transfer.bytes, 0).error());
    EXPECT_EQ(
        EINVAL,
        device_->Write(transfer.offset, memory, transfer.bytes, 0).error());
  }
  EXPECT_TRUE(device_->trace().empty());
  EXPECT_EQ(0u, device_->stats().by_class[0].reads);
  EXPECT_EQ(0u, device_->stats().by_class[0].writes);
}

// Also where a bio comes from elsewhere, here from a Dio of a larger device
// with smaller sectors. Its neighbours in the batch go on.
TEST_P(BlockDeviceTest, ForeignBiosAreCheckedOneByOne) {
  EngineDevice larger({GetParam().kind, 512}, kBytes);
  EngineDevice smaller({GetParam().kind, 4096}, kBytes / 2);
  const struct {
    uint64_t offset;
    size_t bytes;
    bool good;
  } cases[] = {{0, 4096, true},           {kBytes / 2 - 4096, 4096, true},
               {kBytes / 2, 4096, false}, {kBytes - 4096, 4096, false},
               {4096, 512, false},        {512, 4096, false}};
  TestMapper mapper;
  for (const auto& one : cases) {
    const auto run = TestMapper::Run(BlockState::kMapped, one.offset / 512, 8);
    mapper.blocks.insert(mapper.blocks.end(), run.begin(), run.end());
  }
  std::vector<std::unique_ptr<Dio>> dios;
  {
    Plug plug(smaller.get());
    for (size_t i = 0; i < std::size(cases); ++i) {
      IoRequest io(IoDirection::kWrite, mapper, i * 4096, memory_.data(),
                   cases[i].bytes, 1 << 20);
      io->block_bytes = 512;
      dios.push_back(std::make_unique<Dio>(larger.get()));
      (void)dios.back()->Submit(io.get(), &plug);
    }
  }
  for (size_t i = 0; i < std::size(cases); ++i) {
    // The device it belongs to knows nothing of the one that carries it.
    while (!dios[i]->done()) {
      smaller->Poll();
      sched_yield();
    }
    EXPECT_EQ(cases[i].good ? 0 : EINVAL, dios[i]->Wait().error()) << i;
  }
  EXPECT_EQ(2u, smaller->trace().size());
  EXPECT_EQ(2u, smaller->inner()->stats().by_class[0].writes);
}

TEST_P(BlockDeviceTest, ZeroBytesAreNothing) {
  EXPECT_TRUE(device_->Read(0, nullptr, 0, 0).ok());
  EXPECT_TRUE(device_->Write(kBytes, nullptr, 0, 0).ok());
  EXPECT_TRUE(device_->trace().empty());
}

TEST_P(BlockDeviceTest, CountsByClassWhatReachedTheDevice) {
  ASSERT_TRUE(device_->Write(0, memory_.data(), 4096, 3).ok());
  ASSERT_TRUE(device_->Write(0, memory_.data(), 1 << 20, 3).ok());
  ASSERT_TRUE(device_->Read(0, memory_.data(), sector_, 4).ok());
  // A class there is none of falls into the last.
  ASSERT_TRUE(device_->Read(0, memory_.data(), sector_, 200).ok());
  for (const IoStats* counted : {&device_->stats(), &stats()}) {
    EXPECT_EQ(3u, counted->by_class[3].writes);
    EXPECT_EQ(4096u + (1 << 20), counted->by_class[3].write_bytes);
    EXPECT_EQ(0u, counted->by_class[3].reads);
    EXPECT_EQ(1u, counted->by_class[4].reads);
    EXPECT_EQ(sector_, counted->by_class[4].read_bytes);
    EXPECT_EQ(1u, counted->by_class[kIoClasses - 1].reads);
  }
  // The device's own log agrees.
  uint64_t logged = 0;
  for (const TracedBio& bio : device_->trace()) logged += bio.bytes;
  EXPECT_EQ(logged, stats().by_class[3].write_bytes + 2 * sector_);
}

TEST_P(BlockDeviceTest, FlushesOnlyWhatWasWritten) {
  EXPECT_TRUE(device_->Flush().ok());
  EXPECT_EQ(0u, stats().flushes);
  ASSERT_TRUE(device_->Write(0, memory_.data(), sector_, 0).ok());
  EXPECT_TRUE(device_->Flush().ok());
  EXPECT_TRUE(device_->Flush().ok());
  EXPECT_EQ(1u, stats().flushes);
  EXPECT_EQ(1u, device_->stats().flushes);
  ASSERT_TRUE(device_->Read(0, memory_.data(), sector_, 0).ok());
  EXPECT_TRUE(device_->Flush().ok());
  EXPECT_EQ(1u, stats().flushes);
  // The backend keeps count for itself, too.
  EXPECT_TRUE(device_->inner()->Flush().ok());
  EXPECT_EQ(1u, stats().flushes);
}

// A bio made for a device that takes more: longer than all of the other one,
// or from memory that is not aligned enough for it.
TEST_P(BlockDeviceTest, ABioThatOnlyAnotherDeviceTakes) {
  EngineDevice tiny(GetParam(), 8192);
  EngineDevice coarse(GetParam(), kBytes, [](Geometry* geometry) {
    geometry->memory_align_bytes = 4096;
  });
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 4));
  const struct {
    BlockDevice* device;
    size_t distance;
    size_t bytes;
  } cases[] = {{tiny.get(), 0, 16384}, {coarse.get(), 512, 4096}};
  for (const auto& one : cases) {
    IoRequest io(IoDirection::kWrite, mapper, 0, memory_.data() + one.distance,
                 one.bytes, 16384);
    Dio dio(device_.get());
    Plug plug(one.device);
    (void)dio.Submit(io.get(), &plug);
    plug.Finish();
    EXPECT_EQ(EINVAL, dio.Wait().error());
    EXPECT_EQ(0u, one.device->stats().by_class[0].writes);
  }
  // It is only too much for them.
  IoRequest io(IoDirection::kWrite, mapper, 0, memory_.data() + 512, 4096,
               16384);
  EXPECT_EQ(4096u, RunIo(device_.get(), &io).bytes());
}

// Whose every write is durable when it ends.
TEST_P(BlockDeviceTest, WithoutAWriteCacheThereIsNothingToFlush) {
  EngineDevice without(GetParam(), kBytes, [](Geometry* geometry) {
    geometry->write_cache = false;
  });
  ASSERT_TRUE(without->Write(0, memory_.data(), sector_, 0).ok());
  EXPECT_TRUE(without->Flush().ok());
  EXPECT_TRUE(without->inner()->Flush().ok());
  EXPECT_EQ(0u, without->inner()->stats().flushes);
}

TEST_P(BlockDeviceTest, AFailedFlushStaysFailed) {
  ASSERT_TRUE(device_->Write(0, memory_.data(), sector_, 0).ok());
  device_->FailFlush(1, ENOSPC);
  const Result result = device_->Flush();
  EXPECT_EQ(ENOSPC, result.error());
  EXPECT_EQ("traced: flush", result.context());
  EXPECT_EQ(ENOSPC, device_->Flush().error());
  // Nor does a write that follows make it worth another try.
  ASSERT_TRUE(device_->Write(0, memory_.data(), sector_, 0).ok());
  EXPECT_EQ(ENOSPC, device_->Flush().error());
  EXPECT_EQ(1u, device_->stats().flushes);
  EXPECT_EQ(0u, stats().flushes);
}

TEST_P(BlockDeviceTest, ErrorsNameDeviceAndPlace) {
  const std::string bytes = std::to_string(sector_);
  device_->FailNth(1, ETIMEDOUT);
  EXPECT_EQ("traced: read of " + bytes + " bytes at 4096: Connection timed out",
            device_->Read(4096, memory_.data(), sector_, 0).ToString());
  // Of a bad block, where it is.
  device_->SetUnreadable(4096 + sector_, sector_);
  EXPECT_EQ("traced: unreadable block at " + std::to_string(4096 + sector_) +
                ": read of " + std::to_string(2 * sector_) +
                " bytes at 4096: No data available",
            device_->Read(4096, memory_.data(), 2 * sector_, 0).ToString());
}

TEST_P(BlockDeviceTest, DiscardIsCheckedToo) {
  const Result result = device_->Discard(0, 4096);
  // A file system without holes says so itself; it was asked.
  EXPECT_TRUE(result.ok() || result.error() == EOPNOTSUPP) << result.ToString();
  EXPECT_TRUE(device_->Discard(4096, 0).ok());
  EXPECT_EQ(EINVAL, device_->Discard(100, sector_).error());
  EXPECT_EQ(EINVAL, device_->Discard(sector_, 100).error());
  EXPECT_EQ(EINVAL, device_->Discard(kBytes, sector_).error());
  EXPECT_EQ(EINVAL,
            device_->Discard(sector_, UINT64_MAX - sector_ + 1).error());
  EXPECT_EQ(1u, stats().discards);
  EXPECT_EQ(4096u, stats().discard_bytes);

  EngineDevice without(GetParam(), kBytes,
                       [](Geometry* geometry) { geometry->discard = false; });
  EXPECT_EQ(EOPNOTSUPP, without->Discard(0, 4096).error());
  EXPECT_EQ(0u, without->inner()->stats().discards);
}

// Runs `on_move` before it moves anything, and counts what it flushes.
class HookedDevice final : public BlockDevice {
 public:
  HookedDevice() : BlockDevice("hooked", SimDevice::MakeGeometry(1 << 20)) {}
  ~HookedDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* /*dio*/, uint32_t /*wait_nr*/) override {}
  const char* backend_name() const override { return "hooked"; }

  std::function<void()> on_move;
  int flushes_done = 0;

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i) Complete(bios[i], MoveNow(bios[i]));
  }
  int64_t DoMove(Bio* bio) override {
    if (on_move) on_move();
    return bio->limit_bytes - bio->done_bytes;
  }
  Result DoFlush() override {
    ++flushes_done;
    return Result::Ok();
  }
  Result DoDiscard(uint64_t /*offset*/, uint64_t /*bytes*/) override {
    return Result::Ok();
  }
};

// A device in front finishes a short write through the one behind, which does
// not hear of its completion again.
TEST(StackedDevice, AFlushWhileTheRestIsMovedDoesNotCoverIt) {
  auto hooked = std::make_unique<HookedDevice>();
  HookedDevice* const inner = hooked.get();
  TracingDevice front(std::move(hooked));
  const AlignedBuffer memory = FilledBuffer(8192, 'w');
  ASSERT_TRUE(front.Write(0, memory.data(), 8192, 0).ok());
  ASSERT_TRUE(front.Flush().ok());

  front.ShortenNth(1, 4096);
  int moves = 0;
  inner->on_move = [&] {
    if (++moves == 2) {
      ASSERT_TRUE(inner->Flush().ok());
    }
  };
  ASSERT_TRUE(front.Write(0, memory.data(), 8192, 0).ok());
  ASSERT_EQ(2, moves);
  const int before = inner->flushes_done;
  ASSERT_TRUE(front.Flush().ok());
  EXPECT_EQ(before + 1, inner->flushes_done);
}

TEST(FlushTest, WhatIsForgoneIsStillOwed) {
  SimDevice device(SimDevice::MakeGeometry(1 << 20));
  const AlignedBuffer memory = FilledBuffer(4096, 'x');
  ASSERT_TRUE(device.Write(0, memory.data(), 4096, 0).ok());
  device.ForgoFlushes(true);
  EXPECT_TRUE(device.Flush().ok());
  EXPECT_EQ(0u, device.flushes());
  device.ForgoFlushes(false);
  EXPECT_TRUE(device.Flush().ok());
  EXPECT_EQ(1u, device.flushes());
  EXPECT_FALSE(device.HasUnflushedWrites());
}

}  // namespace
}  // namespace diofs
