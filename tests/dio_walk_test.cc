// What the walk asks the mapper for, what it makes of the answers, and where it
// stops.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "dio/align.h"
#include "tests/bad_mappings.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;

class Walk : public testing::TestWithParam<EngineParam> {
 protected:
  Walk() : sector_(GetParam().logical_block_bytes) {}

  // False where this machine has no such backend.
  bool Open(uint64_t blocks, void (*tweak)(Geometry*) = nullptr) {
    device_ =
        std::make_unique<EngineDevice>(GetParam(), blocks * kBlock, tweak);
    return device_->get() != nullptr;
  }
  TracingDevice* device() { return device_->get(); }
  std::string DeviceBytes(uint64_t offset, uint64_t bytes) {
    return device_->Image().substr(offset, bytes);
  }

  const uint64_t sector_;
  std::unique_ptr<EngineDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(All, Walk, testing::ValuesIn(AllEngines()),
                         EngineTestName);

#define OPEN_OR_SKIP(...) \
  if (!Open(__VA_ARGS__)) GTEST_SKIP() << "no such backend here"

// ---- Segments ---------------------------------------------------------------

struct Shape {
  uint64_t count;  // of segments
  uint64_t pages;  // in each
};

// The segments of that shape over `memory`, of which two never touch.
std::vector<iovec> Scatter(const Shape& shape, char* memory) {
  std::vector<iovec> segments;
  const uint64_t bytes = shape.pages * kBlock;
  for (uint64_t i = 0; i < shape.count; ++i) {
    segments.push_back({memory + i * (bytes + 512), bytes});
  }
  return segments;
}

uint64_t ExpectedBios(const Shape& shape, const Geometry& geometry,
                      IoDirection direction) {
  const uint64_t bytes = shape.count * shape.pages * kBlock;
  if (shape.count == 1) return DivideRoundUp(bytes, geometry.max_bio_bytes);
  // Writes have two segments more, for the zeros around a partial block.
  uint64_t segments = geometry.max_bio_segments;
  if (direction == IoDirection::kWrite &&
      geometry.logical_block_bytes < kBlock) {
    segments += 2;
  }
  return DivideRoundUp(shape.count, segments);
}

TEST_P(Walk, SegmentsOfAnyShapeMoveTheSameBytes) {
  constexpr uint64_t kMost = IOV_MAX + 10;
  OPEN_OR_SKIP(kMost + 8);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 5, kMost));
  const AlignedBuffer content = PatternBuffer(kMost * kBlock, 3);
  AlignedBuffer memory = BufferPool::Get(kMost * (kBlock + 512));
  const Shape shapes[] = {{1, 65},           {65, 1},      {1, 129},
                          {IOV_MAX - 1, 1},  {IOV_MAX, 1}, {IOV_MAX + 1, 1},
                          {IOV_MAX + 10, 1}, {3, 20}};
  for (const Shape& shape : shapes) {
    const uint64_t piece = shape.pages * kBlock;
    const uint64_t bytes = shape.count * piece;
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      IoRequest io(direction, mapper, 0, nullptr, 0, kMost * kBlock);
      io.segments = Scatter(shape, memory.data());
      for (uint64_t i = 0; i < shape.count; ++i) {
        void* const base = io.segments[i].iov_base;
        if (direction == IoDirection::kWrite) {
          std::memcpy(base, content.data() + i * piece, piece);
        } else {
          std::memset(base, 0, piece);
        }
      }
      device()->ClearTrace();
      const Result result = RunIo(device(), &io);
      ASSERT_EQ(bytes, result.bytes()) << result.ToString();
      EXPECT_EQ(ExpectedBios(shape, device()->geometry(), direction),
                device()->trace().size())
          << shape.count << " segments of " << shape.pages << " pages";
      for (uint64_t i = 0; i < shape.count; ++i) {
        ASSERT_EQ(0, std::memcmp(io.segments[i].iov_base,
                                 content.data() + i * piece, piece));
      }
    }
    EXPECT_TRUE(std::string(content.data(), bytes) ==
                DeviceBytes(5 * kBlock, bytes));
  }
}

