// How the walk cuts a request into sections, segments, bios and batches; what
// it counts, and what it asks.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/read_batch.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/queue_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;

class Section : public testing::TestWithParam<EngineParam> {
 protected:
  Section() : sector_(GetParam().logical_block_bytes) {}

  // False where this machine has no such backend.
  bool Open(uint64_t device_bytes, void (*tweak)(Geometry*) = nullptr) {
    device_ = std::make_unique<EngineDevice>(GetParam(), device_bytes, tweak);
    return device_->get() != nullptr;
  }
  std::vector<TracedBio> Trace() { return device_->get()->trace(); }

  const uint64_t sector_;
  std::unique_ptr<EngineDevice> device_;
};

INSTANTIATE_TEST_SUITE_P(All, Section, testing::ValuesIn(AllEngines()),
                         EngineTestName);

#define OPEN_OR_SKIP(...) \
  if (!Open(__VA_ARGS__)) GTEST_SKIP() << "no such backend here"

// ---- What a bio takes -------------------------------------------------------

// Any memory, any offset: no bio is larger than the device takes, and the bytes
// are those of the file.
TEST_P(Section, NoBioExceedsWhatTheDeviceTakes) {
  OPEN_OR_SKIP(256 * kBlock, [](Geometry* geometry) {
    geometry->max_bio_bytes = 6 * 4096;
    geometry->max_bio_segments = 5;
  });
  const Geometry& geometry = device_->get()->geometry();
  std::mt19937_64 rng(TestSeed());
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 7, 200));
  AlignedBuffer content = PatternBuffer(200 * kBlock, 1);
  AlignedBuffer memory = BufferPool::Get(200 * kBlock);
  for (int round = 0; round < 60; ++round) {
    const uint64_t sectors = 200 * kBlock / sector_;
    const uint64_t first = rng() % sectors;
    const uint64_t count = 1 + rng() % std::min<uint64_t>(sectors - first, 300);
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      char* const base =
          (direction == IoDirection::kWrite ? content.data() : memory.data()) +
          first * sector_;
      IoRequest io(direction, mapper, first * sector_, base, count * sector_,
                   200 * kBlock);
      io.segments.clear();
      for (uint64_t at = 0; at < count;) {
        const uint64_t piece = std::min<uint64_t>(1 + rng() % 9, count - at);
        io.segments.push_back({base + at * sector_, piece * sector_});
        at += piece;
      }
      device_->get()->ClearTrace();
      const Result result = RunIo(device_->get(), &io);
      ASSERT_EQ(count * sector_, result.bytes()) << result.ToString();
      for (const TracedBio& bio : Trace()) {
        ASSERT_GT(bio.bytes, 0u);
        ASSERT_LE(bio.bytes, geometry.max_bio_bytes);
        ASSERT_LE(bio.segments, geometry.max_bio_segments + 2);
      }
    }
    ASSERT_EQ(0, std::memcmp(content.data() + first * sector_,
                             memory.data() + first * sector_, count * sector_))
        << "round " << round;
  }
}

// As many segments as a bio has, none next to the other, and zeros on both
// sides: one bio, and no segment too many.
TEST_P(Section, ZerosFitBesideAsManySegmentsAsTheDeviceTakes) {
  OPEN_OR_SKIP(4 << 20,
               [](Geometry* geometry) { geometry->max_bio_segments = 8; });
  const uint64_t block_bytes = 16 * sector_;
  const TestMapper mapper(TestMapper::Run(BlockState::kNew, 2, 1));
  AlignedBuffer memory = PatternBuffer(16 * sector_, 2);
  IoRequest io(IoDirection::kWrite, mapper, 2 * sector_, nullptr, 0, 0);
  io->block_bytes = static_cast<uint32_t>(block_bytes);
  io.segments.clear();
  std::string expected(2 * sector_, '\0');
  for (uint64_t i = 0; i < 8; ++i) {
    io.segments.push_back({memory.data() + 2 * i * sector_, sector_});
    expected.append(memory.data() + 2 * i * sector_, sector_);
  }
  expected.resize(block_bytes, '\0');
  EXPECT_EQ(8 * sector_, RunIo(device_->get(), &io).bytes());
  ASSERT_EQ(1u, Trace().size());
  EXPECT_EQ(10u, Trace()[0].segments);
  EXPECT_EQ(block_bytes, Trace()[0].bytes);
  EXPECT_TRUE(expected ==
              device_->Image().substr(2 * block_bytes, block_bytes));
}

