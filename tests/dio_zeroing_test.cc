// The bytes around a request that become part of the file with it, on poison:
// zeros before and behind a partial write, nothing behind the end of a file.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

class Zeroing : public testing::TestWithParam<EngineParam> {
 protected:
  // Blocks of eight sectors, whatever a sector is.
  Zeroing()
      : sector_(GetParam().logical_block_bytes),
        block_(8 * sector_),
        device_(GetParam(), 8 * block_) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
    poison_ = PatternBuffer(8 * block_, 77);
    data_ = FilledBuffer(4 * block_, 'w');
    seen_ = BufferPool::Get(4 * block_);
  }

  enum class Eof { kInside, kAt, kPast };

  // Writes over poison and compares what the device then holds.
  void Check(BlockState state, Eof eof, uint64_t head, uint64_t sectors);

  const uint64_t sector_;
  const uint64_t block_;
  EngineDevice device_;
  AlignedBuffer poison_;
  AlignedBuffer data_;
  AlignedBuffer seen_;
};

INSTANTIATE_TEST_SUITE_P(All, Zeroing, testing::ValuesIn(AllEngines()),
                         EngineTestName);

void Zeroing::Check(BlockState state, Eof eof, uint64_t head,
                    uint64_t sectors) {
  const uint64_t start = 3 * block_;
  const TestMapper mapper(TestMapper::Run(state, 3, 4));
  const uint64_t offset = head * sector_;
  const uint64_t bytes = sectors * sector_;
  const uint64_t end = offset + bytes;
  const uint64_t last = AlignUp(end, block_);
  const uint64_t file_size = eof == Eof::kInside ? end + 3
                             : eof == Eof::kAt   ? end
                                                 : offset;
  ASSERT_TRUE(
      device_->inner()->Write(start, poison_.data(), 4 * block_, 0).ok());
  IoRequest io(IoDirection::kWrite, mapper, offset, data_.data(), bytes,
               file_size);
  io->block_bytes = static_cast<uint32_t>(block_);
  const uint64_t padded = device_->stats().padding_bytes;
  const size_t bios = device_->trace().size();
  const Result result = RunIo(device_.get(), &io);
  ASSERT_EQ(bytes, result.bytes()) << result.ToString();

  std::string expected(poison_.data(), 4 * block_);
  uint64_t zeros = 0;
  if (state != BlockState::kMapped) {
    expected.replace(0, offset, offset, '\0');
    zeros += offset;
  }
  if (state != BlockState::kMapped || end >= file_size) {
    expected.replace(end, last - end, last - end, '\0');
    zeros += last - end;
  }
  expected.replace(offset, bytes, bytes, 'w');
  ASSERT_TRUE(device_->inner()->Read(start, seen_.data(), 4 * block_, 0).ok());
  ASSERT_EQ(0, std::memcmp(expected.data(), seen_.data(), 4 * block_))
      << "state " << static_cast<int>(state) << " eof " << static_cast<int>(eof)
      << " head " << head << " sectors " << sectors;
  // Once, and in the same bio.
  ASSERT_EQ(zeros, device_->stats().padding_bytes - padded);
  ASSERT_EQ(1u, device_->trace().size() - bios);
}

TEST_P(Zeroing, EveryPartialWriteLeavesNoStaleByte) {
  for (const BlockState state :
       {BlockState::kNew, BlockState::kMapped, BlockState::kUnwritten}) {
    for (const Eof eof : {Eof::kInside, Eof::kAt, Eof::kPast}) {
      for (uint64_t head = 0; head < 8; ++head) {
        device_->ClearTrace();
        // Every length in memory, a third of them where each is three system
        // calls, or slow because a sanitizer looks on.
        const bool all = device_.sim() != nullptr && ScaledRounds(8) == 8;
        const uint64_t step = all ? 1 : 3;
        for (uint64_t sectors = 1 + head % step; sectors <= 24;
             sectors += step) {
          Check(state, eof, head, sectors);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

// Also in a block that was written before, and in a preallocated one.
TEST_P(Zeroing, D10TheTailAtTheEndOfTheFileIsZeroedInAnyBlock) {
  for (const BlockState state :
       {BlockState::kMapped, BlockState::kUnwritten, BlockState::kNew}) {
    for (const Eof eof : {Eof::kAt, Eof::kPast}) {
      for (uint64_t sectors = 1; sectors <= 9; ++sectors) {
        Check(state, eof, 0, sectors);
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Zeros that make requests of their own, and each of these fails once.
TEST_P(Zeroing, D11AnErrorWhileZeroingIsAnErrorOfTheRequest) {
  EngineDevice device(GetParam(), 8 * block_, [](Geometry* geometry) {
    geometry->max_bio_bytes = geometry->logical_block_bytes;
  });
  ASSERT_NE(nullptr, device.get());
  const TestMapper mapper(TestMapper::Run(BlockState::kNew, 3, 1));
  for (uint64_t nth = 0; nth <= 8; ++nth) {
    EndRecorder recorder;
    IoRequest io(IoDirection::kWrite, mapper, 3 * sector_, data_.data(),
                 2 * sector_, 0);
    io->block_bytes = static_cast<uint32_t>(block_);
    io->observer = &recorder;
    device->ClearTrace();
    if (nth > 0) device->FailNth(nth, EREMOTEIO);
    const Result result = RunIo(device.get(), &io);
    EXPECT_EQ(nth == 0 ? 0 : EREMOTEIO, result.error()) << "bio " << nth;
    EXPECT_EQ(8u, device->trace().size());
    ASSERT_EQ(1u, recorder.ends.size());
    EXPECT_EQ(result.error(), recorder.ends[0].error);
  }
}

// ---- The end of the file ----------------------------------------------------

// Every size up to a block and one byte, read from every sector: the bytes up
// to the end, whatever the last block is.
TEST_P(Zeroing, AReadEndsAtTheFileSizeInAnyBlockAndAtAnySector) {
  ASSERT_TRUE(device_->inner()->Write(0, poison_.data(), 8 * block_, 0).ok());
  // Where each read is a system call, not every size.
  const bool simulated = device_.sim() != nullptr;
  for (const BlockState state :
       {BlockState::kMapped, BlockState::kHole, BlockState::kUnwritten}) {
    const TestMapper mapper(TestMapper::Run(state, 3, 4));
    const bool each = simulated || state != BlockState::kMapped;
    for (uint64_t size = 1; size <= block_ + 1;
         size += sector_ > 512 ? (each ? 509 : 4093) : (each ? 1 : 61)) {
      for (uint64_t offset = 0; offset < block_ + 2 * sector_;
           offset += sector_) {
        IoRequest io(IoDirection::kRead, mapper, offset, seen_.data(),
                     2 * block_, size);
        io->block_bytes = static_cast<uint32_t>(block_);
        std::memset(seen_.data(), 'u', seen_.size());
        const Result result = RunIo(device_.get(), &io);
        ASSERT_TRUE(result.ok()) << result.ToString();
        const uint64_t inside = offset < size ? size - offset : 0;
        ASSERT_EQ(inside, result.bytes()) << size << " at " << offset;
        const std::string expected =
            state == BlockState::kMapped
                ? std::string(poison_.data() + 3 * block_ + offset, inside)
                : std::string(inside, '\0');
        ASSERT_EQ(expected, std::string(seen_.data(), inside));
        // And nothing behind the sector with the end.
        const uint64_t touched = AlignUp(offset + inside, sector_) - offset;
        ASSERT_EQ('u', seen_.data()[touched]);
      }
    }
  }
}

}  // namespace
}  // namespace diofs
