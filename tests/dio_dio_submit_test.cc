#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <ostream>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/block_device.h"
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
constexpr uint64_t kDeviceBytes = 64 * kBlock;

// Moves `length` bytes at `offset`; the result after completion.
Result Move(BlockDevice* device, const BlockMapper& mapper,
            IoDirection direction, uint64_t offset, void* memory, size_t length,
            uint64_t file_size, uint32_t block_bytes = kBlock) {
  const iovec segment = {memory, length};
  DioRequest request;
  request.direction = direction;
  request.offset = offset;
  request.segments = &segment;
  request.segment_count = 1;
  request.file_size = file_size;
  request.mapper = &mapper;
  request.block_bytes = static_cast<uint32_t>(block_bytes);
  Dio dio(device);
  Plug plug(device);
  dio.Submit(request, &plug);
  plug.Finish();
  return dio.Wait();
}

// ---- Zeroing around partial blocks: every case, on poison -----------------

struct ZeroingParam {
  uint64_t logical_block_bytes;
  uint64_t block_bytes;
};

void PrintTo(const ZeroingParam& param, std::ostream* out) {
  *out << param.logical_block_bytes << "Of" << param.block_bytes;
}

class DioSubmitZeroing : public testing::TestWithParam<ZeroingParam> {
 protected:
  enum class Eof { kInside, kAt, kPast };

  static uint64_t FileSize(Eof eof, uint64_t offset, uint64_t end) {
    switch (eof) {
      case Eof::kInside:
        return end + 3;
      case Eof::kAt:
        return end;
      default:
        return offset;
    }
  }

  // What the device must hold after a write of `data` at `offset`.
  std::string Expected(std::string image, BlockState state,
                       uint64_t device_start, uint64_t offset,
                       const std::string& data, uint64_t file_size) const {
    const uint64_t block_bytes = GetParam().block_bytes;
    const uint64_t end = offset + data.size();
    const uint64_t first = AlignDown(offset, block_bytes);
    const uint64_t last = AlignUp(end, block_bytes);
    if (state != BlockState::kMapped) {
      image.replace(device_start + first, offset - first, offset - first, '\0');
    }
    if (state != BlockState::kMapped || end >= file_size) {
      image.replace(device_start + end, last - end, last - end, '\0');
    }
    return image.replace(device_start + offset, data.size(), data);
  }
};

TEST_P(DioSubmitZeroing, NoStaleByteBecomesPartOfTheFile) {
  const auto [sector, block_bytes] = GetParam();
  const Geometry geometry =
      SimDevice::MakeGeometry(8 * block_bytes, static_cast<uint32_t>(sector));
  const uint64_t sectors = block_bytes / sector;
  const std::string fresh = SimDevice(geometry).Image();
  AlignedBuffer memory = BufferPool::Get(3 * block_bytes);
  std::memset(memory.data(), 'w', memory.size());
  uint64_t cases = 0;
  for (const BlockState state :
       {BlockState::kNew, BlockState::kMapped, BlockState::kUnwritten}) {
    const TestMapper mapper(TestMapper::Run(state, 3, 4));
    for (const Eof eof : {Eof::kInside, Eof::kAt, Eof::kPast}) {
      for (uint64_t head = 0; head < sectors; ++head) {
        for (uint64_t length = 1; length <= 3 * sectors; ++length) {
          SimDevice device(fresh, geometry);
          const uint64_t offset = head * sector;
          const uint64_t bytes = length * sector;
          const uint64_t file_size = FileSize(eof, offset, offset + bytes);
          const Result result =
              Move(&device, mapper, IoDirection::kWrite, offset, memory.data(),
                   bytes, file_size, block_bytes);
          ASSERT_EQ(bytes, result.bytes()) << result.ToString();
          ASSERT_TRUE(Expected(fresh, state, 3 * block_bytes, offset,
                               std::string(bytes, 'w'),
                               file_size) == device.Image())
              << "state " << int(state) << " eof " << int(eof) << " head "
              << head << " length " << length;
          // Data and zeros leave as one request.
          ASSERT_EQ(1u, device.writes());
          ++cases;
        }
      }
    }
  }
  EXPECT_EQ(9 * sectors * 3 * sectors, cases);
}

INSTANTIATE_TEST_SUITE_P(Geometries, DioSubmitZeroing,
                         testing::Values(ZeroingParam{512, 4096},
                                         ZeroingParam{4096, 4096},
                                         ZeroingParam{4096, 16384},
                                         ZeroingParam{512, 512}));

