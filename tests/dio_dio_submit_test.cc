#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio_submit.h"
#include "dio/plug.h"
#include "tests/queue_device.h"
#include "tests/sim_device.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kDeviceBytes = 64 * kBlock;

using Run = std::vector<TestMapper::Block>;

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

Result MoveSegments(BlockDevice* device, const BlockMapper& mapper,
                    IoDirection direction, uint64_t offset,
                    const std::vector<iovec>& segments, uint64_t file_size) {
  DioRequest request;
  request.direction = direction;
  request.offset = offset;
  request.segments = segments.data();
  request.segment_count = static_cast<int>(segments.size());
  request.file_size = file_size;
  request.mapper = &mapper;
  Dio dio(device);
  Plug plug(device);
  dio.Submit(request, &plug);
  plug.Finish();
  return dio.Wait();
}

TEST(DioSubmit, StaysASmallStackObject) { EXPECT_LE(sizeof(DioSubmit), 128u); }

// ---- Zeroing around partial blocks: every case, on poison -----------------

struct ZeroingParam {
  uint64_t logical_block_bytes;
  uint64_t block_bytes;
};

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

class DioSubmitTest : public testing::Test {
 protected:
  DioSubmitTest()
      : device_(SimDevice::MakeGeometry(kDeviceBytes)),
        mapper_(TestMapper::Run(BlockState::kMapped, 4, 16)),
        memory_(BufferPool::Get(256 << 10)) {
    std::memset(memory_.data(), 'm', memory_.size());
  }
  ~DioSubmitTest() override { EXPECT_EQ(0u, BioPool::in_use()); }

  Result Read(uint64_t offset, size_t length, uint64_t file_size) {
    return Move(&device_, mapper_, IoDirection::kRead, offset, memory_.data(),
                length, file_size);
  }
  Result Write(uint64_t offset, size_t length, uint64_t file_size) {
    return Move(&device_, mapper_, IoDirection::kWrite, offset, memory_.data(),
                length, file_size);
  }

  SimDevice device_;
  TestMapper mapper_;
  AlignedBuffer memory_;
};

TEST_F(DioSubmitTest, ZeroLengthAsksNobody) {
  EXPECT_EQ(0u, Read(512, 0, 10000).bytes());
  EXPECT_TRUE(Write(512, 0, 10000).ok());
  EXPECT_TRUE(
      Move(&device_, mapper_, IoDirection::kWrite, 7, nullptr, 0, 0).ok());
  EXPECT_TRUE(mapper_.calls().empty());
}

// Seed defect D3: also in a mapped (preallocated) block, and before the
// alignment is looked at.
TEST_F(DioSubmitTest, ReadsFromTheEndOnAreEmpty) {
  for (const uint64_t offset : {10000u, 10001u, 10240u, 20480u, 999999u}) {
    const Result result = Read(offset, 4096, 10000);
    EXPECT_TRUE(result.ok());
    EXPECT_EQ(0u, result.bytes());
  }
  EXPECT_EQ(0u, Read(0, 4096, 0).bytes());
  EXPECT_TRUE(mapper_.calls().empty());
  EXPECT_EQ(0u, device_.reads());
}

TEST_F(DioSubmitTest, OffsetsNoFileCanHave) {
  EXPECT_EQ(EINVAL, Write(UINT64_MAX - 511, 512, 0).error());
  EXPECT_EQ(EINVAL, Write(UINT64_MAX - 511, 1024, 0).error());
  EXPECT_EQ(EINVAL, Write(uint64_t{INT64_MAX} - 511, 1024, 0).error());
  const std::vector<iovec> segments = {{memory_.data(), SIZE_MAX - 511},
                                       {memory_.data(), 1024}};
  EXPECT_EQ(EINVAL,
            MoveSegments(&device_, mapper_, IoDirection::kWrite, 0, segments, 0)
                .error());
  EXPECT_TRUE(mapper_.calls().empty());
}

TEST_F(DioSubmitTest, AcceptsExactlyWhatIsAligned) {
  Geometry geometry = SimDevice::MakeGeometry(kDeviceBytes, 4096);
  geometry.memory_align_bytes = 512;
  SimDevice coarse(geometry);
  std::vector<uint64_t> values;
  for (uint64_t v = 0; v <= 4096; v += 256) values.push_back(v);
  for (const uint64_t odd : {1, 3, 511, 513, 4095}) values.push_back(odd);
  for (const uint64_t address : values) {
    for (const uint64_t offset : values) {
      for (const uint64_t length : values) {
        const Result result =
            Move(&coarse, mapper_, IoDirection::kRead, offset,
                 memory_.data() + address, length, 10 * kBlock);
        const bool aligned =
            length == 0 ||
            (address % 512 == 0 && offset % 4096 == 0 && length % 4096 == 0);
        ASSERT_EQ(aligned ? 0 : EINVAL, result.error())
            << address << " " << offset << " " << length;
        ASSERT_EQ(aligned ? length : 0, result.bytes());
      }
    }
  }
}