// ---- What shares a bio ------------------------------------------------------

// File blocks 0 and 2 follow each other on the device, but not in the file.
TEST_P(Section, NeighboursOnTheDeviceThatAreNoneInTheFileAreTwoBios) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper({{BlockState::kMapped, 10, false},
                           {BlockState::kHole, 0, false},
                           {BlockState::kMapped, 11, false}});
  AlignedBuffer memory = FilledBuffer(3 * kBlock, 'm');
  IoRequest io(IoDirection::kRead, mapper, 0, memory.data(), 3 * kBlock,
               3 * kBlock);
  ASSERT_EQ(3 * kBlock, RunIo(device_->get(), &io).bytes());
  const std::vector<TracedBio> trace = Trace();
  ASSERT_EQ(2u, trace.size());
  EXPECT_EQ(10 * kBlock, trace[0].device_offset);
  EXPECT_EQ(0u, trace[0].file_offset);
  EXPECT_EQ(11 * kBlock, trace[1].device_offset);
  EXPECT_EQ(2 * kBlock, trace[1].file_offset);
  const std::string image = device_->Image();
  EXPECT_EQ(image.substr(10 * kBlock, kBlock) + std::string(kBlock, '\0') +
                image.substr(11 * kBlock, kBlock),
            std::string(memory.data(), 3 * kBlock));
}

TEST_P(Section, NeighboursInTheFileThatAreNoneOnTheDeviceAreTwoBios) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper({{BlockState::kMapped, 10, false},
                           {BlockState::kMapped, 11, false},
                           {BlockState::kMapped, 13, false},
                           {BlockState::kMapped, 12, false}});
  AlignedBuffer memory = PatternBuffer(4 * kBlock, 3);
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    device_->get()->ClearTrace();
    IoRequest io(direction, mapper, 0, memory.data(), 4 * kBlock, 4 * kBlock);
    ASSERT_EQ(4 * kBlock, RunIo(device_->get(), &io).bytes());
    ASSERT_EQ(3u, Trace().size());
    EXPECT_EQ(2 * kBlock, Trace()[0].bytes);
  }
  AlignedBuffer expected = PatternBuffer(4 * kBlock, 3);
  EXPECT_EQ(0, std::memcmp(expected.data(), memory.data(), 4 * kBlock));
}

// Pieces of one buffer, however the caller cut it, are one segment of one bio.
TEST_P(Section, NeighbouringPiecesOfOneBufferAreOneSegment) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, 8));
  AlignedBuffer memory = PatternBuffer(8 * sector_, 4);
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    device_->get()->ClearTrace();
    IoRequest io(direction, mapper, sector_, nullptr, 0, 8 * kBlock);
    io.segments.clear();
    for (uint64_t i = 0; i < 4; ++i) {
      io.segments.push_back({memory.data() + i * sector_, sector_});
    }
    // And a fifth that is not adjacent.
    io.segments.push_back({memory.data() + 6 * sector_, sector_});
    ASSERT_EQ(5 * sector_, RunIo(device_->get(), &io).bytes());
    ASSERT_EQ(1u, Trace().size());
    EXPECT_EQ(2u, Trace()[0].segments);
  }
}

// ---- When bios leave --------------------------------------------------------

TEST_P(Section, ABoundarySendsOffWhatHasGatheredAndNothingElseDoes) {
  OPEN_OR_SKIP(64 * kBlock);
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 5);
  for (uint64_t boundary = 0; boundary <= 8; ++boundary) {
    TestMapper mapper(ScatteredBlocks(8));
    // 8: none.
    if (boundary < 8) mapper.blocks[boundary].boundary = true;
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      device_->get()->ClearTrace();
      IoRequest io(direction, mapper, 0, memory.data(), 8 * kBlock, 8 * kBlock);
      Dio dio(device_->get());
      Plug plug(device_->get());
      (void)dio.Submit(io.get(), &plug);
      EXPECT_EQ(boundary == 8 ? 0u : boundary + 1, Trace().size());
      EXPECT_EQ(boundary == 8 ? 0u : 1u, device_->get()->batches());
      plug.Finish();
      EXPECT_EQ(8 * kBlock, dio.Wait().bytes());
      EXPECT_EQ(boundary < 7 ? 2u : 1u, device_->get()->batches());
      for (const TracedBio& bio : Trace()) {
        EXPECT_EQ(bio.file_offset <= boundary * kBlock ? 0u : 1u, bio.batch);
      }
    }
  }
}

