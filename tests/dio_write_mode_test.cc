// Writes that may not allocate, holes that end a write, and blocks that were
// never written.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 64 * kBlock;
constexpr uint64_t kFileBlocks = 6;

class WriteModes : public testing::TestWithParam<EngineParam> {
 protected:
  WriteModes()
      : device_(GetParam(), kDeviceBytes),
        sector_(GetParam().logical_block_bytes),
        memory_(PatternBuffer(kFileBlocks * kBlock, 1)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  Result Write(const BlockMapper& mapper, uint64_t offset, uint64_t bytes,
               uint64_t file_size, WriteMode mode,
               std::unique_ptr<Dio>* dio = nullptr) {
    IoRequest io(IoDirection::kWrite, mapper, offset, memory_.data() + offset,
                 bytes, file_size);
    io->write_mode = mode;
    return RunIo(device_.get(), &io, dio);
  }
  std::string ReadBack(const BlockMapper& mapper, uint64_t file_size) {
    AlignedBuffer memory = FilledBuffer(AlignUp(file_size, kBlock), 'u');
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(),
                 AlignUp(file_size, kBlock), file_size);
    const Result result = RunIo(device_.get(), &io);
    EXPECT_EQ(file_size, result.bytes()) << result.ToString();
    return std::string(memory.data(), result.bytes());
  }
  std::string Content(uint64_t offset, uint64_t bytes) const {
    return std::string(memory_.data() + offset, bytes);
  }

  EngineDevice device_;
  const uint64_t sector_;
  AlignedBuffer memory_;
};

INSTANTIATE_TEST_SUITE_P(All, WriteModes, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// ---- A hole inside the file -------------------------------------------------

// The write stops at the hole; its caller allocates the block, writes what the
// request has of it around zeros, and goes on behind it.
TEST_P(WriteModes, AWriteStopsAtAHoleAndTheCallerFinishesIt) {
  constexpr uint64_t kSize = kFileBlocks * kBlock;
  for (uint64_t hole = 0; hole < kFileBlocks; ++hole) {
    for (const WriteMode mode : {WriteMode::kSkipHoles, WriteMode::kAllocate}) {
      TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, kFileBlocks));
      mapper.blocks[hole].state = BlockState::kHole;
      const uint64_t offset = kBlock - sector_;
      const uint64_t bytes = kSize - offset - (sector_ < kBlock ? sector_ : 0);
      std::string expected(ReadBack(mapper, kSize));
      ASSERT_EQ(std::string(kBlock, '\0'),
                expected.substr(hole * kBlock, kBlock));

      std::unique_ptr<Dio> dio;
      const Result result = Write(mapper, offset, bytes, kSize, mode, &dio);
      const uint64_t before = std::max(hole * kBlock, offset) - offset;
      if (hole == 0 && offset >= kBlock) continue;
      ASSERT_EQ(before, result.bytes()) << result.ToString();
      EXPECT_TRUE(dio->fallback());
      EXPECT_EQ(mode == WriteMode::kAllocate, mapper.calls().back().create);

      // Read, modify and write of the block, then the rest.
      const uint64_t block_end = (hole + 1) * kBlock;
      AlignedBuffer block = FilledBuffer(kBlock, '\0');
      const uint64_t from = std::max(hole * kBlock, offset);
      const uint64_t to = std::min(block_end, offset + bytes);
      std::memcpy(block.data() + (from - hole * kBlock), memory_.data() + from,
                  to - from);
      mapper.blocks[hole].state = BlockState::kNew;
      IoRequest fill(IoDirection::kWrite, mapper, hole * kBlock, block.data(),
                     kBlock, kSize);
      ASSERT_EQ(kBlock, RunIo(device_.get(), &fill).bytes());
      mapper.blocks[hole].state = BlockState::kMapped;
      if (to < offset + bytes) {
        ASSERT_EQ(
            offset + bytes - to,
            Write(mapper, to, offset + bytes - to, kSize, mode, &dio).bytes());
        EXPECT_FALSE(dio->fallback());
      }
      expected.replace(offset, bytes, Content(offset, bytes));
      EXPECT_TRUE(expected == ReadBack(mapper, kSize)) << hole;
    }
  }
}

// ---- Overwriting alone ------------------------------------------------------

