#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/read_batch.h"
#include "tests/engine_device.h"
#include "tests/queue_device.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kFileBlocks = 64;
constexpr uint64_t kFileSize = kFileBlocks * kBlock - 1234;

class ReadBatchTest : public testing::TestWithParam<EngineParam> {
 protected:
  ReadBatchTest()
      : sector_(GetParam().logical_block_bytes),
        device_(GetParam(), 2 * kFileBlocks * kBlock),
        memory_(BufferPool::Get(kFileBlocks * kBlock)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
    std::mt19937_64 rng(1);
    for (size_t i = 0; i < kFileBlocks * kBlock; ++i) {
      memory_.data()[i] = static_cast<char>(rng());
    }
    ASSERT_TRUE(
        device_->Write(4 * kBlock, memory_.data(), kFileBlocks * kBlock, 0)
            .ok());
    device_->ClearTrace();
    content_.assign(memory_.data(), kFileSize);
    mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, kFileBlocks);
    file_.device = device_.get();
    file_.mapper = &mapper_;
    file_.file_size = kFileSize;
    file_.io_class = 5;
    buffers_ = BufferPool::bytes_in_use();
  }
  void TearDown() override { EXPECT_EQ(buffers_, BufferPool::bytes_in_use()); }

  // A range whose memory lies at `at` of memory_.
  ReadRange Range(uint64_t offset, size_t length, size_t at) {
    ReadRange range;
    range.offset = offset;
    range.length = length;
    range.memory = memory_.data() + at;
    return range;
  }

  void ExpectContent(const ReadRange& range) {
    ASSERT_TRUE(range.result.ok()) << range.result.ToString();
    const uint64_t inside =
        range.offset >= kFileSize
            ? 0
            : std::min<uint64_t>(range.length, kFileSize - range.offset);
    ASSERT_EQ(inside, range.result.bytes());
    ASSERT_TRUE(inside == 0 || content_.compare(range.offset, inside,
                                                range.memory, inside) == 0)
        << range.offset << " + " << range.length;
  }

  uint64_t Bounced() { return device_->stats().bounced_bytes; }
  // Of the device, as the backend counts them.
  const IoCounters& Counters() { return device_->inner()->stats().by_class[5]; }

  const uint64_t sector_;
  EngineDevice device_;
  TestMapper mapper_;
  ReadBatch::File file_;
  std::string content_;
  AlignedBuffer memory_;
  uint64_t buffers_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, ReadBatchTest, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(ReadBatchTest, AlignedReadsAreZeroCopy) {
  std::vector<ReadRange> ranges = {Range(3 * kBlock, kBlock, 8192),
                                   Range(sector_, sector_, 0),
                                   Range(10 * kBlock, 3 * kBlock, 32768)};
  ReadBatch batch;
  batch.Submit(file_, ranges.data(), ranges.size(), false);
  batch.Wait();
  for (const ReadRange& range : ranges) ExpectContent(range);
  EXPECT_EQ(0u, Bounced());
  EXPECT_EQ(3u, device_->trace().size());
  EXPECT_EQ(3u, Counters().reads);
}

TEST_P(ReadBatchTest, UnalignedReadsBounceWholeSectorsOnly) {
  std::vector<ReadRange> ranges = {Range(2 * sector_ - 24, 100, 1)};
  ReadBatch batch;
  batch.Submit(file_, ranges.data(), 1, false);
  batch.Wait();
  ExpectContent(ranges[0]);
  EXPECT_EQ(100u, Bounced());
  EXPECT_EQ(2 * sector_, Counters().read_bytes);
}

TEST_P(ReadBatchTest, NeighboursBecomeOneRead) {
  // Unaligned: two in one sector, one in the next, and one far away.
  std::vector<ReadRange> ranges = {Range(sector_ + 188, 300, 5000),
                                   Range(100000, 50, 1), Range(10, 20, 100),
                                   Range(300, 100, 200)};
  ReadBatch batch;
  batch.Submit(file_, ranges.data(), ranges.size(), false);
  batch.Wait();
  for (const ReadRange& range : ranges) ExpectContent(range);
  EXPECT_EQ(2u, device_->trace().size());
  // Aligned: adjacent in the file, apart in memory.
  std::vector<ReadRange> aligned = {Range(2 * kBlock, kBlock, 0),
                                    Range(kBlock, kBlock, 4 * kBlock),
                                    Range(3 * kBlock, kBlock, 8 * kBlock)};
  batch.Submit(file_, aligned.data(), aligned.size(), false);
  batch.Wait();
  for (const ReadRange& range : aligned) ExpectContent(range);
  EXPECT_EQ(3u, device_->trace().size());
}