// Lengths that fit no page, empty segments among them: still one run.
TEST_P(Walk, SegmentsOfAnySizeAreWalkedAsGiven) {
  OPEN_OR_SKIP(64);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 5, 32));
  AlignedBuffer memory = FilledBuffer(16 * kBlock, 'm');
  IoRequest io(IoDirection::kRead, mapper, sector_, memory.data(), sector_,
               1 << 20);
  io.segments.push_back({memory.data() + 1, 0});
  io.segments.push_back({memory.data() + 2 * kBlock, 3 * sector_});
  io.segments.push_back({nullptr, 0});
  io.segments.push_back({memory.data() + 8 * kBlock, 2 * sector_});
  io.segments.push_back({memory.data() + 8 * kBlock + 2 * sector_, sector_});
  ASSERT_EQ(7 * sector_, RunIo(device(), &io).bytes());
  ASSERT_EQ(1u, device()->trace().size());
  EXPECT_EQ(3u, device()->trace()[0].segments);
  std::string read(memory.data(), sector_);
  read.append(memory.data() + 2 * kBlock, 3 * sector_);
  read.append(memory.data() + 8 * kBlock, 3 * sector_);
  EXPECT_TRUE(DeviceBytes(5 * kBlock + sector_, 7 * sector_) == read);
}

// ---- The mapper -------------------------------------------------------------

TEST_P(Walk, TheMapperIsAskedForTheRestAtOnce) {
  constexpr uint64_t kBlocks = 24;
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  for (uint64_t extent = 1; extent <= kBlocks; ++extent) {
    // Every extent ends at a gap.
    TestMapper mapper;
    for (uint64_t i = 0; i < kBlocks; ++i) {
      mapper.blocks.push_back({BlockState::kMapped, i + i / extent, false});
    }
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      const size_t before = mapper.calls().size();
      // From the middle of the first block to the middle of the last one.
      IoRequest io(direction, mapper, kBlock - sector_, memory.data(),
                   (kBlocks - 2) * kBlock + 2 * sector_, kBlocks * kBlock);
      const uint64_t first = io->offset / kBlock;
      ASSERT_EQ(io.segments[0].iov_len, RunIo(device(), &io).bytes());
      std::vector<TestMapper::Call> calls = mapper.calls();
      calls.erase(calls.begin(), calls.begin() + before);
      uint64_t block = first;
      for (const TestMapper::Call& call : calls) {
        EXPECT_EQ(block, call.first);
        EXPECT_EQ(kBlocks - block, call.count);
        EXPECT_EQ(direction == IoDirection::kWrite, call.create);
        block = (block / extent + 1) * extent;
      }
      EXPECT_GE(block, kBlocks);
    }
  }
}

// By return value, in every build; nothing moves and nothing is left over. As
// the first answer, and in the middle of a request that has begun.
TEST_P(Walk, AMappingThatContradictsItselfEndsInEio) {
  OPEN_OR_SKIP(kBadMappingsDeviceBlocks);
  AlignedBuffer memory = FilledBuffer(8 * kBlock, 'm');
  for (const BadMapping& bad : kBadMappings) {
    for (const uint64_t good : {0, 1}) {
      for (const IoDirection direction :
           {IoDirection::kWrite, IoDirection::kRead}) {
        TestMapper mapper;
        mapper.answer = [&](uint64_t first, uint64_t count,
                            BlockMapping* mapping) {
          if (first < good) {
            *mapping = {BlockState::kMapped, 20, 1, true, 0};
            return Result::Ok();
          }
          bad.Answer(count, mapping);
          return Result::Ok();
        };
        const std::string before = device_->Image();
        device()->ClearTrace();
        IoRequest io(direction, mapper, 0, memory.data(), (4 + good) * kBlock,
                     1 << 20);
        EXPECT_EQ(EIO, RunIo(device(), &io).error()) << bad.what;
        EXPECT_EQ(good + 1, mapper.calls().size()) << bad.what;
        EXPECT_EQ(good, device()->trace().size()) << bad.what;
        EXPECT_EQ(0u, device()->bios_in_use());
        std::string after = device_->Image();
        after.replace(20 * kBlock, kBlock, before, 20 * kBlock, kBlock);
        EXPECT_TRUE(before == after) << bad.what;
        EXPECT_EQ(std::string(kBlock, 'm'),
                  std::string(memory.data() + good * kBlock, kBlock));
        std::memset(memory.data(), 'm', kBlock);
      }
    }
  }
}

TEST_P(Walk, TheMappersErrorIsKept) {
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'm');
  for (const int error : {ENOSPC, ESTALE, EIO, EDQUOT}) {
    TestMapper mapper;
    mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
      if (first > 1) return Result::Error(error);
      *mapping = {BlockState::kNew, 4 + 2 * first, 1, false, 0};
      return Result::Ok();
    };
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 4 * kBlock, 0);
    EXPECT_EQ(error, RunIo(device(), &io).error());
    EXPECT_EQ(3u, mapper.calls().size());
  }
}

