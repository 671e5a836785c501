// ctest: one-thread

// The n-th allocation of the engine fails, for every n there is: what was asked
// for is done or refused, all of it, and nothing is left behind.

#include <gtest/gtest.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "dio/buffer_pool.h"
#include "dio/out_of_memory.h"
#include "dio/read_batch.h"
#include "tests/allocation_faults.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"

namespace diofs {
namespace {

constexpr uint64_t kDeviceBytes = 1 << 20;
constexpr uint32_t kBlock = 4096;
constexpr uint64_t kBlocks = 32;
constexpr uint64_t kBytes = kBlocks * kBlock;

// Each block lies alone, with a reservation where it is written.
class ScatteredMapper final : public BlockMapper {
 public:
  Result GetBlocks(uint64_t first, uint64_t /*count*/, bool create,
                   BlockMapping* mapping) const override {
    mapping->state = BlockState::kMapped;
    mapping->device_block = 2 * first;
    mapping->count = 1;
    mapping->reservation = create ? first + 1 : 0;
    return Result::Ok();
  }
};

// Runs `call` with the n-th allocation failing, for each n there is, once and
// from then on; `check` looks at what it has left, on a device of its own.
class WithoutMemory : public testing::TestWithParam<EngineParam> {
 protected:
  template <typename Call, typename Check>
  void ForEachAllocation(const Call& call, const Check& check) {
    const AllocationScope not_counted(false);
    for (const bool forever : {false, true}) {
      bool met = true;
      for (uint64_t n = 1; met; ++n) {
        SCOPED_TRACE("allocation " + std::to_string(n) +
                     (forever ? " and all behind" : ""));
        EngineDevice device(GetParam(), kDeviceBytes);
        if (device.get() == nullptr) GTEST_SKIP() << "no io_uring";
        if (device.sim() != nullptr) device.sim()->Behave(SimBehavior());
        BlockDevice* const inner = device->inner();
        Prepare(&device);
        {
          const AllocationScope counted(true);
          AllocationFaults::FailNth(n, forever);
          call(inner);
          met = AllocationFaults::Stop();
        }
        check(inner);
        ExpectNothingHeld(inner);
        if (HasFatalFailure()) return;
      }
    }
  }

  virtual void Prepare(EngineDevice* /*device*/) {}

  const ScatteredMapper mapper_{};
  AlignedBuffer pattern_ = PatternBuffer(kBytes, 7);
  AlignedBuffer memory_ = FilledBuffer(kBytes, 0);
};

DioRequest RequestOf(IoDirection direction, const BlockMapper& mapper,
                     const iovec* segment) {
  DioRequest request;
  request.direction = direction;
  request.mapper = &mapper;
  request.segments = segment;
  request.segment_count = 1;
  request.file_size = kBytes;
  return request;
}

Result Move(BlockDevice* device, const DioRequest& request) {
  Dio dio(device);
  {
    Plug plug(device);
    (void)dio.Submit(request, &plug);
  }
  return dio.Wait();
}

TEST_P(WithoutMemory, AWriteIsWholeOrRefused) {
  Result written;
  Result flushed;
  const iovec segment = {pattern_.data(), kBytes};
  ForEachAllocation(
      [&](BlockDevice* device) {
        written =
            Move(device, RequestOf(IoDirection::kWrite, mapper_, &segment));
        flushed = device->Flush();
      },
      [&](BlockDevice* device) {
        EXPECT_TRUE(flushed.ok()) << flushed.ToString();
        if (!written.ok()) {
          ASSERT_EQ(ENOMEM, written.error()) << written.ToString();
          return;
        }
        const iovec into = {memory_.data(), kBytes};
        const Result read =
            Move(device, RequestOf(IoDirection::kRead, mapper_, &into));
        ASSERT_EQ(kBytes, read.bytes()) << read.ToString();
        ASSERT_EQ(0, std::memcmp(memory_.data(), pattern_.data(), kBytes));
      });
}

class ReadsWithoutMemory : public WithoutMemory {
 protected:
  void Prepare(EngineDevice* device) override {
    const iovec segment = {pattern_.data(), kBytes};
    ASSERT_TRUE(Move((*device)->inner(),
                     RequestOf(IoDirection::kWrite, mapper_, &segment))
                    .ok());
    if (bad_block_ && device->sim() != nullptr) {
      device->sim()->SetUnreadable(uint64_t{10} * kBlock, kBlock);
    }
  }

