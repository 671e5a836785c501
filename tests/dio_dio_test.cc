#include "dio/dio.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/plug.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint32_t kBlock = 4096;
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
  for (int i = 0; i < 5000; ++i) {
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

// ---- Random requests against a model that counts single bytes --------------

struct FuzzParam {
  uint32_t logical_block_bytes;
  uint32_t block_bytes;
};

class DioFuzz : public testing::TestWithParam<FuzzParam> {
 protected:
  static constexpr uint64_t kFileBlocks = 24;

  DioFuzz()
      : sector_(GetParam().logical_block_bytes),
        block_bytes_(GetParam().block_bytes),
        device_(MakeGeometry()),
        rng_(TestSeed()),
        model_(kFileBlocks * block_bytes_, '\0') {
    // The file's future blocks, all over the device and in runs by chance.
    std::vector<uint64_t> places(2 * kFileBlocks);
    for (uint64_t i = 0; i < places.size(); ++i) places[i] = i;
    for (uint64_t i = 0; i < places.size(); i += 1 + Below(4)) {
      std::swap(places[i], places[Below(places.size())]);
    }
    mapper_.blocks.resize(kFileBlocks);
    for (uint64_t i = 0; i < kFileBlocks; ++i) {
      mapper_.blocks[i].device_block = places[i];
      mapper_.blocks[i].boundary = Below(8) == 0;
      const uint64_t kind = Below(3);
      mapper_.blocks[i].state =
          kind == 0 ? BlockState::kHole : BlockState::kUnwritten;
    }
  }

  static Geometry MakeGeometry() {
    Geometry geometry =
        SimDevice::MakeGeometry(2 * kFileBlocks * GetParam().block_bytes,
                                GetParam().logical_block_bytes);
    geometry.max_bio_bytes = 8 * 4096;
    geometry.max_bio_segments = 5;
    return geometry;
  }

  uint64_t Below(uint64_t limit) { return rng_() % limit; }

  // Cuts `length` bytes of memory into segments in random order of addresses.
  std::vector<iovec> Scatter(char* memory, uint64_t length) {
    std::vector<iovec> segments;
    uint64_t left = length;
    while (left > 0) {
      const uint64_t piece =
          std::min(left, sector_ * (1 + Below(Below(2) == 0 ? 2 : 20)));
      segments.push_back({nullptr, piece});
      left -= piece;
    }
    // Neighbours in memory, or not.
    const bool backwards = Below(2) == 0;
    char* next = backwards ? memory + length : memory;
    for (iovec& segment : segments) {
      if (backwards) next -= segment.iov_len;
      segment.iov_base = next;
      if (!backwards) next += segment.iov_len;
    }
    return segments;
  }

  Result Run(IoDirection direction, uint64_t offset,
             const std::vector<iovec>& segments) {
    DioRequest request;
    request.direction = direction;
    request.offset = offset;
    request.segments = segments.data();
    request.segment_count = static_cast<int>(segments.size());
    request.file_size = file_size_;
    request.mapper = &mapper_;
    request.block_bytes = block_bytes_;
    request.async = Below(2) == 0;
    Dio dio(&device_);
    Plug plug(&device_);
    dio.Submit(request, &plug);
    plug.Finish();
    return dio.Wait();
  }

  // A random range of the file in whole sectors.
  void Range(uint64_t* offset, uint64_t* length) {
    const uint64_t sectors = model_.size() / sector_;
    const uint64_t first = Below(sectors);
    *offset = first * sector_;
    *length = (1 + Below(std::min<uint64_t>(sectors - first, 60))) * sector_;
  }

  void Write() {
    uint64_t offset = 0;
    uint64_t length = 0;
    Range(&offset, &length);
    const uint64_t first = offset / block_bytes_;
    const uint64_t last = (offset + length - 1) / block_bytes_;
    for (uint64_t i = first; i <= last; ++i) {
      if (mapper_.blocks[i].state == BlockState::kHole) {
        mapper_.blocks[i].state = BlockState::kNew;
      }
    }
    AlignedBuffer memory = BufferPool::Get(length);
    const std::vector<iovec> segments = Scatter(memory.data(), length);
    // As a writer does that pads: the file ends inside the last sector, and
    // zeros follow.
    const uint64_t pad =
        offset + length > file_size_ && Below(2) == 0 ? Below(sector_) : 0;
    uint64_t position = offset;
    for (const iovec& segment : segments) {
      auto* const bytes = static_cast<char*>(segment.iov_base);
      for (uint64_t i = 0; i < segment.iov_len; ++i, ++position) {
        bytes[i] = position < offset + length - pad ? char(Below(256)) : '\0';
        model_[position] = bytes[i];
      }
    }
    const Result result = Run(IoDirection::kWrite, offset, segments);
    ASSERT_EQ(length, result.bytes()) << result.ToString();
    file_size_ = std::max(file_size_, offset + length - pad);
    for (uint64_t i = first; i <= last; ++i) {
      mapper_.blocks[i].state = BlockState::kMapped;
    }
  }

  void Read() {
    uint64_t offset = 0;
    uint64_t length = 0;
    Range(&offset, &length);
    AlignedBuffer memory = BufferPool::Get(length);
    std::memset(memory.data(), 0x5A, length);
    const std::vector<iovec> segments = Scatter(memory.data(), length);
    const Result result = Run(IoDirection::kRead, offset, segments);
    const uint64_t expected =
        offset >= file_size_ ? 0 : std::min(length, file_size_ - offset);
    ASSERT_EQ(expected, result.bytes()) << result.ToString();
    uint64_t position = offset;
    const uint64_t end = offset + expected;
    for (const iovec& segment : segments) {
      if (position >= end) return;
      const uint64_t inside = std::min(segment.iov_len, end - position);
      ASSERT_TRUE(model_.compare(position, inside,
                                 static_cast<char*>(segment.iov_base),
                                 inside) == 0)
          << inside << " bytes at " << position << " of " << file_size_;
      position += inside;
    }
  }

  const uint64_t sector_;
  const uint32_t block_bytes_;
  SimDevice device_;
  std::mt19937_64 rng_;
  TestMapper mapper_;
  std::string model_;
  uint64_t file_size_ = 0;
};

TEST_P(DioFuzz, AgreesWithAByteModel) {
  for (int i = 0; i < 1500; ++i) {
    if (Below(3) == 0) {
      Write();
    } else {
      Read();
    }
    if (HasFatalFailure()) FAIL() << "operation " << i;
  }
  EXPECT_EQ(0u, BioPool::in_use());
}

INSTANTIATE_TEST_SUITE_P(Geometries, DioFuzz,
                         testing::Values(FuzzParam{512, 4096},
                                         FuzzParam{4096, 4096},
                                         FuzzParam{512, 512},
                                         FuzzParam{4096, 16384}));

}  // namespace
}  // namespace diofs
