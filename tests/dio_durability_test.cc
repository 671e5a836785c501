// When a write is durable: flushes and writes that go through.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 64 * kBlock;
constexpr uint64_t kBlocks = 4;

// With FUA, and without.
struct DurabilityParam {
  EngineParam engine;
  bool fua;
};

std::vector<DurabilityParam> AllParams() {
  std::vector<DurabilityParam> params;
  for (const EngineParam& engine : AllEngines()) {
    params.push_back({engine, false});
    params.push_back({engine, true});
  }
  return params;
}

std::ostream& operator<<(std::ostream& out, const DurabilityParam& param) {
  return out << param.engine << (param.fua ? " FUA" : "");
}

class Durable : public testing::TestWithParam<DurabilityParam> {
 protected:
  Durable()
      : device_(GetParam().engine, kDeviceBytes, SetFua),
        mapped_(ScatteredBlocks(kBlocks)),
        memory_(PatternBuffer(kBlocks * kBlock, 1)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
    if (GetParam().engine.kind != EngineKind::kSimDelayed) return;
    // Of a write cut short the rest does not go through: a test of its own.
    SimBehavior behavior;
    behavior.delayed = behavior.reordered = true;
    device_.sim()->Behave(behavior);
  }

  static void SetFua(Geometry* geometry) { geometry->fua = GetParam().fua; }
  // Whether this backend writes through at all; with plain system calls that
  // costs more than a flush.
  bool CanFua() const {
    return GetParam().fua && GetParam().engine.kind != EngineKind::kSync &&
           GetParam().engine.kind != EngineKind::kThreads;
  }
  IoRequest Request(const BlockMapper& mapper, Durability durability,
                    bool async) {
    IoRequest io(IoDirection::kWrite, mapper, 0, memory_.data(),
                 kBlocks * kBlock, kBlocks * kBlock);
    io->durability = durability;
    io->async = async;
    return io;
  }
  // True where a power cut would keep block `i` of the file as it is in
  // memory_. A simulated device alone knows.
  bool IsSafe(uint64_t i) {
    return device_.sim()->DurableImage().compare(2 * i * kBlock, kBlock,
                                                 memory_.data() + i * kBlock,
                                                 kBlock) == 0;
  }
  uint64_t Flushes() { return device_->inner()->stats().flushes; }
  uint64_t FuaWrites() { return device_->inner()->stats().fua_writes; }

  EngineDevice device_;
  TestMapper mapped_;
  AlignedBuffer memory_;
};

std::string DurabilityName(
    const testing::TestParamInfo<DurabilityParam>& param) {
  return EngineName(param.param.engine) + (param.param.fua ? "_fua" : "");
}

INSTANTIATE_TEST_SUITE_P(All, Durable, testing::ValuesIn(AllParams()),
                         DurabilityName);

TEST_P(Durable, D12AnAsynchronousWriteEndsAfterItsFlush) {
  for (const bool async : {true, false}) {
    for (const Durability durability : {Durability::kFlush, Durability::kFua}) {
      memory_ = PatternBuffer(kBlocks * kBlock,
                              (async ? 2 : 0) + static_cast<int>(durability));
      const bool through = durability == Durability::kFua && CanFua();
      const uint64_t flushes = Flushes();
      const uint64_t fua_writes = FuaWrites();
      IoRequest io = Request(mapped_, durability, async);
      Dio dio(device_.get());
      {
        Plug plug(device_.get());
        (void)dio.Submit(io.get(), &plug);
      }
      if (device_.sim() != nullptr && !through) {
        for (uint64_t i = 0; i < kBlocks; ++i) EXPECT_FALSE(IsSafe(i));
      }
      // Nobody but who waits flushes.
      EXPECT_EQ(flushes, Flushes());
      ASSERT_EQ(kBlocks * kBlock, dio.Wait().bytes());
      EXPECT_EQ(flushes + (through ? 0 : 1), Flushes());
      EXPECT_EQ(fua_writes + (through ? kBlocks : 0), FuaWrites());
      if (device_.sim() != nullptr) {
        for (uint64_t i = 0; i < kBlocks; ++i) EXPECT_TRUE(IsSafe(i)) << i;
      }
    }
  }
}

TEST_P(Durable, WithoutAWishNothingIsFlushed) {
  for (const bool async : {false, true}) {
    IoRequest io = Request(mapped_, Durability::kNone, async);
    ASSERT_TRUE(RunIo(device_.get(), &io).ok());
  }
  // Nor for a read.
  IoRequest read(IoDirection::kRead, mapped_, 0, memory_.data(),
                 kBlocks * kBlock, kBlocks * kBlock);
  read->durability = Durability::kFlush;
  ASSERT_TRUE(RunIo(device_.get(), &read).ok());
  EXPECT_EQ(0u, Flushes());
  EXPECT_EQ(0u, FuaWrites());
  if (device_.sim() != nullptr) {
    EXPECT_FALSE(IsSafe(0));
  }
}

