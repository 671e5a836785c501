#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "tests/sim_device.h"
#include "tests/temp_dir.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// What the requests run on: "sim" with the given logical block, or an image
// file behind a real backend.
struct FuzzParam {
  const char* backend;
  uint32_t logical_block_bytes;
  uint32_t block_bytes;
};

std::ostream& operator<<(std::ostream& out, const FuzzParam& param) {
  return out << param.backend << " " << param.logical_block_bytes << "/"
             << param.block_bytes;
}

// Random requests against a model of single bytes, on poison.
class DioFuzz : public testing::TestWithParam<FuzzParam> {
 protected:
  static constexpr uint64_t kFileBlocks = 24;

  DioFuzz()
      : block_bytes_(GetParam().block_bytes),
        rng_(TestSeed()),
        model_(kFileBlocks * block_bytes_, '\0'),
        noise_(2 * model_.size(), '\0') {
    for (char& byte : noise_) byte = static_cast<char>(rng_());
    // The file's future blocks, all over the device and in runs by chance.
    std::vector<uint64_t> places(2 * kFileBlocks);
    for (uint64_t i = 0; i < places.size(); ++i) places[i] = i;
    for (uint64_t i = 0; i < places.size(); i += 1 + Below(4)) {
      std::swap(places[i], places[Below(places.size())]);
    }
    mapper_.blocks.resize(kFileBlocks);
    for (uint64_t i = 0; i < kFileBlocks; ++i) {
      mapper_.blocks[i].device_block = places[i];
      mapper_.blocks[i].boundary = Below(8) == 0;
      mapper_.blocks[i].state =
          Below(3) == 0 ? BlockState::kHole : BlockState::kUnwritten;
    }
  }

  void SetUp() override {
    const uint64_t bytes = 2 * kFileBlocks * block_bytes_;
    if (std::string("sim") == GetParam().backend) {
      Geometry geometry =
          SimDevice::MakeGeometry(bytes, GetParam().logical_block_bytes);
      geometry.max_bio_bytes = 8 * 4096;
      geometry.max_bio_segments = 5;
      device_ = std::make_unique<SimDevice>(geometry);
    } else {
      OpenImage(bytes);
    }
    sector_ = device_->geometry().logical_block_bytes;
    if (sector_ > block_bytes_) GTEST_SKIP() << "larger sectors here";
  }

  void OpenImage(uint64_t bytes) {
    ASSERT_TRUE(CreateImageFile(dir_.File("image"), bytes, false).ok());
    OpenDeviceOptions options;
    options.backend = std::string("uring") == GetParam().backend
                          ? Backend::kUring
                          : Backend::kSync;
    const Result result =
        OpenBlockDevice(dir_.File("image"), options, &device_);
    ASSERT_TRUE(result.ok()) << result.ToString();
    if (GetParam().backend != std::string(device_->backend_name())) {
      GTEST_SKIP() << "no " << GetParam().backend << " here";
    }
    AlignedBuffer poison = BufferPool::Get(bytes);
    std::memset(poison.data(), 0xA5, bytes);
    ASSERT_TRUE(device_->Write(0, poison.data(), bytes, 0).ok());
  }

  uint64_t Below(uint64_t limit) { return rng_() % limit; }

  // Cuts `length` bytes of memory into segments in random order of addresses.
  std::vector<iovec> Scatter(char* memory, uint64_t length) {
    std::vector<iovec> segments;
    uint64_t left = length;
    while (left > 0) {
      const uint64_t piece =
          std::min(left, sector_ * (1 + Below(Below(2) == 0 ? 2 : 20)));
      segments.push_back({nullptr, piece});
      left -= piece;
    }
    // Neighbours in memory, or not.
    const bool backwards = Below(2) == 0;
    char* next = backwards ? memory + length : memory;
    for (iovec& segment : segments) {
      if (backwards) next -= segment.iov_len;
      segment.iov_base = next;
      if (!backwards) next += segment.iov_len;
    }
    return segments;
  }

  Result Run(IoDirection direction, uint64_t offset,
             const std::vector<iovec>& segments) {
    DioRequest request;
    request.direction = direction;
    request.offset = offset;
    request.segments = segments.data();
    request.segment_count = static_cast<int>(segments.size());
    request.file_size = file_size_;
    request.mapper = &mapper_;
    request.block_bytes = GetParam().block_bytes;
    request.async = Below(2) == 0;
    Dio dio(device_.get());
    Plug plug(device_.get());
    dio.Submit(request, &plug);
    plug.Finish();
    return dio.Wait();
  }

