// How syncs are made durable, as a mount is told or has been measured.

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "env/file_writer.h"
#include "env/fsck.h"
#include "env/sync_probe.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

class SyncModeTest : public testing::Test {
 protected:
  SyncModeTest() : image_(FormattedSim(kVolumeBytes)->Image()) {}

  std::unique_ptr<SimDevice> Device(bool fua) const {
    Geometry geometry = SimDevice::MakeGeometry(kVolumeBytes);
    geometry.fua = fua;
    return std::make_unique<SimDevice>(image_, geometry);
  }
  Result Mount(SyncMode mode, bool fua) {
    volume_ = nullptr;
    MountOptions options;
    options.sync_mode = mode;
    return MountSim(Device(fua), options, &volume_, &sim_);
  }
  // What one sync of a log costs that has had one before.
  std::string CostOfSync() {
    std::shared_ptr<FileWriter> writer;
    EXPECT_TRUE(OpenWriter(volume_.get(), "/000001.log", &writer).ok());
    EXPECT_TRUE(writer->Append("one", 3).ok());
    EXPECT_TRUE(writer->Sync().ok());
    const uint64_t flushes = sim_->flushes();
    sim_->ClearEvents();
    EXPECT_TRUE(writer->Append("two", 3).ok());
    EXPECT_TRUE(writer->Sync().ok());
    uint64_t plain = 0;
    uint64_t through = 0;
    for (const SimEvent& event : sim_->Events()) {
      if (event.op == SimOp::kWrite) ++(event.fua ? through : plain);
    }
    return std::to_string(plain) + " writes, " + std::to_string(through) +
           " through, " + std::to_string(sim_->flushes() - flushes) +
           " flushes";
  }

  std::string image_;
  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
};

constexpr const char* kThrough = "0 writes, 1 through, 0 flushes";
constexpr const char* kFlushed = "1 writes, 0 through, 1 flushes";
constexpr const char* kNeither = "1 writes, 0 through, 0 flushes";

TEST_F(SyncModeTest, AutoTakesWhatTheDeviceCan) {
  ASSERT_TRUE(Mount(SyncMode::kAuto, true).ok());
  EXPECT_EQ(CostOfSync(), kThrough);
  ASSERT_TRUE(Mount(SyncMode::kAuto, false).ok());
  EXPECT_EQ(CostOfSync(), kFlushed);
}

TEST_F(SyncModeTest, FlushNeverWritesThrough) {
  ASSERT_TRUE(Mount(SyncMode::kFlush, true).ok());
  EXPECT_EQ(CostOfSync(), kFlushed);
}

TEST_F(SyncModeTest, FuaNeedsADeviceThatCan) {
  ASSERT_TRUE(Mount(SyncMode::kFua, true).ok());
  EXPECT_EQ(CostOfSync(), kThrough);
  const Result refused = Mount(SyncMode::kFua, false);
  EXPECT_EQ(refused.error(), EOPNOTSUPP);
  EXPECT_NE(refused.ToString().find("sync=auto"), std::string::npos);
}

TEST_F(SyncModeTest, NoneNeitherFlushesNorWritesThrough) {
  ASSERT_TRUE(Mount(SyncMode::kNone, true).ok());
  EXPECT_EQ(CostOfSync(), kNeither);
  const uint64_t flushes = sim_->flushes();
  ASSERT_TRUE(volume_->Sync().ok());
  EXPECT_EQ(sim_->flushes(), flushes);
  // But a clean end is one: all is durable before a superblock says so.
  std::vector<bool> unflushed;
  sim_->on_write = [&] { unflushed.push_back(sim_->HasUnflushedWrites()); };
  ASSERT_TRUE(volume_->Unmount().ok());
  ASSERT_GE(unflushed.size(), kSuperblockCopies);
  EXPECT_FALSE(unflushed[unflushed.size() - kSuperblockCopies]);
  EXPECT_FALSE(sim_->HasUnflushedWrites());
  std::shared_ptr<Volume> after;
  ASSERT_TRUE(MountSim(SimFrom(AfterReboot(sim_->DurableImage())),
                       MountOptions(), &after)
                  .ok());
  std::string content;
  ASSERT_TRUE(ReadFile(after.get(), "/000001.log", &content).ok());
  EXPECT_EQ(content, "onetwo");
}

TEST_F(SyncModeTest, APreferenceDecidesForAutoAlone) {
  const std::unique_ptr<SimDevice> device = Device(true);
  Superblock superblock;
  ASSERT_TRUE(LoadSuperblock(device.get(), &superblock).ok());
  SyncTimes times;
  times.has_fua = true;
  times.fua_us = 2;
  times.flush_us = 1;
  ASSERT_TRUE(StorePreference(device.get(), times, &superblock).ok());
  image_ = device->Image();
  ASSERT_TRUE(Mount(SyncMode::kAuto, true).ok());
  EXPECT_EQ(CostOfSync(), kFlushed);
  ASSERT_TRUE(Mount(SyncMode::kFua, true).ok());
  EXPECT_EQ(CostOfSync(), kThrough);

  times.flush_us = 3;
  ASSERT_TRUE(StorePreference(device.get(), times, &superblock).ok());
  image_ = device->Image();
  ASSERT_TRUE(Mount(SyncMode::kAuto, true).ok());
  EXPECT_EQ(CostOfSync(), kThrough);
}

// On whatever a volume was left like: one block is written, which is nobody's.
TEST_F(SyncModeTest, AProbeChangesNothingThatCounts) {
  ASSERT_TRUE(Mount(SyncMode::kAuto, true).ok());
  ASSERT_TRUE(WriteFile(volume_.get(), "/a", Pattern(1, 9000), true).ok());
  image_ = sim_->Image();
  const std::unique_ptr<SimDevice> device = Device(true);
  Superblock superblock;
  ASSERT_TRUE(LoadSuperblock(device.get(), &superblock).ok());
  device->ClearEvents();
  SyncTimes times;
  ASSERT_TRUE(MeasureSync(device.get(), superblock, 10, &times).ok());
  EXPECT_TRUE(times.has_fua);
  EXPECT_GT(times.fua_us, 0);
  EXPECT_GT(times.flush_us, 0);
  uint64_t through = 0;
  for (const SimEvent& event : device->Events()) {
    if (event.op != SimOp::kWrite) continue;
    EXPECT_EQ(event.bytes, kBlockBytes);
    EXPECT_EQ(event.offset, device->Events()[0].offset);
    through += event.fua;
  }
  EXPECT_EQ(through, 10u);
  EXPECT_EQ(device->writes(), 20u);
  EXPECT_EQ(device->flushes(), 10u);
  const std::string probed = device->Image();
  FsckReport report;
  ASSERT_TRUE(Fsck(SimFrom(probed), &report).ok());
  EXPECT_TRUE(report.problems.empty());
  std::shared_ptr<Volume> again;
  ASSERT_TRUE(MountSim(SimFrom(probed), MountOptions(), &again).ok());
  std::string content;
  ASSERT_TRUE(ReadFile(again.get(), "/a", &content).ok());
  EXPECT_EQ(content, Pattern(1, 9000));
}

}  // namespace
}  // namespace diofs