// Its own bytes are safe, and nothing that was written before.
TEST_P(Durable, WritingThroughCoversItsOwnBytesOnly) {
  IoRequest before = Request(mapped_, Durability::kNone, false);
  before.segments[0].iov_len = kBlock;
  ASSERT_TRUE(RunIo(device_.get(), &before).ok());
  IoRequest through(IoDirection::kWrite, mapped_, kBlock,
                    memory_.data() + kBlock, kBlock, kBlocks * kBlock);
  through->durability = Durability::kFua;
  ASSERT_TRUE(RunIo(device_.get(), &through).ok());
  EXPECT_EQ(CanFua() ? 0u : 1u, Flushes());
  if (device_.sim() == nullptr) return;
  EXPECT_TRUE(IsSafe(1));
  // A flush, where there is no other way, covers both.
  EXPECT_EQ(!CanFua(), IsSafe(0));
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_TRUE(IsSafe(0));
}

// A write through that comes back short is finished in another way, and is
// durable nonetheless when it has been waited for.
TEST_P(Durable, AShortWriteThroughIsFlushed) {
  for (const int error : {0, EAGAIN, EINTR, ECANCELED}) {
    memory_ = PatternBuffer(kBlocks * kBlock, 40 + error);
    const uint64_t flushes = Flushes();
    const uint64_t fua_writes = FuaWrites();
    IoRequest io = Request(mapped_, Durability::kFua, true);
    if (error == 0) {
      device_->ShortenNth(2, 512);
    } else {
      device_->FailNth(2, error);
    }
    ASSERT_TRUE(RunIo(device_.get(), &io).ok());
    EXPECT_EQ(flushes + 1, Flushes());
    // The others went through as they were.
    EXPECT_EQ(fua_writes + (CanFua() ? kBlocks - 1 : 0), FuaWrites());
    if (device_.sim() == nullptr) continue;
    for (uint64_t i = 0; i < kBlocks; ++i) EXPECT_TRUE(IsSafe(i)) << i;
  }
}

// What went through leaves nothing for the next flush; what did not, does.
TEST_P(Durable, AWriteThroughDoesNotMakeTheNextFlushCostOne) {
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_EQ(0u, Flushes()) << "of nothing";
  IoRequest through = Request(mapped_, Durability::kFua, true);
  ASSERT_TRUE(RunIo(device_.get(), &through).ok());
  const uint64_t flushes = Flushes();
  EXPECT_EQ(CanFua() ? 0u : 1u, flushes);
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_EQ(flushes, Flushes());
  IoRequest ordinary = Request(mapped_, Durability::kNone, true);
  ASSERT_TRUE(RunIo(device_.get(), &ordinary).ok());
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_EQ(flushes + 1, Flushes());
  // A write through that failed may have left something behind.
  device_->FailNth(1, EREMOTEIO);
  IoRequest failing = Request(mapped_, Durability::kFua, true);
  EXPECT_EQ(EREMOTEIO, RunIo(device_.get(), &failing).error());
  ASSERT_TRUE(device_->Flush().ok());
  EXPECT_EQ(flushes + 2, device_->stats().flushes);
}

// Metadata has to follow a write that meets an unwritten block, wherever it
// lies: then all of it is flushed.
TEST_P(Durable, OneUnwrittenBlockMakesAWriteThroughAFlush) {
  for (const BlockState state : {BlockState::kUnwritten, BlockState::kNew}) {
    for (uint64_t other = 0; other < kBlocks; ++other) {
      memory_ =
          PatternBuffer(kBlocks * kBlock, 10 * other + static_cast<int>(state));
      TestMapper mapper(ScatteredBlocks(kBlocks));
      mapper.blocks[other].state = state;
      const uint64_t flushes = Flushes();
      IoRequest io = Request(mapper, Durability::kFua, other % 2 == 0);
      device_->ClearTrace();
      ASSERT_EQ(kBlocks * kBlock, RunIo(device_.get(), &io).bytes());
      EXPECT_EQ(flushes + 1, Flushes()) << other;
      // From there on nothing is written through in vain.
      for (const TracedBio& bio : device_->trace()) {
        EXPECT_EQ(CanFua() && bio.file_offset < other * kBlock, bio.fua);
      }
      if (device_.sim() == nullptr) continue;
      for (uint64_t i = 0; i < kBlocks; ++i) EXPECT_TRUE(IsSafe(i)) << i;
    }
  }
}

TEST_P(Durable, AFailedFlushIsTheErrorOfTheRequest) {
  for (const bool async : {true, false}) {
    EngineDevice device(GetParam().engine, kDeviceBytes, SetFua);
    EndRecorder recorder;
    IoRequest io = Request(mapped_, Durability::kFlush, async);
    io->observer = &recorder;
    device->FailFlush(1, ENOSPC);
    EXPECT_EQ(ENOSPC, RunIo(device.get(), &io).error());
    ASSERT_EQ(1u, recorder.ends.size());
    EXPECT_EQ(ENOSPC, recorder.ends[0].error);
    EXPECT_EQ(0u, recorder.ends[0].bytes);
    ASSERT_EQ(1u, recorder.completions.size());
    EXPECT_EQ(ENOSPC, recorder.completions[0].error());
  }
}

TEST_P(Durable, AFailedWriteIsNotFlushed) {
  IoRequest io = Request(mapped_, Durability::kFlush, true);
  device_->FailNth(2, ENODATA);
  EXPECT_EQ(ENODATA, RunIo(device_.get(), &io).error());
  EXPECT_EQ(0u, Flushes());
}

}  // namespace
}  // namespace diofs
