// A write that fails half-way: what a reader sees of it afterwards.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/annotate.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 9;
constexpr uint64_t kDeviceBlocks = 64;
// What is on the device where nobody wrote: 'P' for poison, which no file may
// ever show; 'o' in blocks written before, 'n' is what is written now.
constexpr char kPoison = 'P';

// A file of written, preallocated and missing blocks in turn, each a run of its
// own on the device. What a write takes is published in EndIo alone, and only
// as far as that says that bytes have moved. Of one thread.
class PublishedFile final : public BlockMapper, public DioObserver {
 public:
  PublishedFile() {
    for (uint64_t i = 0; i < kBlocks; ++i) {
      states[i] = i % 3 == 0   ? BlockState::kUnwritten
                  : i % 3 == 1 ? BlockState::kMapped
                               : BlockState::kHole;
    }
  }

  static uint64_t DeviceBlock(uint64_t block) { return 2 * block + 1; }

  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override {
    EXPECT_LE(1u, count);
    mapping->count = 1;
    mapping->state = states.at(first);
    mapping->device_block = DeviceBlock(first);
    if (mapping->state == BlockState::kHole && create) {
      mapping->state = BlockState::kNew;
      mapping->reservation = 1 + first;
      ++reserved;
    }
    return Result::Ok();
  }

  Result EndIo(const DioEnd& end) override {
    reserved -= end.reservation_count;
    const uint64_t moved = end.offset + end.bytes;
    // The last block of a request is whole with its padding; another one only
    // if it is covered.
    const uint64_t whole = moved == request_end ? AlignUp(moved, kBlock)
                                                : AlignDown(moved, kBlock);
    for (uint64_t i = end.offset / kBlock; i < whole / kBlock; ++i) {
      if (end.bytes > 0) states[i] = BlockState::kMapped;
    }
    bytes = end.bytes;
    if (end.error != 0) return Result::Error(end.error);
    return Result::Bytes(end.bytes);
  }

  std::map<uint64_t, BlockState> states;
  uint64_t request_end = 0;
  uint64_t bytes = 0;
  mutable uint64_t reserved = 0;
};

// Memory of which one page is not there: the kernel says EFAULT.
class TornMemory {
 public:
  explicit TornMemory(uint64_t pages)
      : bytes_(pages * kBlock),
        data_(static_cast<char*>(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    std::memset(data_, 'n', bytes_);
  }
  TornMemory(const TornMemory&) = delete;
  TornMemory& operator=(const TornMemory&) = delete;
  ~TornMemory() { munmap(data_, bytes_); }

  char* data() { return data_; }
  void Tear(uint64_t page) {
    char* const at = data_ + page * kBlock;
    ASSERT_EQ(0, mprotect(at, kBlock, PROT_NONE));
    // memcheck is to leave the complaint to the kernel.
    const iovec segment = {at, kBlock};
    AnnotateReadCompleted(&segment, 1);
  }

 private:
  const uint64_t bytes_;
  char* const data_;
};

class StaleBytes : public testing::TestWithParam<EngineParam> {
 protected:
  StaleBytes()
      : sector_(GetParam().logical_block_bytes),
        device_(GetParam(), kDeviceBlocks * kBlock),
        begin_(kBlock - sector_),
        end_((kBlocks - 1) * kBlock + sector_) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  // Poison everywhere, old bytes where the file has some.
  void Fill(const PublishedFile& file) {
    AlignedBuffer content = FilledBuffer(kDeviceBlocks * kBlock, kPoison);
    for (const auto& [block, state] : file.states) {
      if (state != BlockState::kMapped) continue;
      std::memset(content.data() + PublishedFile::DeviceBlock(block) * kBlock,
                  'o', kBlock);
    }
    ASSERT_TRUE(
        device_->Write(0, content.data(), kDeviceBlocks * kBlock, 0).ok());
    device_->ClearTrace();
  }

  Result Write(PublishedFile* file, char* memory, bool async) {
    IoRequest io(IoDirection::kWrite, *file, begin_, memory, end_ - begin_,
                 kBlocks * kBlock);
    io->async = async;
    io->observer = file;
    file->request_end = end_;
    return RunIo(device_.get(), &io);
  }

  // The whole file, read back through the engine.
  void ExpectNothingStale(const PublishedFile& file, uint64_t written) {
    device_->ClearTrace();
    EXPECT_EQ(0u, file.reserved);
    EXPECT_EQ(0, device_->stats().reservations);
    AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'x');
    IoRequest io(IoDirection::kRead, file, 0, memory.data(), kBlocks * kBlock,
                 kBlocks * kBlock);
    ASSERT_EQ(kBlocks * kBlock, RunIo(device_.get(), &io).bytes());
    for (uint64_t i = 0; i < kBlocks * kBlock; ++i) {
      const char byte = memory.data()[i];
      const bool mine = i >= begin_ && i < end_;
      ASSERT_TRUE(byte == 'o' || byte == '\0' || (byte == 'n' && mine))
          << "byte " << i << ": " << byte;
      // What was reported as written, whole blocks of it, is there.
      if (i >= begin_ && i < AlignDown(begin_ + written, kBlock)) {
        ASSERT_EQ('n', byte) << i;
      }
    }
  }

  const uint64_t sector_;
  EngineDevice device_;
  // From the last sector of the first block, which is unwritten, to the first
  // sector of the last one, which is a hole.
  const uint64_t begin_;
  const uint64_t end_;
};

INSTANTIATE_TEST_SUITE_P(All, StaleBytes, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(StaleBytes, ForEveryBioThatFails) {
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'n');
  for (const int error : {0, EIO, ENOSPC, EFAULT}) {
    for (uint64_t k = 1; k <= (error == 0 ? 1 : kBlocks); ++k) {
      PublishedFile file;
      Fill(file);
      if (error != 0) device_->FailNth(k, error);
      const Result result = Write(&file, memory.data(), k % 2 == 0);
      EXPECT_EQ(kBlocks, device_->trace().size());
      uint64_t written = 0;
      if (error == 0) {
        written = end_ - begin_;
      } else if (error == EFAULT && k > 1) {
        // A short success: what lies before the memory that was not there.
        written = (k - 1) * kBlock - begin_;
      }
      EXPECT_EQ(written, result.bytes()) << result.ToString();
      EXPECT_EQ(written > 0 ? 0 : error, result.error());
      EXPECT_EQ(written, file.bytes);
      ExpectNothingStale(file, written);
    }
  }
}

class StaleBytesOfTornMemory : public StaleBytes {};

INSTANTIATE_TEST_SUITE_P(Real, StaleBytesOfTornMemory,
                         testing::ValuesIn(RealEngines()), EngineTestName);

// No injection: the kernel finds that a page of the caller's is not there. (A
// simulated device would touch it.)
TEST_P(StaleBytesOfTornMemory, WhenMemoryIsNotThere) {
  for (const bool async : {false, true}) {
    for (uint64_t page = 0; page < kBlocks; ++page) {
      PublishedFile file;
      Fill(file);
      TornMemory memory(kBlocks);
      memory.Tear(page);
      // Page i of the memory is block i of the file.
      const Result result = Write(&file, memory.data() + begin_, async);
      const uint64_t written = page == 0 ? 0 : page * kBlock - begin_;
      EXPECT_EQ(written, result.bytes()) << result.ToString();
      EXPECT_EQ(page == 0 ? EFAULT : 0, result.error());
      ExpectNothingStale(file, written);
    }
  }
}

}  // namespace
}  // namespace diofs