  bool bad_block_ = false;
};

// Several requests in flight at once, some through bounce buffers.
TEST_P(ReadsWithoutMemory, ABatchIsReadOrRefused) {
  std::array<ReadRange, 6> ranges;
  Result submitted;
  ForEachAllocation(
      [&](BlockDevice* device) {
        ReadBatch::File file;
        file.device = device;
        file.mapper = &mapper_;
        file.file_size = kBytes;
        for (size_t i = 0; i < ranges.size(); ++i) {
          ranges[i] = ReadRange();
          ranges[i].offset = i * 5 * kBlock + (i % 2) * 100;
          ranges[i].length = 3000 + i;
          ranges[i].memory = memory_.data() + i * kBlock;
        }
        submitted = CatchBadAlloc([&] {
          ReadBatch first;
          ReadBatch second;
          first.Submit(file, ranges.data(), 3, /*async=*/true);
          second.Submit(file, ranges.data() + 3, 3, /*async=*/true);
          first.Wait();
          second.Wait();
          return Result::Ok();
        });
      },
      [&](BlockDevice*) {
        if (!submitted.ok()) return;
        for (const ReadRange& range : ranges) {
          if (!range.result.ok()) {
            EXPECT_EQ(ENOMEM, range.result.error());
            continue;
          }
          EXPECT_EQ(range.length, range.result.bytes());
          EXPECT_EQ(0, std::memcmp(range.memory, pattern_.data() + range.offset,
                                   range.length));
        }
      });
}

TEST_P(ReadsWithoutMemory, OneThatTheSubmitterWaitsForIsReadOrRefused) {
  Result read;
  const iovec segment = {memory_.data(), kBytes};
  ForEachAllocation(
      [&](BlockDevice* device) {
        DioRequest request = RequestOf(IoDirection::kRead, mapper_, &segment);
        request.waiter = Waiter::kSubmitter;
        read = Move(device, request);
      },
      [&](BlockDevice*) {
        if (!read.ok()) {
          ASSERT_EQ(ENOMEM, read.error()) << read.ToString();
          return;
        }
        ASSERT_EQ(kBytes, read.bytes());
        ASSERT_EQ(0, std::memcmp(memory_.data(), pattern_.data(), kBytes));
      });
}

TEST_P(ReadsWithoutMemory, ABadBlockIsToldWithOrWithoutItsPlace) {
  bad_block_ = true;
  Result read;
  size_t bad = 0;
  const iovec segment = {memory_.data(), kBytes};
  ForEachAllocation(
      [&](BlockDevice* device) {
        Dio dio(device);
        {
          Plug plug(device);
          (void)dio.Submit(RequestOf(IoDirection::kRead, mapper_, &segment),
                           &plug);
        }
        read = dio.Wait();
        bad = dio.unreadable().size();
      },
      [&](BlockDevice*) {
        if (GetParam().kind > EngineKind::kSimDelayed) return;
        EXPECT_FALSE(read.ok());
        if (bad == 0) return;
        EXPECT_EQ(kBlock / GetParam().logical_block_bytes, bad);
        EXPECT_NE(ENOMEM, read.error());
      });
}

INSTANTIATE_TEST_SUITE_P(All, WithoutMemory, testing::ValuesIn(AllEngines()),
                         EngineTestName);
INSTANTIATE_TEST_SUITE_P(All, ReadsWithoutMemory,
                         testing::ValuesIn(AllEngines()), EngineTestName);

TEST(ResultWithoutMemory, AnErrorIsToldWithoutItsContext) {
  const AllocationScope not_counted(false);
  const std::string where = "a place whose name takes memory of its own";
  Result error;
  Result longer =
      Result::Error(EIO, "what was known before the memory ran out");
  {
    const AllocationScope counted(true);
    AllocationFaults::FailNth(1, /*forever=*/true);
    error = Result::Error(ENOSPC, where);
    longer = std::move(longer).With(where);
    EXPECT_TRUE(AllocationFaults::Stop());
  }
  EXPECT_EQ(ENOSPC, error.error());
  EXPECT_EQ("", error.context());
  EXPECT_EQ(EIO, longer.error());
  EXPECT_EQ("what was known before the memory ran out", longer.context());
}

TEST(OnUnwindTest, RunsForAnExceptionAlone) {
  int runs = 0;
  {
    const OnUnwind count([&] { ++runs; });
  }
  EXPECT_EQ(0, runs);
  const Result caught = CatchBadAlloc([&]() -> Result {
    const OnUnwind count([&] { ++runs; });
    throw std::bad_alloc();
  });
  EXPECT_EQ(ENOMEM, caught.error());
  EXPECT_EQ(1, runs);
}

}  // namespace
}  // namespace diofs