// Every mapping is sent off at once, so that the third one's failure is known
// before the fourth is asked for.
TEST_P(Walk, AfterTheFirstErrorTheMapperIsNotAsked) {
  constexpr uint64_t kBlocks = 12;
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  for (const int error : {EFAULT, ENOSPC, ETIMEDOUT}) {
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      for (uint64_t k = 1; k <= kBlocks; ++k) {
        TestMapper mapper(ScatteredBlocks(kBlocks));
        for (TestMapper::Block& block : mapper.blocks) block.boundary = true;
        device()->ClearTrace();
        device()->FailNth(k, error);
        IoRequest io(direction, mapper, 0, memory.data(), kBlocks * kBlock,
                     kBlocks * kBlock);
        const Result result = RunIo(device(), &io);
        if (error == EFAULT && k > 1) {
          EXPECT_EQ((k - 1) * kBlock, result.bytes());
        } else {
          EXPECT_EQ(error, result.error());
        }
        EXPECT_EQ(k, mapper.calls().size());
        EXPECT_EQ(k, device()->trace().size());
      }
    }
  }
}

// ---- Holes ------------------------------------------------------------------

TEST_P(Walk, AHugeHoleIsOneStep) {
  OPEN_OR_SKIP(64);
  constexpr uint64_t kTebibyte = uint64_t{1} << 40;
  constexpr uint64_t kBytes = 1 << 20;
  AlignedBuffer memory = FilledBuffer(kBytes, 'm');
  // All of the file is a hole, which is told as far as it was asked for.
  const TestMapper mapper;
  for (const uint64_t offset :
       {uint64_t{0}, kTebibyte / 2 + sector_, kTebibyte - kBytes}) {
    std::memset(memory.data(), 'm', kBytes);
    const size_t before = mapper.calls().size();
    IoRequest io(IoDirection::kRead, mapper, offset, memory.data(), kBytes,
                 kTebibyte);
    EXPECT_EQ(kBytes, RunIo(device(), &io).bytes());
    EXPECT_EQ(1u, mapper.calls().size() - before);
    EXPECT_TRUE(std::string(kBytes, '\0') ==
                std::string(memory.data(), kBytes));
  }
  EXPECT_TRUE(device()->trace().empty());
}

class SkipHoles : public Walk {
 protected:
  // Writes with kSkipHoles; the result, and whether it fell back.
  Result Write(const TestMapper& mapper, uint64_t offset, char* memory,
               uint64_t bytes, uint64_t file_size) {
    IoRequest io(IoDirection::kWrite, mapper, offset, memory, bytes, file_size);
    io->write_mode = WriteMode::kSkipHoles;
    std::unique_ptr<Dio> dio;
    Result result = RunIo(device(), &io, &dio);
    fallback_ = dio->fallback();
    return result;
  }

  bool fallback_ = false;
};

INSTANTIATE_TEST_SUITE_P(All, SkipHoles, testing::ValuesIn(AllEngines()),
                         EngineTestName);

// The mode is one of writes.
TEST_P(SkipHoles, AReadGoesThroughHoles) {
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(3 * kBlock, 'r');
  TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, 3));
  mapper.blocks[1].state = BlockState::kHole;
  IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), 3 * kBlock,
               3 * kBlock);
  io->write_mode = WriteMode::kSkipHoles;
  EXPECT_EQ(3 * kBlock, RunIo(device(), &io).bytes());
  EXPECT_EQ(DeviceBytes(10 * kBlock, kBlock),
            std::string(memory.data(), kBlock));
  EXPECT_EQ(std::string(kBlock, '\0'),
            std::string(memory.data() + kBlock, kBlock));
}

TEST_P(SkipHoles, AHoleInsideTheFileEndsTheWriteShort) {
  constexpr uint64_t kBlocks = 6;
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'w');
  for (uint64_t hole = 0; hole < kBlocks; ++hole) {
    TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, kBlocks));
    mapper.blocks[hole].state = BlockState::kHole;
    const std::string before = device_->Image();
    const Result result =
        Write(mapper, 0, memory.data(), kBlocks * kBlock, kBlocks * kBlock);
    EXPECT_EQ(hole * kBlock, result.bytes()) << result.ToString();
    EXPECT_TRUE(fallback_);
    for (const TestMapper::Call& call : mapper.calls()) {
      EXPECT_FALSE(call.create);
    }
    std::string expected = before;
    expected.replace(10 * kBlock, hole * kBlock, hole * kBlock, 'w');
    EXPECT_TRUE(expected == device_->Image());
    AlignedBuffer old = FilledBuffer(kBlocks * kBlock, 'o');
    ASSERT_TRUE(
        device()->Write(10 * kBlock, old.data(), kBlocks * kBlock, 0).ok());
  }
}