TEST_P(WriteModes, AnOverwriteNeverAsksForBlocks) {
  const TestMapper mapper(
      TestMapper::Run(BlockState::kMapped, 10, kFileBlocks));
  constexpr uint64_t kSize = kFileBlocks * kBlock;
  const Result result =
      Write(mapper, 0, kSize, kSize, WriteMode::kOverwriteOnly);
  ASSERT_EQ(kSize, result.bytes()) << result.ToString();
  for (const TestMapper::Call& call : mapper.calls()) {
    EXPECT_FALSE(call.create);
  }
  EXPECT_EQ(Content(0, kSize), ReadBack(mapper, kSize));
}

TEST_P(WriteModes, AnOverwriteThatWouldAllocateIsRefused) {
  constexpr uint64_t kSize = kFileBlocks * kBlock;
  const std::string before = device_.Image();
  for (const BlockState state :
       {BlockState::kHole, BlockState::kUnwritten, BlockState::kNew}) {
    TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, kFileBlocks));
    mapper.blocks[2].state = state;
    for (const uint64_t bytes : {sector_, kBlock, 2 * kBlock}) {
      const Result result =
          Write(mapper, 2 * kBlock, bytes, kSize, WriteMode::kOverwriteOnly);
      EXPECT_EQ(EAGAIN, result.error()) << static_cast<int>(state);
    }
  }
  const TestMapper mapper(
      TestMapper::Run(BlockState::kMapped, 10, kFileBlocks));
  // Behind the end, or a part of it; up to the end exactly is fine.
  for (const uint64_t size : {uint64_t{0}, kBlock, 2 * kBlock - 1}) {
    EXPECT_EQ(
        EAGAIN,
        Write(mapper, kBlock, kBlock, size, WriteMode::kOverwriteOnly).error())
        << size;
  }
  EXPECT_TRUE(mapper.calls().empty());
  EXPECT_TRUE(device_->trace().empty());
  EXPECT_TRUE(before == device_.Image());
  EXPECT_EQ(kBlock,
            Write(mapper, kBlock, kBlock, 2 * kBlock, WriteMode::kOverwriteOnly)
                .bytes());
}

// ---- Blocks that were never written -----------------------------------------

// A preallocated file in small: what was written is known once it has ended.
class Preallocated final : public BlockMapper, public DioObserver {
 public:
  explicit Preallocated(uint64_t blocks) : written_(blocks, false) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override {
    uint64_t run = 1;
    while (run < count && first + run < written_.size() &&
           written_[first + run] == written_[first]) {
      ++run;
    }
    *mapping = {written_[first] ? BlockState::kMapped : BlockState::kUnwritten,
                20 + first, run, false, 0};
    if (create && !written_[first]) mapping->reservation = first + 1;
    return Result::Ok();
  }
  Result EndIo(const DioEnd& end) override {
    if (end.error != 0) return Result::Error(end.error);
    if (end.reservation_count > 0) {
      const uint64_t last = (end.offset + end.bytes - 1) / kBlock;
      for (uint64_t i = end.offset / kBlock; i <= last; ++i) {
        written_[i] = true;
      }
    }
    return Result::Bytes(end.bytes);
  }

 private:
  std::vector<bool> written_;
};

TEST_P(WriteModes, UnwrittenBlocksReadAsZerosUntilTheirWriteHasEnded) {
  constexpr uint64_t kSize = kFileBlocks * kBlock;
  Preallocated file(kFileBlocks);
  EXPECT_EQ(std::string(kSize, '\0'), ReadBack(file, kSize));
  // No I/O was made for that.
  EXPECT_TRUE(device_->trace().empty());

  std::string expected(kSize, '\0');
  const auto write = [&](uint64_t offset, uint64_t bytes, bool fail) {
    IoRequest io(IoDirection::kWrite, file, offset, memory_.data() + offset,
                 bytes, kSize);
    io->observer = &file;
    if (fail) device_->FailNth(1, ENOSPC);
    const Result result = RunIo(device_.get(), &io);
    ASSERT_EQ(fail ? ENOSPC : 0, result.error());
    if (!fail) expected.replace(offset, bytes, Content(offset, bytes));
    ASSERT_TRUE(expected == ReadBack(file, kSize)) << offset << " " << bytes;
  };
  // A write that failed converts nothing: zeros, not what it left half-way.
  write(kBlock, kBlock, true);
  write(kBlock, kBlock, false);
  write(3 * kBlock - sector_, sector_, false);
  // From a block that is written into one that is not.
  write(2 * kBlock, 2 * kBlock, false);
  write(4 * kBlock + (sector_ < kBlock ? sector_ : 0), sector_, false);
}

}  // namespace
}  // namespace diofs
