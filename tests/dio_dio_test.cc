#include "dio/dio.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/plug.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 256 * kBlock;

// A file of `count` blocks, each followed by a gap, so that each is a bio.
TestMapper Scattered(uint64_t count) {
  std::vector<TestMapper::Block> blocks(count);
  for (uint64_t i = 0; i < count; ++i) {
    blocks[i] = {BlockState::kMapped, 2 * i, false};
  }
  return TestMapper(blocks);
}

class DioTest : public testing::Test {
 protected:
  DioTest()
      : queue_(SimDevice::MakeGeometry(kDeviceBytes)),
        memory_(BufferPool::Get(64 * kBlock)) {
    std::memset(memory_.data(), 'm', memory_.size());
  }
  ~DioTest() override { EXPECT_EQ(0u, BioPool::in_use()); }

  DioRequest Request(IoDirection direction, const TestMapper& mapper,
                     uint64_t blocks) {
    segment_ = {memory_.data(), blocks * kBlock};
    DioRequest request;
    request.direction = direction;
    request.segments = &segment_;
    request.segment_count = 1;
    request.file_size = blocks * kBlock;
    request.mapper = &mapper;
    return request;
  }

  QueueDevice queue_;
  AlignedBuffer memory_;
  iovec segment_;
};

TEST_F(DioTest, NothingSubmittedIsDone) {
  Dio dio(&queue_);
  EXPECT_TRUE(dio.done());
  EXPECT_TRUE(dio.Wait().ok());
}

TEST_F(DioTest, TheLastBioCompletesIt) {
  const TestMapper mapper = Scattered(4);
  Dio dio(&queue_);
  Plug plug(&queue_);
  dio.Submit(Request(IoDirection::kRead, mapper, 4), &plug);
  plug.Finish();
  for (const size_t index : {2, 0, 1, 0}) {
    EXPECT_FALSE(dio.done());
    Bio* const bio = queue_.Take(index);
    bio->End(bio->bytes());
  }
  EXPECT_TRUE(dio.done());
  EXPECT_EQ(4u * kBlock, dio.Wait().bytes());
  EXPECT_EQ(4u * kBlock, dio.Wait().bytes());
}

// Seed defect D6: the errno that occurred, and the first one of several.
TEST_F(DioTest, TheFirstErrnoWins) {
  for (const int error : {EIO, ENOSPC, ETIMEDOUT, EREMOTEIO, ENODATA, EAGAIN}) {
    const TestMapper mapper = Scattered(4);
    Dio dio(&queue_);
    Plug plug(&queue_);
    dio.Submit(Request(IoDirection::kWrite, mapper, 4), &plug);
    plug.Finish();
    Bio* const good = queue_.Take(3);
    good->End(good->bytes());
    queue_.Take(1)->End(-error);
    queue_.Take(0)->End(-EXDEV);
    Bio* const last = queue_.Take(0);
    last->End(last->bytes());
    const Result result = dio.Wait();
    EXPECT_EQ(error, result.error());
    EXPECT_EQ("queue", result.context());
    EXPECT_EQ(0u, result.bytes());
  }
}

// What Wait() says for every mix of a mapper's error, a bio's error and bytes.
TEST_F(DioTest, FinalStatus) {
  for (const bool mapper_fails : {false, true}) {
    for (const bool bio_fails : {false, true}) {
      for (const uint64_t file_blocks : {1u, 2u, 9u}) {
        TestMapper mapper;
        mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
          if (mapper_fails && first == 1) return Result::Error(ENODATA);
          *mapping = {BlockState::kMapped, 2 * first, 1, false};
          return Result::Ok();
        };
        DioRequest request = Request(IoDirection::kRead, mapper, 4);
        request.file_size = file_blocks * kBlock - 100;
        Dio dio(&queue_);
        Plug plug(&queue_);
        dio.Submit(request, &plug);
        plug.Finish();
        if (bio_fails) queue_.Take(0)->End(-EREMOTEIO);
        queue_.CompleteAll();
        const Result result = dio.Wait();
        // The mapper is asked before anything leaves, so its error is first.
        const int error = mapper_fails && file_blocks > 1 ? ENODATA
                          : bio_fails                     ? EREMOTEIO
                                                          : 0;
        EXPECT_EQ(error, result.error());
        const uint64_t moved =
            std::min<uint64_t>(4 * kBlock, request.file_size);
        EXPECT_EQ(error == 0 ? moved : 0, result.bytes());
      }
    }
  }
}

