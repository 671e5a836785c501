#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dio/buffer_pool.h"
#include "tests/engine_io.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBytes = 64 << 10;

class SimDeviceTest : public testing::Test {
 protected:
  SimDeviceTest()
      : device_(SimDevice::MakeGeometry(kBytes)),
        memory_(BufferPool::Get(kBytes)) {}

  Result Write(uint64_t offset, uint64_t bytes, char fill) {
    std::memset(memory_.data(), fill, bytes);
    return device_.Write(offset, memory_.data(), bytes, 2);
  }

  SimDevice device_;
  AlignedBuffer memory_;
};

TEST_F(SimDeviceTest, StartsAsPoison) {
  ASSERT_TRUE(device_.Read(512, memory_.data(), 1024, 0).ok());
  EXPECT_EQ(std::string(512, '\xA4') + std::string(512, '\xA7'),
            std::string(memory_.data(), 1024));
}

TEST_F(SimDeviceTest, RecordsWhatHappened) {
  ASSERT_TRUE(Write(4096, 8192, 'a').ok());
  ASSERT_TRUE(device_.Flush().ok());
  const std::vector<SimEvent> events = device_.Events();
  ASSERT_EQ(2u, events.size());
  EXPECT_EQ(SimOp::kWrite, events[0].op);
  EXPECT_EQ(1u, events[0].sequence);
  EXPECT_EQ(4096u, events[0].offset);
  EXPECT_EQ(8192u, events[0].bytes);
  EXPECT_EQ(2, events[0].io_class);
  EXPECT_EQ(SimOp::kFlush, events[1].op);
  EXPECT_EQ(2u, events[1].sequence);
  EXPECT_EQ(1u, device_.writes());
  EXPECT_EQ(1u, device_.flushes());
}

TEST_F(SimDeviceTest, OnlyAFlushMakesDurable) {
  const std::string fresh = device_.Image();
  ASSERT_TRUE(Write(0, 4096, 'a').ok());
  EXPECT_TRUE(device_.HasUnflushedWrites());
  EXPECT_TRUE(fresh == device_.DurableImage());
  EXPECT_EQ('a', device_.Image()[0]);
  ASSERT_TRUE(device_.Flush().ok());
  EXPECT_FALSE(device_.HasUnflushedWrites());
  ASSERT_TRUE(Write(0, 512, 'b').ok());
  EXPECT_EQ('a', device_.DurableImage()[0]);
  EXPECT_EQ('b', device_.Image()[0]);
}

// Every block by itself holds any of its contents since the last flush, and
// each of them turns up.
TEST_F(SimDeviceTest, CrashesMixOldAndNewByBlock) {
  std::mt19937_64 rng(TestSeed());
  ASSERT_TRUE(Write(0, 4096, 'a').ok());
  ASSERT_TRUE(device_.Flush().ok());
  ASSERT_TRUE(Write(0, 1024, 'b').ok());
  ASSERT_TRUE(Write(512, 1024, 'c').ok());
  std::set<std::string> seen;
  for (int i = 0; i < 400; ++i) {
    const std::string image = device_.CrashImage(&rng);
    std::string blocks;
    for (uint64_t at = 0; at < 4096; at += 512) {
      ASSERT_EQ(std::string(512, image[at]), image.substr(at, 512));
      blocks += image[at];
    }
    seen.insert(blocks);
  }
  // 2 x 3 x 2 ways for the three blocks that were written.
  EXPECT_EQ(12u, seen.size());
  for (const std::string& blocks : seen) {
    EXPECT_NE(std::string::npos, std::string("ab").find(blocks[0]));
    EXPECT_NE(std::string::npos, std::string("abc").find(blocks[1]));
    EXPECT_NE(std::string::npos, std::string("ac").find(blocks[2]));
    EXPECT_EQ("aaaaa", blocks.substr(3));
  }
}

TEST_F(SimDeviceTest, GoesOnFromAnImage) {
  ASSERT_TRUE(Write(8192, 4096, 'z').ok());
  SimDevice again(device_.Image(), device_.geometry());
  EXPECT_FALSE(again.HasUnflushedWrites());
  ASSERT_TRUE(again.Read(8192, memory_.data(), 4096, 0).ok());
  EXPECT_EQ('z', memory_.data()[4095]);
}

TEST_F(SimDeviceTest, FailsTheNth) {
  device_.FailNth(SimOp::kWrite, 2, ENOSPC);
  EXPECT_TRUE(Write(0, 512, 'a').ok());
  EXPECT_EQ(ENOSPC, Write(512, 512, 'a').error());
  EXPECT_TRUE(Write(1024, 512, 'a').ok());
  EXPECT_NE('a', device_.Image()[512]);
  EXPECT_EQ(3u, device_.writes());
  EXPECT_EQ(2u, device_.Events().size());

  device_.FailNth(SimOp::kRead, 1, EIO, true);
  EXPECT_EQ(EIO, device_.Read(0, memory_.data(), 512, 0).error());
  EXPECT_EQ(EIO, device_.Read(0, memory_.data(), 512, 0).error());
  device_.ClearFaults();
  EXPECT_TRUE(device_.Read(0, memory_.data(), 512, 0).ok());
}

