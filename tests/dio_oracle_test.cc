// Random requests against a loop over single bytes.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "dio/align.h"
#include "tests/engine_device.h"
#include "tests/engine_io.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

class Oracle : public testing::TestWithParam<EngineParam> {
 protected:
  static constexpr uint64_t kFileBlocks = 12;
  static constexpr uint64_t kDeviceBlocks = 32;

  // Blocks of four sectors.
  Oracle()
      : sector_(GetParam().logical_block_bytes),
        block_(4 * sector_),
        device_(GetParam(), kDeviceBlocks * block_,
                [](Geometry* geometry) {
                  geometry->max_bio_bytes = 8 * 4096;
                  geometry->max_bio_segments = 5;
                }),
        rng_(TestSeed()) {}
  void SetUp() override {
    if (device_.get() == nullptr) GTEST_SKIP() << "no such backend here";
    image_ = device_.Image();
  }

  uint64_t Below(uint64_t limit) { return rng_() % limit; }

  // Any states anywhere on the device, in runs by chance.
  TestMapper MakeFile() {
    std::vector<uint64_t> places(kDeviceBlocks);
    for (uint64_t i = 0; i < kDeviceBlocks; ++i) places[i] = i;
    for (uint64_t i = 0; i < kDeviceBlocks; i += 1 + Below(4)) {
      std::swap(places[i], places[Below(kDeviceBlocks)]);
    }
    std::vector<TestMapper::Block> blocks(kFileBlocks);
    for (uint64_t i = 0; i < kFileBlocks; ++i) {
      blocks[i].state = static_cast<BlockState>(Below(4));
      // Long runs, too.
      if (i > 0 && Below(3) > 0) blocks[i].state = blocks[i - 1].state;
      blocks[i].device_block = places[i];
      blocks[i].boundary = Below(8) == 0;
    }
    return TestMapper(blocks);
  }

  // What a read moves, byte by byte.
  std::string Read(const TestMapper& file, uint64_t offset, uint64_t bytes,
                   uint64_t size) const {
    std::string moved;
    for (uint64_t at = offset; at < std::min(offset + bytes, size); ++at) {
      const TestMapper::Block& block = file.blocks[at / block_];
      moved += block.state == BlockState::kMapped
                   ? image_[block.device_block * block_ + at % block_]
                   : '\0';
    }
    return moved;
  }
  // What a write leaves on the device, byte by byte; the bytes moved.
  uint64_t Write(const TestMapper& file, uint64_t offset,
                 const std::string& data, uint64_t size) {
    uint64_t moved = 0;
    while (moved < data.size() &&
           file.blocks[(offset + moved) / block_].state != BlockState::kHole) {
      ++moved;
    }
    const uint64_t end = offset + moved;
    for (uint64_t at = AlignDown(offset, block_);
         moved > 0 && at < AlignUp(end, block_); ++at) {
      const TestMapper::Block& block = file.blocks[at / block_];
      char* const byte = &image_[block.device_block * block_ + at % block_];
      const bool fresh = block.state != BlockState::kMapped;
      if (at >= offset && at < end) {
        *byte = data[at - offset];
      } else if (fresh || (at >= end && end >= size)) {
        *byte = '\0';
      }
    }
    return moved;
  }

  void Cut(char* memory, uint64_t bytes, std::vector<iovec>* segments) {
    segments->clear();
    // Forwards or backwards in memory, so that neighbours do not always merge.
    const bool backwards = Below(2) == 0;
    uint64_t left = bytes;
    while (left > 0) {
      const uint64_t piece = std::min(left, sector_ * (1 + Below(6)));
      char* const start =
          backwards ? memory + (left - piece) : memory + (bytes - left);
      segments->push_back({start, piece});
      left -= piece;
    }
  }

  void Round();

  const uint64_t sector_;
  const uint64_t block_;
  EngineDevice device_;
  std::mt19937_64 rng_;
  std::string image_;
};

INSTANTIATE_TEST_SUITE_P(All, Oracle, testing::ValuesIn(AllEngines()),
                         EngineTestName);

void Oracle::Round() {
  const TestMapper file = MakeFile();
  const uint64_t sectors = kFileBlocks * 4;
  const uint64_t first = Below(sectors);
  const uint64_t offset = first * sector_;
  const uint64_t bytes = (1 + Below(sectors - first)) * sector_;
  const uint64_t size = Below(kFileBlocks * block_ + 1);
  const bool write = Below(2) == 0;
  AlignedBuffer memory = PatternBuffer(bytes, rng_());
  IoRequest io(write ? IoDirection::kWrite : IoDirection::kRead, file, offset,
               nullptr, 0, size);
  io->block_bytes = static_cast<uint32_t>(block_);
  io->async = Below(2) == 0;
  Cut(memory.data(), bytes, &io.segments);
  const auto gather = [&](uint64_t wanted) {
    std::string data;
    for (const iovec& segment : io.segments) {
      data.append(static_cast<char*>(segment.iov_base), segment.iov_len);
    }
    data.resize(wanted);
    return data;
  };
  uint64_t expected = 0;
  if (write) {
    expected = Write(file, offset, gather(bytes), size);
  }
  const Result result = RunIo(device_.get(), &io);
  ASSERT_TRUE(result.ok()) << result.ToString();
  if (!write) {
    const std::string moved = Read(file, offset, bytes, size);
    ASSERT_EQ(moved.size(), result.bytes());
    ASSERT_TRUE(moved == gather(moved.size()));
    return;
  }
  ASSERT_EQ(expected, result.bytes());
  // Where each look is a system call, not after each write.
  if (device_.sim() == nullptr && Below(8) > 0) return;
  ASSERT_TRUE(image_ == device_.Image());
}

TEST_P(Oracle, MovesWhatALoopOverBytesWouldMove) {
  const uint64_t rounds = ScaledRounds(device_.sim() != nullptr ? 3000 : 1000);
  for (uint64_t round = 0; round < rounds; ++round) {
    Round();
    if (HasFatalFailure()) FAIL() << "round " << round;
    if (round % 256 == 0) device_->ClearTrace();
    // A simulated device remembers what was not flushed.
    if (device_.sim() != nullptr && round % 16 == 0) {
      ASSERT_TRUE(device_->Flush().ok());
    }
  }
  ASSERT_TRUE(image_ == device_.Image());
}

}  // namespace
}  // namespace diofs
