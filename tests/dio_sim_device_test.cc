#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <set>

#include "dio/buffer_pool.h"
#include "tests/sim_device.h"
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

}  // namespace
}  // namespace diofs
