// ctest: RUN_SERIAL
// ctest: TIMEOUT=600

// What syncs cost, as the kernel counts it on a block device.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <utility>

#include "dio/buffer_pool.h"
#include "dio/open_device.h"
#include "dio/uring_device.h"
#include "env/file_kind.h"
#include "env/file_writer.h"
#include "env/volume.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = uint64_t{1} << 30;

struct DeviceCounts {
  uint64_t writes = 0;  // requests, flushes among them
  uint64_t sectors = 0;
  uint64_t flushes = 0;
};

class DeviceCountsTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string image = dir_.File("image");
    std::ofstream(image).close();
    ASSERT_EQ(truncate(image.c_str(), kImageBytes), 0);
    loop_ = std::make_unique<LoopDevice>(image);
    if (!loop_->ok()) GTEST_SKIP() << "no loop device is to be had";
    OpenDeviceOptions open;
    std::unique_ptr<BlockDevice> device;
    ASSERT_TRUE(OpenBlockDevice(loop_->path(), open, &device).ok());
    FormatOptions format;
    format.write_every_block = false;
    ASSERT_TRUE(Volume::Format(device.get(), format).ok());
    ASSERT_TRUE(Volume::Mount(std::move(device), NoClock(), &volume_).ok());
    ASSERT_TRUE(OpenWriter(volume_.get(), "/000001.log", &writer_).ok());
    writer_->SetPreallocation(512 << 20);
    ASSERT_TRUE(writer_->Append("first", 5).ok());
    ASSERT_TRUE(writer_->Sync().ok());
  }

  // As /proc/diskstats has it.
  DeviceCounts Counts() const {
    const std::string name = loop_->path().substr(5);
    std::ifstream stats("/proc/diskstats");
    std::string line;
    while (std::getline(stats, line)) {
      std::istringstream words(line);
      uint64_t values[20] = {};
      std::string device;
      words >> values[0] >> values[1] >> device;
      if (device != name) continue;
      for (int i = 3; i < 20; ++i) words >> values[i];
      return {values[7], values[9], values[18]};
    }
    ADD_FAILURE() << "/proc/diskstats does not know " << name;
    return {};
  }
  uint64_t JournalWrites() const {
    return volume_->device()->stats().by_class[kIoClassJournal].writes.load();
  }
  void AppendAndSync(uint64_t bytes) {
    ASSERT_TRUE(writer_->Append(content_.data(), bytes).ok());
    ASSERT_TRUE(writer_->Sync().ok());
  }

  const TempDir dir_;
  std::unique_ptr<LoopDevice> loop_;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<FileWriter> writer_;
  const std::string content_ = Pattern(1, 1 << 20);
};

// An empty flush counts as a write as well.
TEST_F(DeviceCountsTest, ASyncIsOneWriteAndOneFlush) {
  std::mt19937_64 rng(TestSeed());
  const uint64_t count = ScaledRounds(10000);
  const DeviceCounts before = Counts();
  const uint64_t journal_before = JournalWrites();
  for (uint64_t i = 0; i < count; ++i) {
    // Log-uniform from 1 byte to 256 KiB.
    const double exponent = 18.0 * static_cast<double>(rng() >> 11) * 0x1p-53;
    AppendAndSync(static_cast<uint64_t>(std::exp2(exponent)));
  }
  const DeviceCounts after = Counts();
  const uint64_t journal = JournalWrites() - journal_before;
  const uint64_t flushes = after.flushes - before.flushes;
  EXPECT_EQ(after.writes - before.writes - flushes - journal, count);
  EXPECT_LE(flushes, count);
  FileStat stat;
  ASSERT_TRUE(volume_->Stat("/000001.log", &stat).ok());
  EXPECT_LE(journal, stat.extents);
}

// Longer than what one request of the device carries.
TEST_F(DeviceCountsTest, ALargeSyncIsAsManyWritesAsItMustBe) {
  const uint64_t limit = volume_->device()->geometry().max_bio_bytes;
  const DeviceCounts before = Counts();
  const uint64_t journal_before = JournalWrites();
  for (int i = 0; i < 20; ++i) AppendAndSync(1 << 20);
  const DeviceCounts after = Counts();
  const uint64_t flushes = after.flushes - before.flushes;
  const uint64_t writes = after.writes - before.writes - flushes -
                          (JournalWrites() - journal_before);
  // In front of the frame up to a block, and a header.
  const uint64_t most = (1 << 20) + 2 * 4096;
  EXPECT_LE(writes, 20 * ((most + limit - 1) / limit));
  EXPECT_LE(flushes, 20u);
}

// The device cannot, so the kernel flushes behind each.
TEST_F(DeviceCountsTest, AWriteThroughReachesTheKernelAsOne) {
  Geometry geometry = volume_->device()->geometry();
  geometry.fua = true;
  writer_ = nullptr;
  volume_ = nullptr;
  ScopedFd fd(open(loop_->path().c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  ASSERT_GE(fd.get(), 0);
  std::unique_ptr<BlockDevice> device;
  std::string note;
  if (!UringDevice::Create(loop_->path(), geometry, &fd, &device, &note).ok()) {
    GTEST_SKIP() << "no io_uring: " << note;
  }
  AlignedBuffer block = BufferPool::Get(kBlockBytes);
  std::memset(block.data(), 'x', kBlockBytes);
  const DeviceCounts before = Counts();
  for (uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(device
                    ->Write(i * kBlockBytes, block.data(), kBlockBytes,
                            kIoClassJournal, Durability::kFua)
                    .ok());
  }
  const DeviceCounts after = Counts();
  EXPECT_EQ(after.flushes - before.flushes, 10u);
  // Such a flush does not count as a write.
  EXPECT_EQ(after.writes - before.writes, 10u);
  EXPECT_EQ(device->stats().flushes, 0u);
}

}  // namespace
}  // namespace diofs