TEST_F(DioSubmitTest, EverySegmentIsChecked) {
  std::vector<iovec> segments = {{memory_.data(), 512},
                                 {memory_.data() + 1024, 256},
                                 {memory_.data() + 2048, 256}};
  EXPECT_EQ(EINVAL, MoveSegments(&device_, mapper_, IoDirection::kRead, 0,
                                 segments, 4096)
                        .error());
  segments = {{memory_.data(), 512},
              {memory_.data() + 1, 0},
              {memory_.data() + 1024, 512}};
  EXPECT_EQ(1024u, MoveSegments(&device_, mapper_, IoDirection::kRead, 0,
                                segments, 4096)
                       .bytes());
  segments[1] = {memory_.data() + 1, 512};
  EXPECT_EQ(EINVAL, MoveSegments(&device_, mapper_, IoDirection::kRead, 0,
                                 segments, 4096)
                        .error());
}

TEST_F(DioSubmitTest, BlockSizesThatCannotBe) {
  for (const uint32_t block_bytes : {0u, 256u, 1000u, 4097u}) {
    EXPECT_EQ(EINVAL, Move(&device_, mapper_, IoDirection::kRead, 0,
                           memory_.data(), 512, 4096, block_bytes)
                          .error());
  }
  EXPECT_TRUE(mapper_.calls().empty());
}

// ---- The end of the file ---------------------------------------------------

TEST_F(DioSubmitTest, ReadsEndAtTheEndOfTheFile) {
  const std::string image = device_.Image();
  for (uint64_t size = 1; size <= 2 * kBlock + 1; size += 127) {
    for (uint64_t offset = 0; offset < size; offset += 512) {
      std::memset(memory_.data(), 'm', memory_.size());
      const Result result = Read(offset, 4 * kBlock, size);
      ASSERT_EQ(size - offset, result.bytes()) << result.ToString();
      // What the sector with the end holds, and nothing behind it.
      const uint64_t moved = AlignUp(size, 512) - offset;
      ASSERT_TRUE(image.compare(4 * kBlock + offset, moved,
                                std::string(memory_.data(), moved)) == 0);
      ASSERT_EQ(std::string(512, 'm'), std::string(memory_.data() + moved, 512))
          << size << " " << offset;
    }
  }
}

TEST_F(DioSubmitTest, BlocksBehindTheEndAreNotEvenMapped) {
  EXPECT_EQ(kBlock + 1u, Read(0, 16 * kBlock, kBlock + 1).bytes());
  ASSERT_EQ(1u, mapper_.calls().size());
  EXPECT_EQ(2u, mapper_.calls()[0].count);
  EXPECT_FALSE(mapper_.calls()[0].create);
  EXPECT_EQ(kBlock + 512, device_.stats().by_class[0].read_bytes);
}

// ---- Holes and unwritten blocks --------------------------------------------

TEST_F(DioSubmitTest, HolesAndUnwrittenBlocksReadAsZerosForNothing) {
  for (const BlockState state :
       {BlockState::kHole, BlockState::kUnwritten, BlockState::kNew}) {
    mapper_.blocks = TestMapper::Run(state, 4, 16);
    std::memset(memory_.data(), 'm', memory_.size());
    EXPECT_EQ(2560u, Read(512, 2560, 1 << 20).bytes());
    EXPECT_EQ(std::string(2560, '\0') + "m",
              std::string(memory_.data(), 2560 + 1));
  }
  EXPECT_EQ(0u, device_.reads());
}

TEST_F(DioSubmitTest, AHugeHoleIsOneStep) {
  mapper_.answer = [](uint64_t, uint64_t count, BlockMapping* mapping) {
    mapping->count = count;
    return Result::Ok();
  };
  const uint64_t tebibyte = uint64_t{1} << 40;
  EXPECT_EQ(memory_.size(),
            Read(tebibyte / 2, memory_.size(), tebibyte).bytes());
  EXPECT_EQ(1u, mapper_.calls().size());
  EXPECT_EQ(std::string(memory_.size(), '\0'),
            std::string(memory_.data(), memory_.size()));
}