TEST_F(SimDeviceTest, AFailedFlushMakesNothingDurable) {
  ASSERT_TRUE(Write(0, 512, 'a').ok());
  device_.FailNth(SimOp::kFlush, 1, EIO);
  EXPECT_EQ(EIO, device_.Flush().error());
  EXPECT_TRUE(device_.HasUnflushedWrites());
}

TEST_F(SimDeviceTest, DiscardedBlocksHoldPoison) {
  ASSERT_TRUE(Write(0, 4096, 'a').ok());
  ASSERT_TRUE(device_.Discard(512, 1024).ok());
  EXPECT_EQ(SimDevice::Poison(512, 512), device_.Image()[512]);
  EXPECT_EQ('a', device_.Image()[1536]);
}

TEST_F(SimDeviceTest, ABadBlockCannotBeReadAndCanBeWritten) {
  device_.SetUnreadable(1024, 512);
  EXPECT_TRUE(device_.Read(0, memory_.data(), 1024, 0).ok());
  EXPECT_EQ(ENODATA, device_.Read(1024, memory_.data(), 512, 0).error());
  EXPECT_TRUE(device_.Read(1536, memory_.data(), 512, 0).ok());
  EXPECT_TRUE(Write(1024, 512, 'a').ok());
}

// ---- When bios complete -----------------------------------------------------

constexpr uint64_t kBios = 12;

// A request for scattered blocks of 4 KiB, one bio each, which is not waited
// for.
class SimTiming : public SimDeviceTest {
 protected:
  // No two of them neighbours in the file and on the device.
  SimTiming() : mapper_(ScatteredBlocks(kBios)) {
    for (auto& block : mapper_.blocks) block.device_block %= 15;
  }
  void Submit(IoDirection direction, Dio* dio, BlockDevice* device) {
    IoRequest io(direction, mapper_, 0, memory_.data(), kBios * 4096,
                 kBios * 4096);
    io->async = true;
    Plug plug(device);
    (void)dio->Submit(io.get(), &plug);
  }
  // The order in which a fresh device moves the blocks of such a request.
  std::vector<uint64_t> Order(IoDirection direction,
                              const SimBehavior& behavior) {
    SimDevice device(SimDevice::MakeGeometry(kBytes));
    device.Behave(behavior);
    Dio dio(&device);
    Submit(direction, &dio, &device);
    EXPECT_EQ(kBios * 4096, dio.Wait().bytes());
    std::vector<uint64_t> order;
    for (const SimEvent& move : device.Moves()) {
      EXPECT_EQ(direction == IoDirection::kRead ? SimOp::kRead : SimOp::kWrite,
                move.op);
      order.push_back(move.offset);
    }
    return order;
  }
  std::vector<uint64_t> InTheOrderOfTheFile() {
    std::vector<uint64_t> order;
    for (const auto& block : mapper_.blocks) {
      order.push_back(block.device_block * 4096);
    }
    return order;
  }

  TestMapper mapper_;
};

TEST_F(SimTiming, BiosCompleteInsideSubmitUnlessTheyAreDelayed) {
  {
    Dio dio(&device_);
    Submit(IoDirection::kRead, &dio, &device_);
    EXPECT_TRUE(dio.done());
    EXPECT_EQ(0u, device_.most_pending());
  }
  SimBehavior behavior;
  behavior.delayed = true;
  device_.Behave(behavior);
  Dio dio(&device_);
  Submit(IoDirection::kRead, &dio, &device_);
  EXPECT_FALSE(dio.done());
  EXPECT_EQ(kBios, device_.pending());
  EXPECT_EQ(kBios, device_.Moves().size()) << "of the first";
  device_.Poll();
  EXPECT_GT(kBios, device_.pending());
  EXPECT_EQ(2 * kBios - device_.pending(), device_.Moves().size());
  EXPECT_EQ(kBios * 4096, dio.Wait().bytes());
  EXPECT_EQ(0u, device_.pending());
  EXPECT_EQ(kBios, device_.most_pending());
}

TEST_F(SimTiming, TheOrderIsTheSeeds) {
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    SimBehavior behavior;
    EXPECT_EQ(InTheOrderOfTheFile(), Order(direction, behavior));
    behavior.delayed = true;
    EXPECT_EQ(InTheOrderOfTheFile(), Order(direction, behavior));
    behavior.reordered = true;
    std::set<std::vector<uint64_t>> orders;
    for (behavior.seed = 1; behavior.seed <= 8; ++behavior.seed) {
      std::vector<uint64_t> order = Order(direction, behavior);
      EXPECT_EQ(order, Order(direction, behavior)) << "replayed";
      orders.insert(order);
      std::vector<uint64_t> all = InTheOrderOfTheFile();
      std::sort(all.begin(), all.end());
      std::sort(order.begin(), order.end());
      EXPECT_EQ(all, order);
    }
    EXPECT_LT(6u, orders.size());
  }
}