  // A random range of the file in whole sectors.
  void Range(uint64_t* offset, uint64_t* length) {
    const uint64_t sectors = model_.size() / sector_;
    const uint64_t first = Below(sectors);
    *offset = first * sector_;
    *length = (1 + Below(std::min<uint64_t>(sectors - first, 60))) * sector_;
  }

  void Write() {
    uint64_t offset = 0;
    uint64_t length = 0;
    Range(&offset, &length);
    const uint64_t first = offset / block_bytes_;
    const uint64_t last = (offset + length - 1) / block_bytes_;
    for (uint64_t i = first; i <= last; ++i) {
      if (mapper_.blocks[i].state == BlockState::kHole) {
        mapper_.blocks[i].state = BlockState::kNew;
      }
    }
    AlignedBuffer memory = BufferPool::Get(length);
    const std::vector<iovec> segments = Scatter(memory.data(), length);
    // As a writer does that pads: the file ends inside the last sector, and
    // zeros follow.
    const uint64_t pad =
        offset + length > file_size_ && Below(2) == 0 ? Below(sector_) : 0;
    const uint64_t data = length - pad;
    model_.replace(offset, data, noise_, Below(noise_.size() - data), data);
    model_.replace(offset + data, pad, pad, '\0');
    uint64_t position = offset;
    for (const iovec& segment : segments) {
      model_.copy(static_cast<char*>(segment.iov_base), segment.iov_len,
                  position);
      position += segment.iov_len;
    }
    const Result result = Run(IoDirection::kWrite, offset, segments);
    ASSERT_EQ(length, result.bytes()) << result.ToString();
    file_size_ = std::max(file_size_, offset + length - pad);
    for (uint64_t i = first; i <= last; ++i) {
      mapper_.blocks[i].state = BlockState::kMapped;
    }
  }

  void Read() {
    uint64_t offset = 0;
    uint64_t length = 0;
    Range(&offset, &length);
    AlignedBuffer memory = BufferPool::Get(length);
    std::memset(memory.data(), 0x5A, length);
    const std::vector<iovec> segments = Scatter(memory.data(), length);
    const Result result = Run(IoDirection::kRead, offset, segments);
    const uint64_t expected =
        offset >= file_size_ ? 0 : std::min(length, file_size_ - offset);
    ASSERT_EQ(expected, result.bytes()) << result.ToString();
    uint64_t position = offset;
    const uint64_t end = offset + expected;
    for (const iovec& segment : segments) {
      if (position >= end) return;
      const uint64_t inside = std::min(segment.iov_len, end - position);
      ASSERT_TRUE(model_.compare(position, inside,
                                 static_cast<char*>(segment.iov_base),
                                 inside) == 0)
          << inside << " bytes at " << position << " of " << file_size_;
      position += inside;
    }
  }

  TempDir dir_;
  const uint64_t block_bytes_;
  uint64_t sector_ = 0;
  std::unique_ptr<BlockDevice> device_;
  std::mt19937_64 rng_;
  TestMapper mapper_;
  std::string model_;
  std::string noise_;  // what is written is cut from
  uint64_t file_size_ = 0;
};

TEST_P(DioFuzz, AgreesWithAByteModel) {
  const int operations = std::string("sim") == GetParam().backend ? 1500 : 400;
  for (int i = 0; i < operations; ++i) {
    if (Below(3) == 0) {
      Write();
    } else {
      Read();
    }
    if (i % 64 == 0) {
      ASSERT_TRUE(device_->Flush().ok());
    }
    if (HasFatalFailure()) FAIL() << "operation " << i;
  }
  EXPECT_EQ(0u, BioPool::in_use());
}

INSTANTIATE_TEST_SUITE_P(
    Backends, DioFuzz,
    testing::Values(FuzzParam{"sim", 512, 4096}, FuzzParam{"sim", 4096, 4096},
                    FuzzParam{"sim", 512, 512}, FuzzParam{"sim", 4096, 16384},
                    FuzzParam{"sync", 512, 4096}, FuzzParam{"uring", 512, 4096},
                    FuzzParam{"uring", 512, 16384}));

}  // namespace
}  // namespace diofs