// Seed defect D10: an append into a preallocated block must hide its old tail.
TEST(DioSubmitZero, AppendIntoUnwrittenBlockHidesOldTail) {
  SimDevice device(SimDevice::MakeGeometry(kDeviceBytes));
  const TestMapper mapper(TestMapper::Run(BlockState::kUnwritten, 5, 1));
  AlignedBuffer memory = BufferPool::Get(1024);
  std::memset(memory.data(), 'x', 1024);
  ASSERT_TRUE(
      Move(&device, mapper, IoDirection::kWrite, 0, memory.data(), 1024, 0)
          .ok());
  EXPECT_EQ(std::string(kBlock - 1024, '\0'),
            device.Image().substr(5 * kBlock + 1024, kBlock - 1024));
}

// Blocks larger than the zero region are padded from it several times over.
TEST(DioSubmitZero, LargeBlocks) {
  const uint64_t block_bytes = 256 << 10;
  SimDevice device(SimDevice::MakeGeometry(4 * block_bytes));
  const TestMapper mapper(TestMapper::Run(BlockState::kNew, 1, 1));
  AlignedBuffer memory = BufferPool::Get(512);
  std::memset(memory.data(), 'x', 512);
  const Result result = Move(&device, mapper, IoDirection::kWrite, 100 << 10,
                             memory.data(), 512, 0, block_bytes);
  ASSERT_TRUE(result.ok()) << result.ToString();
  std::string expected(block_bytes, '\0');
  expected.replace(100 << 10, 512, 512, 'x');
  EXPECT_TRUE(expected == device.Image().substr(block_bytes, block_bytes));
}

// ---- What is refused, and what costs nothing ------------------------------

class DioSubmitTest : public testing::TestWithParam<EngineParam> {
 protected:
  explicit DioSubmitTest(void (*tweak)(Geometry*) = nullptr)
      : sector_(GetParam().logical_block_bytes),
        device_(GetParam(), kDeviceBytes, tweak),
        mapper_(TestMapper::Run(BlockState::kMapped, 4, 16)),
        memory_(FilledBuffer(256 << 10, 'm')) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
  }

  Result Move(IoDirection direction, uint64_t offset,
              const std::vector<iovec>& segments, uint64_t file_size,
              uint32_t block_bytes = kBlock) {
    IoRequest io(direction, mapper_, offset, nullptr, 0, file_size);
    io.segments = segments;
    io->block_bytes = block_bytes;
    return RunIo(device_.get(), &io);
  }
  Result Read(uint64_t offset, size_t length, uint64_t file_size) {
    return Move(IoDirection::kRead, offset, {{memory_.data(), length}},
                file_size);
  }
  Result Write(uint64_t offset, size_t length, uint64_t file_size) {
    return Move(IoDirection::kWrite, offset, {{memory_.data(), length}},
                file_size);
  }
  std::vector<TracedBio> Trace() { return device_->trace(); }

  const uint64_t sector_;
  EngineDevice device_;
  TestMapper mapper_;
  AlignedBuffer memory_;
};

INSTANTIATE_TEST_SUITE_P(All, DioSubmitTest, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(DioSubmitTest, ZeroLengthAsksNobody) {
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    for (const uint64_t offset : {uint64_t{7}, uint64_t{512}, kDeviceBytes}) {
      EXPECT_EQ(0, Move(direction, offset, {}, 10000).error());
      EXPECT_EQ(0, Move(direction, offset, {{nullptr, 0}}, 10000).error());
      EXPECT_EQ(
          0, Move(direction, offset, {{memory_.data() + 1, 0}, {}}, 0).error());
    }
  }
  EXPECT_TRUE(mapper_.calls().empty());
  EXPECT_TRUE(Trace().empty());
}

TEST_P(DioSubmitTest, OffsetsAndLengthsNoFileCanHave) {
  for (const IoDirection direction :
       {IoDirection::kRead, IoDirection::kWrite}) {
    const auto error = [&](uint64_t offset,
                           const std::vector<iovec>& segments) {
      return Move(direction, offset, segments, UINT64_MAX).error();
    };
    EXPECT_EQ(EINVAL, error(UINT64_MAX - 4095, {{memory_.data(), 4096}}));
    EXPECT_EQ(EINVAL, error(UINT64_MAX - 4095, {{memory_.data(), 8192}}));
    EXPECT_EQ(EINVAL,
              error(uint64_t{INT64_MAX} - 4095, {{memory_.data(), 8192}}));
    EXPECT_EQ(EINVAL, error(0, {{memory_.data(), SIZE_MAX - 4095},
                                {memory_.data(), 8192}}));
    EXPECT_EQ(EINVAL, error(4096, {{memory_.data(), SIZE_MAX - 8191}}));
  }
  EXPECT_TRUE(mapper_.calls().empty());
  EXPECT_TRUE(Trace().empty());
}