// ---- What is moved ----------------------------------------------------------

// Less than was asked for, more often than not; the bytes are right.
TEST_F(SimDeviceTest, ShortTransfersMoveWhatTheySay) {
  SimBehavior behavior;
  behavior.short_chance = 700;
  device_.Behave(behavior);
  for (size_t i = 0; i < 16384; ++i) {
    memory_.data()[i] = static_cast<char>(i / 512 + i);
  }
  const std::string written(memory_.data(), 16384);
  ASSERT_EQ(16384u, device_.Write(4096, memory_.data(), 16384, 0).bytes());
  EXPECT_EQ(0, device_.Image().compare(4096, 16384, written));
  std::memset(memory_.data(), 'u', 16384);
  ASSERT_EQ(16384u, device_.Read(4096, memory_.data(), 16384, 0).bytes());
  EXPECT_EQ(0, written.compare(0, 16384, memory_.data(), 16384));
  EXPECT_LT(1u, device_.reads());
  EXPECT_LT(1u, device_.writes());
  EXPECT_EQ(device_.reads() + device_.writes(), device_.Moves().size());
  for (const SimEvent& move : device_.Moves()) {
    EXPECT_LT(0u, move.bytes);
    EXPECT_GE(4096u + 16384, move.offset + move.bytes);
  }
}

TEST_F(SimDeviceTest, TransientErrorsMoveNothing) {
  const std::string fresh = device_.Image();
  SimBehavior behavior;
  behavior.transient_chance = 1000;
  std::set<int> errors;
  for (behavior.seed = 1; behavior.seed <= 20; ++behavior.seed) {
    device_.Behave(behavior);
    errors.insert(Write(0, 4096, 'a').error());
  }
  EXPECT_EQ(std::set<int>({EAGAIN, EINTR, ECANCELED}), errors);
  EXPECT_TRUE(device_.Moves().empty());
  EXPECT_TRUE(fresh == device_.Image());
  EXPECT_FALSE(device_.HasUnflushedWrites());
}

// ---- What is durable --------------------------------------------------------

// A write through is durable alone; a flush makes everything so.
TEST_F(SimDeviceTest, WritingThroughIsNoFlush) {
  Geometry geometry = SimDevice::MakeGeometry(kBytes);
  geometry.fua = true;
  SimDevice device(geometry);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 16));
  const auto write = [&](uint64_t block, char fill, Durability durability) {
    std::memset(memory_.data(), fill, 4096);
    IoRequest io(IoDirection::kWrite, mapper, block * 4096, memory_.data(),
                 4096, kBytes);
    io->durability = durability;
    EXPECT_EQ(4096u, RunIo(&device, &io).bytes());
  };
  const std::string fresh = device.Image();
  write(1, 'o', Durability::kNone);
  write(2, 't', Durability::kFua);
  EXPECT_EQ(0u, device.flushes());
  std::string durable = device.DurableImage();
  EXPECT_EQ(0, durable.compare(4096, 4096, fresh, 4096, 4096));
  EXPECT_EQ(0, durable.compare(8192, 4096, std::string(4096, 't')));
  EXPECT_TRUE(device.Events()[1].fua);
  // Through, over what was still in the cache: the older is gone with it.
  write(1, 'n', Durability::kFua);
  EXPECT_EQ('n', device.DurableImage()[4096]);
  EXPECT_FALSE(device.HasUnflushedWrites());
  write(3, 'f', Durability::kNone);
  EXPECT_TRUE(device.HasUnflushedWrites());
  ASSERT_TRUE(device.Flush().ok());
  EXPECT_TRUE(device.Image() == device.DurableImage());
}

// What has not completed yet may have arrived, block by block, or not.
TEST_F(SimTiming, ACrashMayKeepWhatIsPending) {
  SimBehavior behavior;
  behavior.delayed = true;
  device_.Behave(behavior);
  const std::string fresh = device_.Image();
  std::memset(memory_.data(), 'w', kBios * 4096);
  Dio dio(&device_);
  Submit(IoDirection::kWrite, &dio, &device_);
  EXPECT_TRUE(fresh == device_.DurableImage());
  std::mt19937_64 rng(TestSeed());
  bool kept = false;
  bool lost = false;
  for (int i = 0; i < 64; ++i) {
    const std::string image = device_.CrashImage(&rng);
    for (const uint64_t offset : InTheOrderOfTheFile()) {
      const std::string block = image.substr(offset, 512);
      kept = kept || block == std::string(512, 'w');
      lost = lost || block == fresh.substr(offset, 512);
      ASSERT_TRUE(block == std::string(512, 'w') ||
                  block == fresh.substr(offset, 512));
    }
  }
  EXPECT_TRUE(kept && lost);
  EXPECT_EQ(kBios * 4096, dio.Wait().bytes());
}

}  // namespace
}  // namespace diofs
