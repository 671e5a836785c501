#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "tests/engine_io.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBytes = 4 << 20;

class BlockDeviceTest : public testing::Test {
 protected:
  BlockDeviceTest()
      : device_(SimDevice::MakeGeometry(kBytes)),
        memory_(BufferPool::Get(2 << 20)) {
    std::memset(memory_.data(), 'm', memory_.size());
  }
  ~BlockDeviceTest() override { EXPECT_EQ(0u, device_.bios_in_use()); }

  SimDevice device_;
  AlignedBuffer memory_;
};

TEST_F(BlockDeviceTest, LongTransfersAreCutIntoBios) {
  // 512 KiB a bio; the first ends where a physical block does.
  const uint64_t offset = 512;
  const uint64_t bytes = 1 << 20;
  ASSERT_EQ(bytes, device_.Write(offset, memory_.data(), bytes, 1).bytes());
  const std::vector<SimEvent> events = device_.Events();
  ASSERT_EQ(3u, events.size());
  EXPECT_EQ(512u * 1024 - 512, events[0].bytes);
  EXPECT_EQ(512u, events[2].bytes);
  std::memset(memory_.data(), 0, bytes);
  ASSERT_EQ(bytes, device_.Read(offset, memory_.data(), bytes, 1).bytes());
  EXPECT_EQ(std::string(bytes, 'm'), std::string(memory_.data(), bytes));
}

TEST_F(BlockDeviceTest, NothingMisalignedOrOutsideReachesTheBackend) {
  struct {
    uint64_t offset;
    size_t memory;
    size_t bytes;
  } const bad[] = {
      {100, 0, 512},
      {0, 0, 100},
      {0, 100, 512},
      {kBytes, 0, 512},
      {kBytes - 512, 0, 1024},
      {UINT64_MAX - 511, 0, 512},
      {UINT64_MAX - 511, 0, 1024},
      {kBytes + 4096, 0, 512},
  };
  for (const auto& transfer : bad) {
    char* const memory = memory_.data() + transfer.memory;
    EXPECT_EQ(EINVAL,
              device_.Read(transfer.offset, memory, transfer.bytes, 0).error());
    EXPECT_EQ(
        EINVAL,
        device_.Write(transfer.offset, memory, transfer.bytes, 0).error());
  }
  EXPECT_EQ(0u, device_.reads());
  EXPECT_EQ(0u, device_.writes());
  EXPECT_EQ(0u, device_.stats().by_class[0].reads);
}

// Also where a bio comes from elsewhere, here from a Dio of a larger device
// with smaller sectors. Its neighbours in the batch go on.
TEST_F(BlockDeviceTest, ForeignBiosAreCheckedOneByOne) {
  Geometry coarse = SimDevice::MakeGeometry(kBytes / 2, 4096);
  SimDevice smaller(coarse);
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
    Plug plug(&smaller);
    for (size_t i = 0; i < std::size(cases); ++i) {
      const iovec segment = {memory_.data(), cases[i].bytes};
      DioRequest request;
      request.direction = IoDirection::kWrite;
      request.offset = i * 4096;
      request.segments = &segment;
      request.segment_count = 1;
      request.file_size = 1 << 20;
      request.mapper = &mapper;
      request.block_bytes = 512;
      dios.push_back(std::make_unique<Dio>(&device_));
      dios.back()->Submit(request, &plug);
    }
  }
  for (size_t i = 0; i < std::size(cases); ++i) {
    EXPECT_EQ(cases[i].good ? 0 : EINVAL, dios[i]->Wait().error()) << i;
  }
  EXPECT_EQ(2u, smaller.writes());
  EXPECT_EQ(2u, smaller.stats().by_class[0].writes);
}

TEST_F(BlockDeviceTest, ZeroBytesAreNothing) {
  EXPECT_TRUE(device_.Read(0, nullptr, 0, 0).ok());
  EXPECT_TRUE(device_.Write(kBytes, nullptr, 0, 0).ok());
  EXPECT_EQ(0u, device_.writes());
}

TEST_F(BlockDeviceTest, CountsByClassWhatReachedTheDevice) {
  ASSERT_TRUE(device_.Write(0, memory_.data(), 4096, 3).ok());
  ASSERT_TRUE(device_.Write(0, memory_.data(), 1 << 20, 3).ok());
  ASSERT_TRUE(device_.Read(0, memory_.data(), 512, 4).ok());
  // A class there is none of falls into the last.
  ASSERT_TRUE(device_.Read(0, memory_.data(), 512, 200).ok());
  const IoStats& stats = device_.stats();
  EXPECT_EQ(3u, stats.by_class[3].writes);
  EXPECT_EQ(4096u + (1 << 20), stats.by_class[3].write_bytes);
  EXPECT_EQ(0u, stats.by_class[3].reads);
  EXPECT_EQ(1u, stats.by_class[4].reads);
  EXPECT_EQ(512u, stats.by_class[4].read_bytes);
  EXPECT_EQ(1u, stats.by_class[kIoClasses - 1].reads);
  // The device's own log agrees.
  uint64_t logged = 0;
  for (const SimEvent& event : device_.Events()) logged += event.bytes;
  EXPECT_EQ(logged, stats.by_class[3].write_bytes);
}