TEST_F(DioSubmitTest, AWriteIntoAHoleFallsBack) {
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 3);
  mapper_.blocks[1].state = BlockState::kHole;
  EXPECT_EQ(ENOTBLK, Write(0, 3 * kBlock, 3 * kBlock).error());
  // What lies before the hole was written, the rest was not.
  ASSERT_EQ(1u, device_.writes());
  EXPECT_EQ(kBlock, device_.Events()[0].bytes);
  EXPECT_TRUE(mapper_.calls()[0].create);
}

// ---- Sections, bios and batches --------------------------------------------

TEST_F(DioSubmitTest, OneMappingServesAllSegments) {
  std::vector<iovec> segments;
  segments.reserve(9);
  for (int i = 7; i >= 0; --i) {
    segments.push_back({memory_.data() + size_t{8192} * i, 4096});
  }
  const Result result = MoveSegments(&device_, mapper_, IoDirection::kRead, 0,
                                     segments, 16 * kBlock);
  EXPECT_EQ(8u * kBlock, result.bytes());
  EXPECT_EQ(1u, mapper_.calls().size());
  EXPECT_EQ(1u, device_.reads());
  const std::string image = device_.Image();
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_EQ(image.substr((4 + i) * kBlock, kBlock),
              std::string(static_cast<char*>(segments[i].iov_base), kBlock));
  }
}

TEST_F(DioSubmitTest, DeviceContiguousMappingsShareABio) {
  // Two states, so two mappings, yet one run of the device and of memory.
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 4);
  mapper_.blocks[2].state = mapper_.blocks[3].state = BlockState::kUnwritten;
  ASSERT_TRUE(Write(0, 4 * kBlock, 0).ok());
  EXPECT_EQ(2u, mapper_.calls().size());
  ASSERT_EQ(1u, device_.Events().size());
  EXPECT_EQ(4u * kBlock, device_.Events()[0].bytes);
  EXPECT_EQ(1u, device_.Events()[0].segments);
}

TEST_F(DioSubmitTest, AGapInTheDeviceStartsANewBio) {
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 4);
  mapper_.blocks[2].device_block = 20;
  mapper_.blocks[3].device_block = 21;
  ASSERT_TRUE(Write(0, 4 * kBlock, 0).ok());
  ASSERT_EQ(2u, device_.Events().size());
  EXPECT_EQ(20u * kBlock, device_.Events()[1].offset);
}

TEST_F(DioSubmitTest, SectorsOfOnePageAreOneSegment) {
  const std::vector<iovec> segments = {{memory_.data(), 512},
                                       {memory_.data() + 512, 512},
                                       {memory_.data() + 1024, 512}};
  ASSERT_TRUE(
      MoveSegments(&device_, mapper_, IoDirection::kWrite, 0, segments, 1 << 20)
          .ok());
  ASSERT_EQ(1u, device_.Events().size());
  EXPECT_EQ(1u, device_.Events()[0].segments);
}

TEST_F(DioSubmitTest, TheDevicesLimitsCut) {
  Geometry geometry = SimDevice::MakeGeometry(kDeviceBytes);
  geometry.max_bio_bytes = 8 * kBlock;
  geometry.max_bio_segments = 4;
  SimDevice device(geometry);
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 32);
  // 20 blocks from sector 1 on: the first bio ends at a physical block.
  ASSERT_TRUE(Move(&device, mapper_, IoDirection::kWrite, 512, memory_.data(),
                   20 * kBlock, 1 << 20)
                  .ok());
  std::vector<SimEvent> events = device.Events();
  ASSERT_EQ(3u, events.size());
  EXPECT_EQ(8u * kBlock - 512, events[0].bytes);
  EXPECT_EQ(12u * kBlock, events[1].offset);
  EXPECT_EQ(8u * kBlock, events[1].bytes);
  EXPECT_EQ(4u * kBlock + 512, events[2].bytes);

  // Scattered memory runs out of segments first; reads need no zeros.
  std::vector<iovec> segments;
  segments.reserve(9);
  for (int i = 0; i < 9; ++i) {
    segments.push_back({memory_.data() + size_t{1024} * i, 512});
  }
  ASSERT_TRUE(
      MoveSegments(&device, mapper_, IoDirection::kRead, 0, segments, 1 << 20)
          .ok());
  EXPECT_EQ(3u, device.reads());
}