// Neighbours are merged up to a MiB; what goes beyond it is a read of its own.
TEST_P(ReadBatchTest, MergedReadsAreBounded) {
  mapper_.blocks.clear();
  file_.file_size = 4 << 20;
  std::string memory(3 << 20, 'x');
  std::vector<ReadRange> ranges(4);
  const uint64_t offsets[] = {1, (1 << 20) - 511, 1 << 20, (2 << 20) + 1};
  const size_t lengths[] = {(1 << 20) - 512, 511, 1 << 19, 100};
  char* at = memory.data();
  for (size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].offset = offsets[i];
    ranges[i].length = lengths[i];
    // Not aligned, for the third one would be read in place.
    ranges[i].memory = ++at;
    at += lengths[i];
  }
  ReadBatch batch;
  batch.Submit(file_, ranges.data(), ranges.size(), false);
  // The first two together are a MiB and no more.
  EXPECT_EQ(3, device_->stats().bounces);
  batch.Wait();
  EXPECT_EQ(0, device_->stats().bounces);
  for (const ReadRange& range : ranges) {
    EXPECT_EQ(range.length, range.result.bytes());
    EXPECT_EQ(std::string(range.length, '\0'),
              std::string(range.memory, range.length));
  }
}

// Each by itself makes a read go through a buffer.
TEST_P(ReadBatchTest, OffsetLengthAndMemoryAreAligned) {
  const struct {
    ReadRange range;
    bool direct;
  } cases[] = {{Range(sector_, 2 * sector_, 512), true},
               {Range(sector_ + 1, 2 * sector_, 512), false},
               {Range(sector_, 2 * sector_ + 1, 512), false},
               {Range(sector_, 2 * sector_, 513), false}};
  for (const auto& one : cases) {
    for (const bool now : {false, true}) {
      ReadRange range;
      range.offset = one.range.offset;
      range.length = one.range.length;
      range.memory = one.range.memory;
      const uint64_t before = Bounced();
      if (now) {
        range.result =
            ReadRangeNow(file_, range.offset, range.length, range.memory);
      } else {
        ReadBatch batch;
        batch.Submit(file_, &range, 1, false);
        batch.Wait();
      }
      ExpectContent(range);
      EXPECT_EQ(one.direct ? 0 : range.length, Bounced() - before);
    }
  }
}

TEST_P(ReadBatchTest, TheEndOfTheFile) {
  std::vector<ReadRange> ranges = {
      Range(kFileSize - 10, 100, 1),
      Range(kFileSize, 100, 200),
      Range(kFileSize + 1, 100, 400),
      Range(UINT64_MAX, 100, 600),
      Range(100, 0, 800),
      Range(63 * kBlock, kBlock, 4096),
      Range(62 * kBlock, SIZE_MAX & ~size_t{4095}, 8192)};
  ReadBatch batch;
  batch.Submit(file_, ranges.data(), ranges.size(), false);
  batch.Wait();
  for (const ReadRange& range : ranges) ExpectContent(range);
}

TEST_P(ReadBatchTest, NothingToReadAsksNobody) {
  std::vector<ReadRange> ranges = {Range(100, 0, 0), Range(kFileSize, 9, 0)};
  ReadBatch batch;
  EXPECT_TRUE(batch.done());
  batch.Wait();
  batch.Submit(file_, ranges.data(), ranges.size(), true);
  EXPECT_TRUE(batch.done());
  batch.Wait();
  EXPECT_TRUE(ranges[0].result.ok());
  EXPECT_TRUE(mapper_.calls().empty());
}

TEST_P(ReadBatchTest, ErrorsHitOnlyTheirRanges) {
  for (const bool async : {false, true}) {
    std::vector<ReadRange> ranges = {Range(0, sector_, 0),
                                     Range(8192, sector_, 4096),
                                     Range(20000, 77, 8192)};
    device_->FailNth(2, ENODATA);
    ReadBatch batch;
    batch.Submit(file_, ranges.data(), ranges.size(), async);
    batch.Wait();
    ExpectContent(ranges[0]);
    EXPECT_EQ(ENODATA, ranges[1].result.error());
    ExpectContent(ranges[2]);
  }
}

// 32 reads far from each other, every second one unaligned.
std::vector<ReadRange> FarReads(uint64_t sector, char* memory) {
  std::vector<ReadRange> ranges(32);
  for (size_t i = 0; i < ranges.size(); ++i) {
    ranges[i].offset = i * 2 * kBlock;
    ranges[i].length = i % 2 == 0 ? sector : 500;
    ranges[i].memory = memory + i * 8192;
  }
  return ranges;
}