// A MultiRead of n blocks takes one submission for each plug that it fills.
TEST_P(Section, ABatchLeavesInAsFewSubmissionsAsItsDepthAllows) {
  constexpr uint64_t kBlocks = 200;
  OPEN_OR_SKIP(2 * kBlocks * kBlock);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 2 * kBlocks));
  AlignedBuffer memory = FilledBuffer(kBlocks * kBlock, 'm');
  const std::string image = device_->Image();
  for (const uint64_t count : {1, 2, 63, 64, 65, 127, 128, 129, 200}) {
    std::vector<ReadRange> ranges(count);
    for (uint64_t i = 0; i < count; ++i) {
      ranges[i].offset = 2 * i * kBlock;
      ranges[i].length = kBlock;
      ranges[i].memory = memory.data() + i * kBlock;
    }
    ReadBatch::File file;
    file.device = device_->get();
    file.mapper = &mapper;
    file.file_size = 2 * kBlocks * kBlock;
    const uint64_t enters = device_->get()->inner()->stats().ring_submits;
    device_->get()->ClearTrace();
    ReadBatch batch;
    batch.Submit(file, ranges.data(), count, true);
    batch.Wait();
    for (uint64_t i = 0; i < count; ++i) {
      ASSERT_EQ(kBlock, ranges[i].result.bytes());
      ASSERT_EQ(
          0, image.compare(2 * i * kBlock, kBlock, ranges[i].memory, kBlock));
    }
    const uint64_t expected = DivideRoundUp(count, Plug::kMaxBios);
    EXPECT_EQ(expected, device_->get()->batches()) << count;
    if (GetParam().kind == EngineKind::kUring) {
      EXPECT_EQ(expected,
                device_->get()->inner()->stats().ring_submits - enters)
          << count;
    }
  }
}

// ---- What is counted, what is asked -----------------------------------------

// A write that meets a hole tells how far it came, wherever the hole is and
// however the memory is cut.
TEST_P(Section, APartialWriteCountsThePiecesBeforeItsEnd) {
  OPEN_OR_SKIP(64 * kBlock);
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 6);
  for (uint64_t hole = 0; hole <= 8; ++hole) {
    TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, 8));
    if (hole < 8) mapper.blocks[hole].state = BlockState::kHole;
    IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 8 * kBlock,
                 8 * kBlock);
    std::unique_ptr<Dio> dio;
    const Result result = RunIo(device_->get(), &io, &dio);
    EXPECT_EQ(hole * kBlock, result.bytes()) << result.ToString();
    EXPECT_EQ(hole < 8, dio->fallback());
  }
}

TEST_P(Section, D8BytesAreCountedByPieceNotBySegment) {
  OPEN_OR_SKIP(64 * kBlock);
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 7);
  // Segments that a block's end cuts.
  const uint64_t bytes = kBlock + kBlock / sector_ / 2 * sector_;
  for (uint64_t hole = 0; hole < 6; ++hole) {
    TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, 8));
    mapper.blocks[hole].state = BlockState::kHole;
    IoRequest io(IoDirection::kWrite, mapper, 0, nullptr, 0, 8 * kBlock);
    io.segments.clear();
    for (uint64_t i = 0; i < 4; ++i) {
      io.segments.push_back({memory.data() + i * 2 * kBlock, 2 * kBlock});
    }
    io.segments[0].iov_len = bytes;
    const Result result = RunIo(device_->get(), &io);
    EXPECT_EQ(hole * kBlock, result.bytes()) << hole;
  }
}