TEST_F(BlockDeviceTest, FlushesOnlyWhatWasWritten) {
  EXPECT_TRUE(device_.Flush().ok());
  EXPECT_EQ(0u, device_.flushes());
  ASSERT_TRUE(device_.Write(0, memory_.data(), 512, 0).ok());
  EXPECT_TRUE(device_.Flush().ok());
  EXPECT_TRUE(device_.Flush().ok());
  EXPECT_EQ(1u, device_.flushes());
  EXPECT_EQ(1u, device_.stats().flushes);
  ASSERT_TRUE(device_.Read(0, memory_.data(), 512, 0).ok());
  EXPECT_TRUE(device_.Flush().ok());
  EXPECT_EQ(1u, device_.flushes());
}

// A bio made for a device that takes more: longer than all of the other one,
// or from memory that is not aligned enough for it.
TEST_F(BlockDeviceTest, ABioThatOnlyAnotherDeviceTakes) {
  SimDevice tiny(SimDevice::MakeGeometry(8192));
  Geometry geometry = device_.geometry();
  geometry.memory_align_bytes = 4096;
  SimDevice coarse(geometry);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 4));
  const struct {
    BlockDevice* device;
    size_t distance;
    size_t bytes;
  } cases[] = {{&tiny, 0, 16384}, {&coarse, 512, 4096}};
  for (const auto& one : cases) {
    IoRequest io(IoDirection::kWrite, mapper, 0, memory_.data() + one.distance,
                 one.bytes, 16384);
    Dio dio(&device_);
    Plug plug(one.device);
    dio.Submit(io.get(), &plug);
    plug.Finish();
    EXPECT_EQ(EINVAL, dio.Wait().error());
    EXPECT_EQ(0u, one.device->stats().by_class[0].writes);
  }
}

// Whose every write is durable when it ends.
TEST_F(BlockDeviceTest, WithoutAWriteCacheThereIsNothingToFlush) {
  Geometry geometry = device_.geometry();
  geometry.write_cache = false;
  SimDevice without(geometry);
  ASSERT_TRUE(without.Write(0, memory_.data(), 512, 0).ok());
  EXPECT_TRUE(without.Flush().ok());
  EXPECT_EQ(0u, without.flushes());
}

TEST_F(BlockDeviceTest, AFailedFlushStaysFailed) {
  ASSERT_TRUE(device_.Write(0, memory_.data(), 512, 0).ok());
  device_.FailNth(SimOp::kFlush, 1, ENOSPC);
  Result result = device_.Flush();
  EXPECT_EQ(ENOSPC, result.error());
  EXPECT_EQ("sim: flush", result.context());
  EXPECT_EQ(ENOSPC, device_.Flush().error());
  EXPECT_EQ(1u, device_.flushes());
}

TEST_F(BlockDeviceTest, ErrorsNameDeviceAndPlace) {
  device_.FailNth(SimOp::kRead, 1, ETIMEDOUT);
  EXPECT_EQ("sim: read of 512 bytes at 4096: Connection timed out",
            device_.Read(4096, memory_.data(), 512, 0).ToString());
  // Of a bad block, where it is.
  device_.SetUnreadable(4608, 512);
  EXPECT_EQ(
      "sim: unreadable block at 4608: read of 1024 bytes at 4096: "
      "No data available",
      device_.Read(4096, memory_.data(), 1024, 0).ToString());
}

TEST_F(BlockDeviceTest, DiscardIsCheckedToo) {
  EXPECT_TRUE(device_.Discard(0, 4096).ok());
  EXPECT_TRUE(device_.Discard(4096, 0).ok());
  EXPECT_EQ(EINVAL, device_.Discard(100, 512).error());
  EXPECT_EQ(EINVAL, device_.Discard(512, 100).error());
  EXPECT_EQ(EINVAL, device_.Discard(kBytes, 512).error());
  EXPECT_EQ(EINVAL, device_.Discard(512, UINT64_MAX - 511).error());
  EXPECT_EQ(1u, device_.discards());
  EXPECT_EQ(4096u, device_.stats().discard_bytes);

  Geometry geometry = device_.geometry();
  geometry.discard = false;
  SimDevice without(geometry);
  EXPECT_EQ(EOPNOTSUPP, without.Discard(0, 4096).error());
  EXPECT_EQ(0u, without.discards());
}

}  // namespace
}  // namespace diofs