TEST_P(ReadBatchTest, AllLeaveInOneSubmission) {
  for (const bool async : {false, true}) {
    std::vector<ReadRange> ranges = FarReads(sector_, memory_.data());
    device_->ClearTrace();
    ReadBatch batch;
    batch.Submit(file_, ranges.data(), ranges.size(), async);
    EXPECT_EQ(1u, device_->batches());
    EXPECT_EQ(32u, device_->trace().size());
    batch.Wait();
    EXPECT_TRUE(batch.done());
    batch.Wait();
    for (const ReadRange& range : ranges) ExpectContent(range);
  }
}

// On a device that ends nothing by itself.
TEST(ReadBatches, NoneIsDoneBeforeItsReadsAre) {
  QueueDevice queue(SimDevice::MakeGeometry(2 * kFileBlocks * kBlock));
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, kFileBlocks));
  AlignedBuffer memory = BufferPool::Get(kFileBlocks * kBlock);
  ReadBatch::File file;
  file.device = &queue;
  file.mapper = &mapper;
  file.file_size = kFileSize;
  std::vector<ReadRange> ranges = FarReads(512, memory.data());
  ReadBatch batch;
  batch.Submit(file, ranges.data(), ranges.size(), false);
  EXPECT_EQ(std::vector<size_t>({32}), queue.batches());
  while (queue.queued() > 0) {
    EXPECT_FALSE(batch.done());
    queue.End(queue.queued() / 2);
  }
  EXPECT_TRUE(batch.done());
  batch.Wait();
  for (const ReadRange& range : ranges) {
    EXPECT_EQ(range.length, range.result.bytes());
  }
}

// Nobody waited; the ranges are gone. The buffers may go only once the device
// has let go of them.
TEST_P(ReadBatchTest, TheDestructorWaitsForTheDevice) {
  auto batch = std::make_unique<ReadBatch>();
  {
    std::vector<ReadRange> ranges = {Range(0, sector_, 0),
                                     Range(9000, 100, 4096)};
    batch->Submit(file_, ranges.data(), ranges.size(), true);
  }
  batch.reset();
}

TEST_P(ReadBatchTest, RandomBatches) {
  std::mt19937_64 rng(TestSeed());
  // Fragmented, with a hole now and then.
  for (uint64_t i = 0; i < kFileBlocks; ++i) {
    if (rng() % 10 == 0) {
      mapper_.blocks[i].state = BlockState::kUnwritten;
      const uint64_t at = i * kBlock;
      if (at < kFileSize) {
        const uint64_t bytes = std::min<uint64_t>(kBlock, kFileSize - at);
        content_.replace(at, bytes, bytes, '\0');
      }
    }
    mapper_.blocks[i].boundary = rng() % 16 == 0;
  }
  for (int round = 0; round < 150; ++round) {
    std::vector<ReadRange> ranges;
    size_t at = 0;
    const size_t count = 1 + rng() % 40;
    while (ranges.size() < count) {
      uint64_t offset = rng() % (kFileSize + 5000);
      size_t length = rng() % 6000;
      if (rng() % 2 == 0) {
        offset = AlignDown(offset, sector_);
        length = AlignDown(length, sector_);
        at = AlignUp(at, 512);
      }
      if (at + length > memory_.size()) break;
      ranges.push_back(Range(offset, length, at));
      at += length;
    }
    std::memset(memory_.data(), 'u', memory_.size());
    ReadBatch batch;
    batch.Submit(file_, ranges.data(), ranges.size(), rng() % 2 == 0);
    batch.Wait();
    for (const ReadRange& range : ranges) {
      ExpectContent(range);
      if (HasFatalFailure()) FAIL() << "round " << round;
    }
  }
}

TEST_P(ReadBatchTest, ReadRangeNow) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 500; ++round) {
    const uint64_t offset = rng() % (kFileSize + 1000);
    const size_t length = rng() % 20000;
    const size_t at = rng() % 1000;
    ReadRange range = Range(offset, length, at);
    range.result = ReadRangeNow(file_, offset, length, range.memory);
    ExpectContent(range);
  }
  EXPECT_EQ(EIO, [&] {
    device_->FailNth(1, EIO);
    return ReadRangeNow(file_, 1, 2, memory_.data()).error();
  }());
}

TEST_P(ReadBatchTest, ReadRangeNowOfAnyLength) {
  // Longer than the bounce buffer, in a file of zeros.
  mapper_.blocks.clear();
  file_.file_size = 5 << 20;
  std::string memory((5 << 20) + 1, 'x');
  const Result result = ReadRangeNow(file_, 7, 5 << 20, memory.data() + 1);
  EXPECT_EQ((5u << 20) - 7, result.bytes());
  EXPECT_EQ('x', memory[0]);
  EXPECT_EQ(std::string((5 << 20) - 7, '\0'), memory.substr(1, (5 << 20) - 7));
  EXPECT_EQ('x', memory[(5 << 20) - 6]);
}

}  // namespace
}  // namespace diofs