TEST_P(Section, OneMappingServesAllSegmentsInIt) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 10, 8));
  AlignedBuffer memory = PatternBuffer(16 * kBlock, 8);
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    IoRequest io(direction, mapper, 0, nullptr, 0, 8 * kBlock);
    io.segments.clear();
    for (uint64_t i = 0; i < 8; ++i) {
      io.segments.push_back({memory.data() + 2 * i * kBlock, kBlock});
    }
    const size_t calls = mapper.calls().size();
    ASSERT_EQ(8 * kBlock, RunIo(device_->get(), &io).bytes());
    EXPECT_EQ(calls + 1, mapper.calls().size());
  }
  EXPECT_EQ(2u, Trace().size());
}

TEST_P(Section, NothingAskedIsNothingDone) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper(TestMapper::Run(BlockState::kNew, 10, 8));
  char memory[1];
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    // Also at offsets and addresses that are not aligned.
    for (const uint64_t offset : {uint64_t{0}, uint64_t{7}, kBlock}) {
      for (const int count : {0, 1, 3}) {
        IoRequest io(direction, mapper, offset, memory, 0, kBlock);
        io.segments.assign(static_cast<size_t>(count), {memory, 0});
        const Result result = RunIo(device_->get(), &io);
        EXPECT_TRUE(result.ok()) << result.ToString();
        EXPECT_EQ(0u, result.bytes());
      }
    }
  }
  EXPECT_TRUE(mapper.calls().empty());
  EXPECT_TRUE(Trace().empty());
}

// Of the mapper nothing is needed, and it is not called, once Submit is back.
TEST_P(Section, TheMapperIsAskedInsideSubmitOnly) {
  OPEN_OR_SKIP(256 * kBlock);
  class LockedMap final : public BlockMapper {
   public:
    Result GetBlocks(uint64_t first, uint64_t, bool,
                     BlockMapping* mapping) const override {
      EXPECT_TRUE(*submitting);
      EXPECT_FALSE(*held) << "asked while it is being asked";
      *held = true;
      *mapping = {BlockState::kMapped, 2 * first, 1, first % 16 == 15, 0};
      *held = false;
      return Result::Ok();
    }
    bool* submitting = nullptr;
    bool* held = nullptr;
  };
  AlignedBuffer memory = PatternBuffer(100 * kBlock, 9);
  bool submitting = false;
  bool held = false;
  for (const bool async : {false, true}) {
    for (const IoDirection direction :
         {IoDirection::kWrite, IoDirection::kRead}) {
      auto map = std::make_unique<LockedMap>();
      map->submitting = &submitting;
      map->held = &held;
      IoRequest io(direction, *map, 0, memory.data(), 100 * kBlock,
                   100 * kBlock);
      io->async = async;
      Dio dio(device_->get());
      Plug plug(device_->get());
      submitting = true;
      (void)dio.Submit(io.get(), &plug);
      submitting = false;
      EXPECT_FALSE(held);
      map.reset();
      plug.Finish();
      EXPECT_EQ(100 * kBlock, dio.Wait().bytes());
    }
  }
}

// Zeros that nobody asked for are told apart from what was.
TEST_P(Section, PaddingIsCountedApart) {
  OPEN_OR_SKIP(64 * kBlock);
  const uint64_t block_bytes = 8 * sector_;
  const TestMapper mapper(TestMapper::Run(BlockState::kNew, 1, 4));
  AlignedBuffer memory = PatternBuffer(3 * block_bytes, 10);
  uint64_t asked = 0;
  uint64_t padded = 0;
  for (uint64_t head = 0; head < 8; ++head) {
    for (uint64_t sectors = 1; sectors <= 16; ++sectors) {
      IoRequest io(IoDirection::kWrite, mapper, head * sector_, memory.data(),
                   sectors * sector_, 0);
      io->block_bytes = static_cast<uint32_t>(block_bytes);
      io->io_class = 3;
      const Result result = RunIo(device_->get(), &io);
      ASSERT_EQ(sectors * sector_, result.bytes());
      asked += result.bytes();
      padded +=
          AlignUp((head + sectors) * sector_, block_bytes) - sectors * sector_;
    }
  }
  const IoStats& stats = device_->get()->stats();
  EXPECT_EQ(padded, stats.padding_bytes);
  EXPECT_EQ(asked + padded, stats.by_class[3].write_bytes);
  uint64_t traced = 0;
  for (const TracedBio& bio : Trace()) traced += bio.bytes;
  EXPECT_EQ(traced, asked + padded);
  // The backend counts alike, and a simulated one has seen the bytes.
  const IoStats& inner = device_->get()->inner()->stats();
  EXPECT_EQ(asked + padded, inner.by_class[3].write_bytes);
  if (device_->sim() == nullptr) return;
  uint64_t logged = 0;
  for (const SimEvent& event : device_->sim()->Submissions()) {
    logged += event.bytes;
  }
  EXPECT_EQ(stats.padding_bytes, logged - asked);
}

