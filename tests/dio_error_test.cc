// Errors on their way from the device to who waits.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "dio/read_batch.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"

#if defined(DIOFS_VALGRIND)
#include <valgrind/valgrind.h>
#endif

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 6;

class ErrorTest : public testing::TestWithParam<EngineParam> {
 protected:
  ErrorTest()
      : device_(GetParam(), 64 * kBlock),
        mapper_(ScatteredBlocks(kBlocks)),
        memory_(PatternBuffer(kBlocks * kBlock, 1)) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  IoRequest Request(IoDirection direction, bool async = false) {
    IoRequest io(direction, mapper_, 0, memory_.data(), kBlocks * kBlock,
                 kBlocks * kBlock);
    io->async = async;
    return io;
  }

  EngineDevice device_;
  TestMapper mapper_;
  AlignedBuffer memory_;
};

class Errors : public ErrorTest {};

INSTANTIATE_TEST_SUITE_P(All, Errors, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(Errors, D6NoErrnoBecomesEioOnItsWay) {
  for (const int error : {ENOSPC, ETIMEDOUT, EREMOTEIO, ENODATA, EOPNOTSUPP,
                          ENXIO, EBADE, EILSEQ, ENOLINK, EIO}) {
    for (uint64_t nth = 1; nth <= kBlocks; ++nth) {
      for (const bool async : {false, true}) {
        device_->FailNth(nth, error);
        IoRequest write = Request(IoDirection::kWrite, async);
        EXPECT_EQ(error, RunIo(device_.get(), &write).error());
        // A read of a bad block is tried once more, in pieces.
        if (error == EIO || error == ENODATA || error == EILSEQ) continue;
        device_->FailNth(nth, error);
        IoRequest read = Request(IoDirection::kRead, async);
        EXPECT_EQ(error, RunIo(device_.get(), &read).error());
      }
    }
  }
  // What stays transient for too long, and a flush.
  device_->FailNth(1, EAGAIN);
  device_->FailMoves(EAGAIN);
  IoRequest write = Request(IoDirection::kWrite);
  EXPECT_EQ(EAGAIN, RunIo(device_.get(), &write).error());
  device_->FailMoves(0);
  device_->FailFlush(1, EREMOTEIO);
  write->durability = Durability::kFlush;
  EXPECT_EQ(EREMOTEIO, RunIo(device_.get(), &write).error());
}

TEST_P(Errors, OfSeveralErrorsTheFirstIsKept) {
  const int errors[] = {EREMOTEIO, ETIMEDOUT, ENOSPC};
  for (int first = 0; first < 3; ++first) {
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      // The tracer ends them in the order of submission.
      for (uint64_t i = 0; i < 3; ++i) {
        device_->FailNth(1 + 2 * i,
                         errors[(static_cast<uint64_t>(first) + i) % 3]);
      }
      IoRequest io = Request(direction);
      EXPECT_EQ(errors[first], RunIo(device_.get(), &io).error());
    }
  }
}

// ---- Memory that is not there -----------------------------------------------

TEST_P(Errors, D9AMemoryErrorAfterSomeProgressIsAShortSuccess) {
  for (const bool async : {false, true}) {
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      for (uint64_t nth = 1; nth <= kBlocks; ++nth) {
        EndRecorder recorder;
        device_->ClearTrace();
        device_->FailNth(nth, EFAULT);
        IoRequest io = Request(direction, async);
        io->observer = &recorder;
        const Result result = RunIo(device_.get(), &io);
        EXPECT_EQ(nth == 1 ? EFAULT : 0, result.error());
        EXPECT_EQ((nth - 1) * kBlock, result.bytes());
        ASSERT_EQ(1u, recorder.ends.size());
        EXPECT_EQ((nth - 1) * kBlock, recorder.ends[0].bytes);
      }
    }
  }
}

// Of several it is the first in the file that counts.
TEST_P(Errors, OfSeveralMemoryErrorsTheFirstPlaceCounts) {
  device_->FailNth(2, EFAULT);
  device_->FailNth(5, EFAULT);
  IoRequest io = Request(IoDirection::kRead);
  EXPECT_EQ(kBlock, RunIo(device_.get(), &io).bytes());
}

class UnmappedMemory : public ErrorTest {};

INSTANTIATE_TEST_SUITE_P(Real, UnmappedMemory, testing::ValuesIn(RealEngines()),
                         EngineTestName);