TEST_P(DioSubmitTest, AcceptsExactlyWhatIsAligned) {
  std::vector<uint64_t> values;
  for (uint64_t v = 0; v <= 4096; v += 512) values.push_back(v);
  for (const uint64_t odd : {1, 3, 256, 511, 513, 4095}) values.push_back(odd);
  for (const uint64_t address : values) {
    for (const uint64_t offset : values) {
      for (const uint64_t length : values) {
        const Result result =
            Move(IoDirection::kRead, offset,
                 {{memory_.data() + address, length}}, 10 * kBlock);
        const bool aligned =
            length == 0 || (address % 512 == 0 && offset % sector_ == 0 &&
                            length % sector_ == 0);
        ASSERT_EQ(aligned ? 0 : EINVAL, result.error())
            << address << " " << offset << " " << length;
        ASSERT_EQ(aligned ? length : 0, result.bytes());
      }
    }
  }
}

TEST_P(DioSubmitTest, EverySegmentIsChecked) {
  char* const data = memory_.data();
  EXPECT_EQ(EINVAL, Move(IoDirection::kRead, 0,
                         {{data, sector_},
                          {data + 2 * sector_, 256},
                          {data + 4 * sector_, sector_ - 256}},
                         2 * kBlock)
                        .error());
  EXPECT_EQ(EINVAL, Move(IoDirection::kRead, 0,
                         {{data, sector_},
                          {data + 1, sector_},
                          {data + 2 * sector_, sector_}},
                         4 * kBlock)
                        .error());
  EXPECT_TRUE(Trace().empty());
  EXPECT_EQ(
      2 * sector_,
      Move(IoDirection::kRead, 0,
           {{data, sector_}, {data + 1, 0}, {data + 2 * sector_, sector_}},
           2 * kBlock)
          .bytes());
}

TEST_P(DioSubmitTest, BlockSizesThatCannotBe) {
  for (const uint32_t block_bytes : {0u, 256u, 1000u, 4097u}) {
    EXPECT_EQ(EINVAL, Move(IoDirection::kRead, 0, {{memory_.data(), kBlock}},
                           4096, block_bytes)
                          .error());
  }
  IoRequest io(IoDirection::kRead, mapper_, 0, memory_.data(), kBlock, 4096);
  io->mapper = nullptr;
  EXPECT_EQ(EINVAL, RunIo(device_.get(), &io).error());
  EXPECT_TRUE(mapper_.calls().empty());
}

// ---- The end of the file ---------------------------------------------------

TEST_P(DioSubmitTest, ReadsEndAtTheEndOfTheFile) {
  const std::string image = device_.Image();
  for (uint64_t size = 1; size <= 2 * kBlock + 1; size += 511) {
    for (uint64_t offset = 0; offset < size; offset += sector_) {
      std::memset(memory_.data(), 'm', memory_.size());
      const Result result = Read(offset, 4 * kBlock, size);
      ASSERT_EQ(size - offset, result.bytes()) << result.ToString();
      // What the sector with the end holds, and nothing behind it.
      const uint64_t moved = AlignUp(size, sector_) - offset;
      ASSERT_TRUE(image.compare(4 * kBlock + offset, moved,
                                std::string(memory_.data(), moved)) == 0);
      ASSERT_EQ(std::string(512, 'm'), std::string(memory_.data() + moved, 512))
          << size << " " << offset;
    }
  }
}

TEST_P(DioSubmitTest, BlocksBehindTheEndAreNotEvenMapped) {
  EXPECT_EQ(kBlock + 1u, Read(0, 16 * kBlock, kBlock + 1).bytes());
  ASSERT_EQ(1u, mapper_.calls().size());
  EXPECT_EQ(2u, mapper_.calls()[0].count);
  EXPECT_FALSE(mapper_.calls()[0].create);
  EXPECT_EQ(kBlock + sector_, device_->stats().by_class[0].read_bytes);
}

// ---- Holes and unwritten blocks --------------------------------------------

