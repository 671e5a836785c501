#include "dio/dio.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/plug.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 256 * kBlock;
constexpr uint64_t kEngineBytes = 32 * kBlock;

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
  ~DioTest() override { EXPECT_EQ(0u, queue_.bios_in_use()); }

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
    queue_.End(index);
  }
  EXPECT_TRUE(dio.done());
  EXPECT_EQ(4u * kBlock, dio.Wait().bytes());
  EXPECT_EQ(4u * kBlock, dio.Wait().bytes());
}

// Seed defect D6: the errno that occurred, and the first one of several.
TEST_F(DioTest, TheFirstErrnoWins) {
  for (const int error : {EIO, ENOSPC, ETIMEDOUT, EREMOTEIO, ENODATA}) {
    const TestMapper mapper = Scattered(4);
    Dio dio(&queue_);
    Plug plug(&queue_);
    dio.Submit(Request(IoDirection::kWrite, mapper, 4), &plug);
    plug.Finish();
    queue_.End(3);
    queue_.End(1, -error);
    queue_.End(0, -EXDEV);
    queue_.End(0);
    const Result result = dio.Wait();
    EXPECT_EQ(error, result.error());
    EXPECT_EQ("queue", result.context());
    EXPECT_EQ(0u, result.bytes());
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
          queue_.Complete(*bio, (*bio)->bytes());
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

// ---- On every backend
// --------------------------------------------------------

class DioEngine : public testing::TestWithParam<EngineParam> {
 protected:
  DioEngine() : device_(GetParam(), kEngineBytes) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  EngineDevice device_;
};

INSTANTIATE_TEST_SUITE_P(All, DioEngine, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// What Wait() says for every mix of a mapper's error, a bio's error, memory
// that is not there, and bytes.
TEST_P(DioEngine, FinalStatus) {
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'm');
  for (const bool mapper_fails : {false, true}) {
    for (const int bio_error : {0, EREMOTEIO, EFAULT}) {
      for (const uint64_t file_blocks : {1u, 2u, 9u}) {
        TestMapper mapper;
        mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
          if (mapper_fails && first == 1) return Result::Error(ETIMEDOUT);
          *mapping = {BlockState::kMapped, 2 * first, 1, false, 0};
          return Result::Ok();
        };
        const uint64_t file_size = file_blocks * kBlock - 100;
        IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), 4 * kBlock,
                     file_size);
        // The second bio, where there is one.
        const bool one_bio = file_blocks == 1 || mapper_fails;
        if (bio_error != 0) device_->FailNth(one_bio ? 1 : 2, bio_error);
        const Result result = RunIo(device_.get(), &io);
        device_->ClearTrace();
        // The mapper is asked before anything leaves, so its error is first.
        int error = 0;
        uint64_t moved = std::min<uint64_t>(4 * kBlock, file_size);
        if (mapper_fails && file_blocks > 1) {
          error = ETIMEDOUT;
        } else if (bio_error == EFAULT && !one_bio) {
          moved = kBlock;
        } else {
          error = bio_error;
        }
        EXPECT_EQ(error, result.error());
        EXPECT_EQ(error == 0 ? moved : 0, result.bytes());
      }
    }
  }
}

// Bio k fails, for every k and both directions: told, nothing leaks, and no
// byte of the file's blocks is anything but old or new.
TEST_P(DioEngine, EveryBioMayFail) {
  constexpr uint64_t kBlocks = 12;
  const TestMapper mapper = Scattered(kBlocks);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  const uint64_t buffers = BufferPool::bytes_in_use();
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    for (uint64_t k = 1; k <= kBlocks; ++k) {
      const std::string before = device_.Image();
      std::memset(memory.data(), static_cast<int>('a' + k), memory.size());
      const std::string fresh(kBlock, memory.data()[0]);
      device_->FailNth(k, ETIMEDOUT);
      IoRequest io(direction, mapper, 0, memory.data(), kBlocks * kBlock,
                   kBlocks * kBlock);
      EXPECT_EQ(ETIMEDOUT, RunIo(device_.get(), &io).error());
      EXPECT_EQ(0u, device_->bios_in_use());
      EXPECT_EQ(buffers, BufferPool::bytes_in_use());
      const std::string after = device_.Image();
      for (uint64_t block = 0; block < kEngineBytes / kBlock; ++block) {
        const std::string now = after.substr(block * kBlock, kBlock);
        const bool ours = direction == IoDirection::kWrite && block % 2 == 0 &&
                          block < 2 * kBlocks;
        const bool is_old = now == before.substr(block * kBlock, kBlock);
        ASSERT_TRUE(is_old || (ours && now == fresh)) << block;
      }
    }
  }
}

}  // namespace
}  // namespace diofs