// The kernel finds it out by itself.
TEST_P(UnmappedMemory, D9MemoryThatIsUnmappedHalfWay) {
#if defined(DIOFS_VALGRIND)
  if (RUNNING_ON_VALGRIND != 0) GTEST_SKIP() << "memcheck finds it, too";
#endif
  char* const memory =
      static_cast<char*>(mmap(nullptr, kBlocks * kBlock, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(MAP_FAILED, static_cast<void*>(memory));
  std::memset(memory, 'm', kBlocks * kBlock);
  for (uint64_t there = kBlocks; there-- > 0;) {
    ASSERT_EQ(0, mprotect(memory + there * kBlock, kBlock, PROT_NONE));
    for (const bool async : {false, true}) {
      for (const IoDirection direction :
           {IoDirection::kWrite, IoDirection::kRead}) {
        IoRequest io(direction, mapper_, 0, memory, kBlocks * kBlock,
                     kBlocks * kBlock);
        io->async = async;
        const Result result = RunIo(device_.get(), &io);
        EXPECT_EQ(there == 0 ? EFAULT : 0, result.error());
        EXPECT_EQ(there * kBlock, result.bytes());
      }
    }
  }
  munmap(memory, kBlocks * kBlock);
}

// ---- Blocks that cannot be read ---------------------------------------------

class BadBlocks : public ErrorTest {};

INSTANTIATE_TEST_SUITE_P(All, BadBlocks, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// The block at each position; what is readable is read, and it is told what is
// not.
TEST_P(BadBlocks, OfALongReadOnlyTheBadBlockIsMissing) {
  const uint64_t sector = GetParam().logical_block_bytes;
  const uint64_t bytes = 16 * sector;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 16));
  const std::string image = device_.Image();
  for (uint64_t bad = 0; bad < 16; ++bad) {
    EngineDevice device(GetParam(), 64 * kBlock);
    device->SetUnreadable(4 * kBlock + bad * sector, 1);
    AlignedBuffer memory = FilledBuffer(bytes, 'u');
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), bytes,
                 16 * kBlock);
    std::unique_ptr<Dio> dio;
    const Result result = RunIo(device.get(), &io, &dio);
    EXPECT_EQ(ENODATA, result.error());
    EXPECT_NE(std::string::npos,
              result.context().find("unreadable block at " +
                                    std::to_string(4 * kBlock + bad * sector)))
        << result.ToString();
    ASSERT_EQ(1u, dio->unreadable().size());
    EXPECT_EQ(bad * sector, dio->unreadable()[0].file_offset);
    EXPECT_EQ(4 * kBlock + bad * sector, dio->unreadable()[0].device_offset);
    EXPECT_EQ(sector, dio->unreadable()[0].bytes);
    for (uint64_t i = 0; i < 16; ++i) {
      if (i == bad) continue;
      EXPECT_EQ(0, image.compare(4 * kBlock + i * sector, sector,
                                 memory.data() + i * sector, sector))
          << i << " beside " << bad;
    }
  }
}

// Each may take a device seconds: past sixteen of them the rest is given up.
TEST_P(BadBlocks, ManyBadBlocksAreNotAllTried) {
  const uint64_t sector = GetParam().logical_block_bytes;
  constexpr uint64_t kSectors = 50;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 64));
  for (uint64_t count = 14; count <= 20; ++count) {
    EngineDevice device(GetParam(), 64 * kBlock);
    // Every second one.
    for (uint64_t i = 0; i < count; ++i) {
      device->SetUnreadable(2 * i * sector, sector);
    }
    AlignedBuffer memory = FilledBuffer(kSectors * sector, 'u');
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(),
                 kSectors * sector, 64 * kBlock);
    std::unique_ptr<Dio> dio;
    EXPECT_EQ(ENODATA, RunIo(device.get(), &io, &dio).error());
    const std::vector<BadRange>& bad = dio->unreadable();
    ASSERT_EQ(std::min<uint64_t>(count, 17), bad.size());
    for (uint64_t i = 0; i < std::min<uint64_t>(count, 16); ++i) {
      EXPECT_EQ(2 * i * sector, bad[i].file_offset);
      EXPECT_EQ(sector, bad[i].bytes);
    }
    if (count > 16) {
      EXPECT_EQ(kSectors * sector, bad.back().file_offset + bad.back().bytes);
    }
  }
}