TEST_P(DioSubmitTest, HolesAndUnwrittenBlocksReadAsZerosForNothing) {
  for (const BlockState state :
       {BlockState::kHole, BlockState::kUnwritten, BlockState::kNew}) {
    mapper_.blocks = TestMapper::Run(state, 4, 16);
    std::memset(memory_.data(), 'm', memory_.size());
    const uint64_t bytes = 5 * sector_;
    EXPECT_EQ(bytes, Read(sector_, bytes, 1 << 20).bytes());
    EXPECT_EQ(std::string(bytes, '\0') + "m",
              std::string(memory_.data(), bytes + 1));
  }
  EXPECT_TRUE(Trace().empty());
}

TEST_P(DioSubmitTest, AWriteIntoAHoleFallsBack) {
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 3);
  mapper_.blocks[1].state = BlockState::kHole;
  EXPECT_EQ(kBlock, Write(0, 3 * kBlock, 3 * kBlock).bytes());
  // What lies before the hole was written, the rest was not.
  ASSERT_EQ(1u, Trace().size());
  EXPECT_EQ(kBlock, Trace()[0].bytes);
  EXPECT_TRUE(mapper_.calls()[0].create);
}

// ---- Sections, bios and batches --------------------------------------------

TEST_P(DioSubmitTest, DeviceContiguousMappingsShareABio) {
  // Two states, so two mappings, yet one run of the device and of memory.
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 4);
  mapper_.blocks[2].state = mapper_.blocks[3].state = BlockState::kUnwritten;
  ASSERT_TRUE(Write(0, 4 * kBlock, 0).ok());
  EXPECT_EQ(2u, mapper_.calls().size());
  ASSERT_EQ(1u, Trace().size());
  EXPECT_EQ(4u * kBlock, Trace()[0].bytes);
  EXPECT_EQ(1u, Trace()[0].segments);
}

TEST_P(DioSubmitTest, AGapInTheDeviceStartsANewBio) {
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 4);
  mapper_.blocks[2].device_block = 20;
  mapper_.blocks[3].device_block = 21;
  ASSERT_TRUE(Write(0, 4 * kBlock, 0).ok());
  ASSERT_EQ(2u, Trace().size());
  EXPECT_EQ(20u * kBlock, Trace()[1].device_offset);
}

class DioSubmitLimits : public DioSubmitTest {
 protected:
  DioSubmitLimits()
      : DioSubmitTest([](Geometry* geometry) {
          geometry->max_bio_bytes = 8 * kBlock;
          geometry->max_bio_segments = 4;
        }) {}
};

INSTANTIATE_TEST_SUITE_P(All, DioSubmitLimits, testing::ValuesIn(AllEngines()),
                         EngineTestName);

TEST_P(DioSubmitLimits, TheDevicesLimitsCut) {
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 32);
  // 20 blocks from the second sector on: the first bio ends at a physical
  // block.
  const uint64_t inside = sector_ % kBlock;
  ASSERT_TRUE(Write(sector_, 20 * kBlock, 1 << 20).ok());
  const std::vector<TracedBio> trace = Trace();
  ASSERT_EQ(3u, trace.size());
  EXPECT_EQ(8u * kBlock - inside, trace[0].bytes);
  EXPECT_EQ(trace[0].device_offset + trace[0].bytes, trace[1].device_offset);
  EXPECT_EQ(8u * kBlock, trace[1].bytes);
  EXPECT_EQ(4u * kBlock + inside, trace[2].bytes);

  // Scattered memory runs out of segments first; reads need no zeros.
  std::vector<iovec> segments;
  segments.reserve(9);
  for (uint64_t i = 0; i < 9; ++i) {
    segments.push_back({memory_.data() + 2 * sector_ * i, sector_});
  }
  device_->ClearTrace();
  ASSERT_TRUE(Move(IoDirection::kRead, 0, segments, 1 << 20).ok());
  EXPECT_EQ(3u, Trace().size());
}

TEST(DioSubmitBoundary, CountsWhenItsLastBlockIsOnlyPartlyUsed) {
  QueueDevice device(SimDevice::MakeGeometry(kDeviceBytes));
  TestMapper mapper(TestMapper::Run(BlockState::kNew, 4, 1));
  mapper.blocks[0].boundary = true;
  AlignedBuffer memory = FilledBuffer(512, 'm');
  IoRequest io(IoDirection::kWrite, mapper, 0, memory.data(), 512, 0);
  Dio dio(&device);
  Plug plug(&device);
  (void)dio.Submit(io.get(), &plug);
  // With its zeros.
  ASSERT_EQ(1u, device.queued());
  Bio* const bio = device.Take(0);
  EXPECT_EQ(kBlock, bio->bytes());
  device.Complete(bio, bio->bytes());
  EXPECT_EQ(512u, dio.Wait().bytes());
}

}  // namespace
}  // namespace diofs