// ---- The priority -----------------------------------------------------------

TEST_P(Section, ThePriorityReachesTheDevice) {
  OPEN_OR_SKIP(64 * kBlock);
  const TestMapper mapper(ScatteredBlocks(4));
  AlignedBuffer memory = PatternBuffer(4 * kBlock, 11);
  // IOPRIO_PRIO_VALUE(class, level): best effort, and a class there is none of.
  constexpr uint16_t kBestEffort = 2 << 13 | 4;
  constexpr uint16_t kNoClass = 7 << 13;
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    for (const uint64_t blocks : {1, 4}) {
      for (const uint16_t ioprio : {uint16_t{0}, kBestEffort, kNoClass}) {
        device_->get()->ClearTrace();
        IoRequest io(direction, mapper, 0, memory.data(), blocks * kBlock,
                     4 * kBlock);
        io->ioprio = ioprio;
        const Result result = RunIo(device_->get(), &io);
        // A ring hands it to the kernel, which knows what there is.
        const bool refused =
            ioprio == kNoClass && GetParam().kind == EngineKind::kUring;
        EXPECT_EQ(refused ? EINVAL : 0, result.error()) << result.ToString();
        ASSERT_EQ(blocks, Trace().size());
        for (const TracedBio& bio : Trace()) EXPECT_EQ(ioprio, bio.ioprio);
      }
    }
  }
}

// ---- Memory -----------------------------------------------------------------

// A bio that comes back from the pool starts over in its header; the 2 KiB of
// segments behind it are left as they are.
TEST(BioMemory, BiosAreRecycledAndOnlyTheirHeaderIsReset) {
  QueueDevice device(SimDevice::MakeGeometry(64 * kBlock));
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 4, 8));
  AlignedBuffer memory = PatternBuffer(8 * kBlock, 12);
  IoRequest first(IoDirection::kWrite, mapper, 0, nullptr, 0, 8 * kBlock);
  first.segments.clear();
  for (uint64_t i = 0; i < 3; ++i) {
    first.segments.push_back({memory.data() + 2 * i * kBlock, kBlock});
  }
  first->ioprio = 9;
  first->io_class = 3;
  first->durability = Durability::kNone;
  Bio* used = nullptr;
  {
    Dio dio(&device);
    Plug plug(&device);
    (void)dio.Submit(first.get(), &plug);
    plug.Finish();
    used = device.Take(0);
    device.Complete(used, 512);
    ASSERT_TRUE(dio.Wait().ok());
  }
  IoRequest second(IoDirection::kRead, mapper, kBlock, memory.data(), 512,
                   8 * kBlock);
  Dio dio(&device);
  Plug plug(&device);
  (void)dio.Submit(second.get(), &plug);
  plug.Finish();
  Bio* const again = device.Take(0);
  EXPECT_EQ(used, again);
  EXPECT_EQ(1u, again->segment_count());
  EXPECT_EQ(512u, again->bytes());
  EXPECT_EQ(0u, again->done_bytes);
  EXPECT_EQ(512u, again->limit_bytes);
  EXPECT_EQ(0u, again->ioprio());
  EXPECT_EQ(0u, again->io_class());
  EXPECT_EQ(IoDirection::kRead, again->direction());
  EXPECT_EQ(kBlock, again->file_offset());
  for (uint64_t i = 1; i < 3; ++i) {
    EXPECT_EQ(memory.data() + 2 * i * kBlock, again->segments()[i].iov_base);
  }
  device.Complete(again, 512);
  EXPECT_TRUE(dio.Wait().ok());
}

}  // namespace
}  // namespace diofs