// A backend that ends a bio with fewer bytes than it has lost some.
TEST_F(DioTest, AShortCompletionIsNoSuccess) {
  const TestMapper mapper = Scattered(1);
  Dio dio(&queue_);
  Plug plug(&queue_);
  dio.Submit(Request(IoDirection::kRead, mapper, 1), &plug);
  plug.Finish();
  queue_.Take(0)->End(512);
  EXPECT_EQ(EIO, dio.Wait().error());
}

TEST_F(DioTest, CompletionInsideSubmitDoesNotFreeItEarly) {
  SimDevice device(SimDevice::MakeGeometry(kDeviceBytes));
  TestMapper mapper = Scattered(16);
  // Every bio completes while the walk is still going on.
  for (TestMapper::Block& block : mapper.blocks) block.boundary = true;
  Dio dio(&device);
  Plug plug(&device);
  dio.Submit(Request(IoDirection::kRead, mapper, 16), &plug);
  EXPECT_TRUE(dio.done());
  EXPECT_EQ(16u * kBlock, dio.Wait().bytes());
}

TEST_F(DioTest, TheDestructorWaits) {
  const TestMapper mapper = Scattered(8);
  auto dio = std::make_unique<Dio>(&queue_);
  Plug plug(&queue_);
  dio->Submit(Request(IoDirection::kRead, mapper, 8), &plug);
  plug.Finish();
  std::atomic<bool> completed{false};
  std::thread completer([&] {
    std::this_thread::yield();
    completed = true;
    queue_.CompleteAll();
  });
  dio.reset();
  EXPECT_TRUE(completed);
  completer.join();
}

// The waiter may destroy the Dio as soon as it sees it done: nobody may touch
// it after the decrement that reached zero. TSan and ASan watch.
TEST_F(DioTest, NothingTouchesItAfterTheLastReference) {
  const TestMapper mapper = Scattered(3);
  std::atomic<bool> stop{false};
  std::vector<std::thread> completers;
  completers.reserve(2);
  for (int t = 0; t < 2; ++t) {
    completers.emplace_back([&] {
      while (!stop) {
        const std::optional<Bio*> bio = queue_.TakeAny();
        if (bio) {
          (*bio)->End((*bio)->bytes());
        } else {
          std::this_thread::yield();
        }
      }
    });
  }
  for (int i = 0; i < 1000; ++i) {
    auto dio = std::make_unique<Dio>(&queue_);
    Plug plug(&queue_);
    dio->Submit(Request(IoDirection::kRead, mapper, 3), &plug);
    plug.Finish();
    while (!dio->done()) std::this_thread::yield();
    dio.reset();
  }
  stop = true;
  for (std::thread& completer : completers) completer.join();
}

// Bio k fails, for every k and both directions: told, nothing leaks, and no
// byte of the file's blocks is anything but old or new.
TEST_F(DioTest, EveryBioMayFail) {
  constexpr uint64_t kBlocks = 12;
  const TestMapper mapper = Scattered(kBlocks);
  const uint64_t buffers = BufferPool::bytes_in_use();
  for (const SimOp op : {SimOp::kRead, SimOp::kWrite}) {
    for (const bool forever : {false, true}) {
      for (uint64_t k = 1; k <= kBlocks; ++k) {
        SimDevice device(SimDevice::MakeGeometry(kDeviceBytes));
        const std::string before = device.Image();
        device.FailNth(op, k, ENODATA, forever);
        {
          Dio dio(&device);
          Plug plug(&device);
          dio.Submit(Request(op == SimOp::kRead ? IoDirection::kRead
                                                : IoDirection::kWrite,
                             mapper, kBlocks),
                     &plug);
          plug.Finish();
          EXPECT_EQ(ENODATA, dio.Wait().error());
        }
        EXPECT_EQ(0u, BioPool::in_use());
        EXPECT_EQ(buffers, BufferPool::bytes_in_use());
        if (op == SimOp::kRead) {
          std::memset(memory_.data(), 'm', memory_.size());
          continue;
        }
        const std::string after = device.Image();
        for (uint64_t block = 0; block < kDeviceBytes / kBlock; ++block) {
          const std::string now = after.substr(block * kBlock, kBlock);
          const bool ours = block % 2 == 0 && block < 2 * kBlocks;
          const bool is_new = now == std::string(kBlock, 'm');
          const bool is_old = now == before.substr(block * kBlock, kBlock);
          ASSERT_TRUE(is_old || (ours && is_new)) << block;
        }
      }
    }
  }
}

}  // namespace
}  // namespace diofs
