#include <gtest/gtest.h>

#include "dio/buffer_pool.h"
#include "dio/plug.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;

class PlugTest : public testing::Test {
 protected:
  PlugTest()
      : device_(SimDevice::MakeGeometry(1024 * kBlock)),
        memory_(BufferPool::Get(512 * kBlock)) {
    for (uint64_t i = 0; i < 512; ++i) {
      mapper_.blocks.push_back({BlockState::kMapped, 2 * i, false});
    }
  }

  DioRequest Request(uint64_t first, uint64_t blocks) {
    segment_ = {memory_.data() + first * kBlock, blocks * kBlock};
    DioRequest request;
    request.offset = first * kBlock;
    request.segments = &segment_;
    request.segment_count = 1;
    request.file_size = 512 * kBlock;
    request.mapper = &mapper_;
    return request;
  }

  QueueDevice device_;
  TestMapper mapper_;
  AlignedBuffer memory_;
  iovec segment_;
};

TEST_F(PlugTest, SeveralRequestsLeaveTogether) {
  Dio first(&device_);
  Dio second(&device_);
  {
    Plug plug(&device_);
    first.Submit(Request(0, 3), &plug);
    second.Submit(Request(3, 2), &plug);
    EXPECT_EQ(0u, device_.queued());
    // Leaves with the plug's end at the latest.
  }
  EXPECT_EQ(std::vector<size_t>({5}), device_.batches());
  device_.CompleteAll();
  EXPECT_TRUE(first.Wait().ok());
  EXPECT_TRUE(second.Wait().ok());
}

TEST_F(PlugTest, AFullPlugSubmits) {
  Dio dio(&device_);
  Plug plug(&device_);
  dio.Submit(Request(0, 300), &plug);
  EXPECT_EQ(std::vector<size_t>({64, 64, 64, 64}), device_.batches());
  plug.Finish();
  EXPECT_EQ(std::vector<size_t>({64, 64, 64, 64, 44}), device_.batches());
  device_.CompleteAll();
  EXPECT_EQ(300u * kBlock, dio.Wait().bytes());
}

TEST_F(PlugTest, AnEmptyPlugAsksNobody) {
  Plug plug(&device_);
  plug.Finish();
  plug.Finish();
  EXPECT_TRUE(device_.batches().empty());
}

}  // namespace
}  // namespace diofs