TEST_P(Errors, AnEioThatHealsIsNoError) {
  const std::string image = device_.Image();
  // How the block layer says it.
  const int errors[] = {EIO, ENODATA, EILSEQ};
  for (uint64_t nth = 1; nth <= kBlocks; ++nth) {
    std::memset(memory_.data(), 'u', memory_.size());
    const bool has_pieces = GetParam().logical_block_bytes < kBlock;
    const int error = errors[nth % 3];
    device_->FailNth(nth, error);
    IoRequest io = Request(IoDirection::kRead, nth % 2 == 0);
    std::unique_ptr<Dio> dio;
    const Result result = RunIo(device_.get(), &io, &dio);
    // A single block cannot be divided, and is not read twice.
    EXPECT_EQ(has_pieces, dio->unreadable().empty());
    ASSERT_EQ(has_pieces ? 0 : error, result.error()) << result.ToString();
    if (!has_pieces) continue;
    ASSERT_EQ(kBlocks * kBlock, result.bytes());
    for (uint64_t i = 0; i < kBlocks; ++i) {
      ASSERT_EQ(0, image.compare(2 * i * kBlock, kBlock,
                                 memory_.data() + i * kBlock, kBlock));
    }
  }
}

// Where something else went wrong too, what is known to be unreadable is not
// all that is missing, and is not told as such.
TEST_P(BadBlocks, BesideAnotherErrorTheyAreNotAll) {
  device_->SetUnreadable(0, 1);
  for (const int error : {ETIMEDOUT, EFAULT}) {
    device_->ClearTrace();
    device_->FailNth(3, error);
    IoRequest io = Request(IoDirection::kRead);
    std::unique_ptr<Dio> dio;
    const Result result = RunIo(device_.get(), &io, &dio);
    EXPECT_EQ(error == EFAULT ? ENODATA : ETIMEDOUT, result.error())
        << result.ToString();
    EXPECT_TRUE(dio->unreadable().empty());
  }
  // The mapper fails behind the bad block.
  TestMapper mapper;
  mapper.answer = [](uint64_t first, uint64_t, BlockMapping* mapping) {
    if (first > 0) return Result::Error(EUCLEAN);
    *mapping = {BlockState::kMapped, 0, 1, false, 0};
    return Result::Ok();
  };
  IoRequest io(IoDirection::kRead, mapper, 0, memory_.data(), 2 * kBlock,
               2 * kBlock);
  std::unique_ptr<Dio> dio;
  EXPECT_EQ(EUCLEAN, RunIo(device_.get(), &io, &dio).error());
  EXPECT_TRUE(dio->unreadable().empty());
}

// A bio that waits to be read again is one that others cannot have: where half
// of them are out none is kept.
TEST_P(BadBlocks, WithFewBiosTheReadJustFails) {
  EngineDevice device(GetParam(), 64 * kBlock, nullptr, 1);
  device->SetUnreadable(2 * kBlock, 1);
  IoRequest io = Request(IoDirection::kRead);
  std::unique_ptr<Dio> dio;
  EXPECT_EQ(ENODATA, RunIo(device.get(), &io, &dio).error());
  EXPECT_TRUE(dio->unreadable().empty());
  EXPECT_EQ(0u, device->bios_in_use());
}

// Reads that were merged into one fail only where a block of theirs is bad.
TEST_P(BadBlocks, OfMergedReadsOnlyThoseOfTheBadBlockFail) {
  const uint64_t sector = GetParam().logical_block_bytes;
  constexpr uint64_t kReads = 8;
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 64));
  const std::string image = device_.Image();
  for (const bool aligned : {true, false}) {
    for (uint64_t bad = 0; bad < kReads; ++bad) {
      EngineDevice device(GetParam(), 64 * kBlock);
      device->SetUnreadable(bad * sector, sector);
      AlignedBuffer memory = FilledBuffer(kReads * sector, 'u');
      std::vector<ReadRange> ranges(kReads);
      for (uint64_t i = 0; i < kReads; ++i) {
        ranges[i].offset = i * sector + (aligned ? 0 : 1);
        ranges[i].length = sector - (aligned ? 0 : 2);
        ranges[i].memory = memory.data() + i * sector;
      }
      ReadBatch::File file;
      file.device = device.get();
      file.mapper = &mapper;
      file.file_size = 64 * kBlock;
      ReadBatch batch;
      batch.Submit(file, ranges.data(), kReads, false);
      batch.Wait();
      ASSERT_EQ(1u, device->trace().size()) << "merged";
      for (uint64_t i = 0; i < kReads; ++i) {
        EXPECT_EQ(i == bad ? ENODATA : 0, ranges[i].result.error()) << i;
        if (i == bad) continue;
        EXPECT_EQ(ranges[i].length, ranges[i].result.bytes());
        EXPECT_EQ(0, image.compare(ranges[i].offset, ranges[i].length,
                                   ranges[i].memory, ranges[i].length))
            << i << " beside " << bad;
      }
    }
  }
}

}  // namespace
}  // namespace diofs