TEST_F(DioSubmitTest, BoundarySubmitsAtOnce) {
  QueueDevice device(SimDevice::MakeGeometry(kDeviceBytes));
  mapper_.blocks = TestMapper::Run(BlockState::kMapped, 4, 8);
  mapper_.blocks[3].boundary = true;
  const iovec segment = {memory_.data(), 8 * kBlock};
  DioRequest request;
  request.segments = &segment;
  request.segment_count = 1;
  request.file_size = 8 * kBlock;
  request.mapper = &mapper_;
  Dio dio(&device);
  Plug plug(&device);
  dio.Submit(request, &plug);
  // Seed defects D1 and D2: the first half left, exactly then, and once.
  EXPECT_EQ(std::vector<size_t>({1}), device.batches());
  plug.Finish();
  EXPECT_EQ(std::vector<size_t>({1, 1}), device.batches());
  device.CompleteAll();
  EXPECT_EQ(8u * kBlock, dio.Wait().bytes());
}

TEST_F(DioSubmitTest, BoundaryCountsWhenItsLastBlockIsOnlyPartlyUsed) {
  QueueDevice device(SimDevice::MakeGeometry(kDeviceBytes));
  mapper_.blocks = TestMapper::Run(BlockState::kNew, 4, 1);
  mapper_.blocks[0].boundary = true;
  const iovec segment = {memory_.data(), 512};
  DioRequest request;
  request.direction = IoDirection::kWrite;
  request.segments = &segment;
  request.segment_count = 1;
  request.mapper = &mapper_;
  Dio dio(&device);
  Plug plug(&device);
  dio.Submit(request, &plug);
  // With its zeros.
  ASSERT_EQ(1u, device.queued());
  Bio* const bio = device.Take(0);
  EXPECT_EQ(kBlock, bio->bytes());
  bio->End(bio->bytes());
  EXPECT_EQ(512u, dio.Wait().bytes());
}

// ---- Mappers that lie -------------------------------------------------------

struct BadMapping {
  const char* what;
  BlockState state;
  uint64_t device_block;
  int64_t extra;  // count: what was asked for, plus this
};

TEST_F(DioSubmitTest, BadMappingsEndInEio) {
  constexpr uint64_t kDeviceBlocks = kDeviceBytes / kBlock;
  const BadMapping bad[] = {
      {"none", BlockState::kMapped, 4, -4},
      {"none of a hole", BlockState::kHole, 0, -4},
      {"more than asked for", BlockState::kMapped, 4, 1},
      {"a longer hole", BlockState::kHole, 0, 1},
      {"far more", BlockState::kMapped, 4, INT64_MAX},
      {"ends behind the device", BlockState::kMapped, kDeviceBlocks - 3, 0},
      {"starts behind the device", BlockState::kUnwritten, kDeviceBlocks, -3},
      {"wraps around", BlockState::kNew, UINT64_MAX - 1, 0},
      {"wraps around in bytes", BlockState::kMapped, UINT64_MAX / kBlock + 2,
       0},
      {"no such state", static_cast<BlockState>(17), 4, 0},
  };
  const std::string before = device_.Image();
  for (const BadMapping& mapping : bad) {
    mapper_.answer = [&](uint64_t, uint64_t count, BlockMapping* answer) {
      answer->state = mapping.state;
      answer->device_block = mapping.device_block;
      answer->count = count + static_cast<uint64_t>(mapping.extra);
      return Result::Ok();
    };
    EXPECT_EQ(EIO, Read(0, 4 * kBlock, 1 << 20).error()) << mapping.what;
    EXPECT_EQ(EIO, Write(0, 4 * kBlock, 1 << 20).error()) << mapping.what;
  }
  EXPECT_EQ(0u, device_.reads());
  EXPECT_EQ(0u, device_.writes());
  EXPECT_TRUE(before == device_.Image());
  EXPECT_EQ(std::string(64, 'm'), std::string(memory_.data(), 64));
}

TEST_F(DioSubmitTest, TheMappersErrorIsKept) {
  mapper_.answer = [](uint64_t first, uint64_t, BlockMapping* mapping) {
    if (first > 0) return Result::Error(ENOSPC);
    *mapping = {BlockState::kNew, 4, 1, false};
    return Result::Ok();
  };
  EXPECT_EQ(ENOSPC, Write(0, 4 * kBlock, 0).error());
  EXPECT_EQ(2u, mapper_.calls().size());
}

// Once something has failed nothing more is asked for nor started.
TEST_F(DioSubmitTest, NothingIsMappedAfterTheFirstError) {
  for (TestMapper::Block& block : mapper_.blocks) block.boundary = true;
  device_.FailNth(SimOp::kWrite, 3, ETIMEDOUT);
  EXPECT_EQ(ETIMEDOUT, Write(0, 16 * kBlock, 0).error());
  EXPECT_EQ(3u, mapper_.calls().size());
  EXPECT_EQ(3u, device_.writes());
}

}  // namespace
}  // namespace diofs