// Behind the last block of the file, and only there, blocks may be allocated.
TEST_P(SkipHoles, BehindTheLastBlockItMayAllocate) {
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'w');
  TestMapper mapper;
  mapper.answer = [](uint64_t first, uint64_t count, BlockMapping* mapping) {
    mapping->state = first < 2 ? BlockState::kMapped : BlockState::kNew;
    mapping->device_block = 10 + first;
    mapping->count = first < 2 ? std::min<uint64_t>(count, 2 - first) : count;
    return Result::Ok();
  };
  const Result result = Write(mapper, 0, memory.data(), 4 * kBlock, 2 * kBlock);
  EXPECT_EQ(4 * kBlock, result.bytes()) << result.ToString();
  EXPECT_FALSE(fallback_);
  const std::vector<TestMapper::Call> calls = mapper.calls();
  ASSERT_EQ(2u, calls.size());
  // Not asked beyond the last block without create.
  EXPECT_EQ(2u, calls[0].count);
  EXPECT_FALSE(calls[0].create);
  EXPECT_EQ(2u, calls[1].first);
  EXPECT_TRUE(calls[1].create);
  EXPECT_TRUE(std::string(4 * kBlock, 'w') ==
              DeviceBytes(10 * kBlock, 4 * kBlock));
}

TEST_P(SkipHoles, D4ThePartialLastBlockIsInside) {
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(2 * kBlock, 'w');
  const TestMapper mapper;  // nothing but a hole
  // The file ends anywhere in its third block.
  for (const uint64_t size :
       {2 * kBlock + 1, 2 * kBlock + 512, 3 * kBlock - 1, 3 * kBlock}) {
    const size_t before = mapper.calls().size();
    EXPECT_EQ(0u,
              Write(mapper, 2 * kBlock, memory.data(), kBlock, size).bytes());
    EXPECT_TRUE(fallback_) << size;
    ASSERT_EQ(before + 1, mapper.calls().size());
    EXPECT_FALSE(mapper.calls().back().create) << size;
    EXPECT_EQ(1u, mapper.calls().back().count);
  }
  // At a block's start the file has no block there.
  for (const uint64_t size : {uint64_t{0}, kBlock, 2 * kBlock}) {
    (void)Write(mapper, 2 * kBlock, memory.data(), kBlock, size);
    EXPECT_TRUE(mapper.calls().back().create) << size;
  }
}

// ---- Boundaries, and bios that cannot be
// -------------------------------------

// The boundary belongs to a section that is still pending when the next mapping
// is met, or joins it in one bio: it counts all the same, exactly once.
TEST_P(Walk, D1ABoundarySurvivesThePendingSection) {
  constexpr uint64_t kBlocks = 8;
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    for (uint64_t boundary = 0; boundary < kBlocks; ++boundary) {
      // One run of the device: without the boundary it would be one bio.
      TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, kBlocks));
      mapper.blocks[boundary].boundary = true;
      device()->ClearTrace();
      IoRequest io(direction, mapper, 0, memory.data(), kBlocks * kBlock,
                   kBlocks * kBlock);
      // Two segments, so that the section has grown.
      io.segments = {{memory.data(), kBlock},
                     {memory.data() + kBlock, (kBlocks - 1) * kBlock}};
      Dio dio(device());
      Plug plug(device());
      (void)dio.Submit(io.get(), &plug);
      const std::vector<TracedBio> sent = device()->trace();
      ASSERT_EQ(1u, sent.size()) << boundary;
      EXPECT_EQ((boundary + 1) * kBlock, sent[0].bytes);
      EXPECT_EQ(1u, device()->batches());
      plug.Finish();
      EXPECT_EQ(boundary + 1 < kBlocks ? 2u : 1u, device()->batches());
      EXPECT_EQ(kBlocks * kBlock, dio.Wait().bytes());
    }
  }
}

// A boundary behind blocks of which none needs a bio, and a device that takes
// no section at all.
TEST_P(Walk, D2ABioThatCouldNotBeBuiltIsNotSubmitted) {
  OPEN_OR_SKIP(64, [](Geometry* geometry) { geometry->max_bio_segments = 0; });
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'm');
  for (const BlockState state : {BlockState::kHole, BlockState::kUnwritten}) {
    TestMapper mapper(TestMapper::Run(state, 4, 4));
    for (TestMapper::Block& block : mapper.blocks) block.boundary = true;
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), 4 * kBlock,
                 4 * kBlock);
    EXPECT_EQ(4 * kBlock, RunIo(device(), &io).bytes());
  }
  for (const bool boundary : {false, true}) {
    TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 4));
    mapper.blocks[3].boundary = boundary;
    IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), 4 * kBlock,
                 4 * kBlock);
    EXPECT_EQ(EIO, RunIo(device(), &io).error());
    EXPECT_EQ(0u, device()->bios_in_use());
  }
  EXPECT_TRUE(device()->trace().empty());
  EXPECT_EQ(0u, device()->batches());
}

// ---- The size of the file
// ----------------------------------------------------

// Also in a mapped (preallocated) block, and before the alignment or anything
// else is looked at.
TEST_P(Walk, D3AReadBehindTheEndIsEmpty) {
  OPEN_OR_SKIP(64);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 32));
  AlignedBuffer memory = FilledBuffer(2 * kBlock, 'm');
  for (const uint64_t size :
       {uint64_t{0}, uint64_t{1}, 2 * kBlock - 100, 2 * kBlock}) {
    for (const uint64_t behind : {0, 1, 99, 100, 511, 512, 4096, 100000}) {
      for (const uint64_t misaligned : {0, 1}) {
        IoRequest io(IoDirection::kRead, mapper, size + behind,
                     memory.data() + misaligned, kBlock - misaligned, size);
        if (behind == 4096) io->mapper = nullptr;
        if (behind == 512) io->block_bytes = 7;
        const Result result = RunIo(device(), &io);
        EXPECT_TRUE(result.ok()) << result.ToString();
        EXPECT_EQ(0u, result.bytes());
      }
    }
  }
  EXPECT_TRUE(mapper.calls().empty());
  EXPECT_TRUE(device()->trace().empty());
  EXPECT_EQ(std::string(2 * kBlock, 'm'),
            std::string(memory.data(), 2 * kBlock));
}

// The caller's request changes under the walk, as a file does that another
// thread extends or truncates: what counts is the size it began with.
TEST_P(Walk, D5TheSizeIsSampledOnce) {
  OPEN_OR_SKIP(64);
  AlignedBuffer memory = FilledBuffer(4 * kBlock, 'w');
  const uint64_t begun = 4 * kBlock - 100;
  for (const uint64_t later : {uint64_t{1}, begun + 1, uint64_t{1} << 30}) {
    DioRequest* changed = nullptr;
    TestMapper mapper;
    mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
      *mapping = {BlockState::kMapped, 8 + first, 1, false, 0};
      changed->file_size = later;
      return Result::Ok();
    };
    // A read ends at the size it began with.
    IoRequest read(IoDirection::kRead, mapper, 0, memory.data(), 4 * kBlock,
                   begun);
    changed = &read.request;
    EXPECT_EQ(begun, RunIo(device(), &read).bytes());
    EXPECT_EQ(4u, mapper.calls().size());

    // A write inside the file keeps what follows in its last block; one that
    // ends behind it zeroes that. Only small sectors have such a rest.
    if (sector_ == kBlock) continue;
    for (const bool inside : {true, false}) {
      const std::string before = DeviceBytes(8 * kBlock, 4 * kBlock);
      IoRequest write(IoDirection::kWrite, mapper, 0, memory.data(),
                      3 * kBlock + sector_,
                      inside ? 4 * kBlock : 3 * kBlock + 1);
      changed = &write.request;
      EXPECT_EQ(3 * kBlock + sector_, RunIo(device(), &write).bytes());
      const uint64_t rest = kBlock - sector_;
      EXPECT_TRUE((inside ? before.substr(3 * kBlock + sector_)
                          : std::string(rest, '\0')) ==
                  DeviceBytes(11 * kBlock + sector_, rest))
          << "inside " << inside << ", later " << later;
    }
  }
  // Where blocks may be allocated is decided by it, too.
  for (const uint64_t later : {uint64_t{0}, uint64_t{1} << 30}) {
    DioRequest* changed = nullptr;
    TestMapper mapper;
    mapper.answer = [&](uint64_t first, uint64_t, BlockMapping* mapping) {
      *mapping = {BlockState::kMapped, 8 + first, 1, false, 0};
      changed->file_size = later;
      return Result::Ok();
    };
    IoRequest write(IoDirection::kWrite, mapper, 0, memory.data(), 4 * kBlock,
                    2 * kBlock);
    write->write_mode = WriteMode::kSkipHoles;
    changed = &write.request;
    EXPECT_EQ(4 * kBlock, RunIo(device(), &write).bytes());
    const std::vector<TestMapper::Call> calls = mapper.calls();
    ASSERT_EQ(4u, calls.size());
    for (const TestMapper::Call& call : calls) {
      EXPECT_EQ(call.first >= 2, call.create);
    }
  }
}

}  // namespace
}  // namespace diofs
