// What a volume tells its device about freed blocks, and that nobody pays for
// it with data or with room.

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dio/discarder.h"
#include "env/file_writer.h"
#include "env/format.h"
#include "env/open_file.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

class DiscardTest : public testing::Test {
 protected:
  void Mount(std::unique_ptr<SimDevice> device, bool discard = true,
             uint64_t bytes_per_second = 0) {
    volume_ = nullptr;
    MountOptions options;
    options.discard = discard;
    options.discard_bytes_per_second = bytes_per_second;
    const Result r = MountSim(std::move(device), options, &volume_, &sim_);
    ASSERT_TRUE(r.ok()) << r.ToString();
  }
  VolumeUsage Usage() {
    VolumeUsage usage;
    EXPECT_TRUE(volume_->Usage(&usage).ok());
    return usage;
  }
  uint64_t DiscardedBytes() {
    uint64_t bytes = 0;
    for (const SimEvent& event : sim_->Events()) {
      if (event.op == SimOp::kDiscard) bytes += event.bytes;
    }
    return bytes;
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
};

TEST_F(DiscardTest, ADeletedFilesBlocksAreDiscarded) {
  Mount(FormattedSim(kVolumeBytes));
  const uint64_t free_before = Usage().free_blocks;
  ASSERT_TRUE(
      WriteFile(volume_.get(), "/f.sst", Pattern(1, 4 << 20), true).ok());
  ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  EXPECT_EQ(0u, DiscardedBytes());
  // Free as soon as the deletion is durable, discarded or not.
  ASSERT_TRUE(volume_->Sync().ok());
  EXPECT_EQ(free_before, Usage().free_blocks);
  while (DiscardedBytes() < 4 << 20) std::this_thread::yield();
  EXPECT_EQ(4u << 20, DiscardedBytes());
  EXPECT_EQ(free_before, Usage().free_blocks);
  EXPECT_EQ("", SpaceProblem(volume_.get()));
}

// Written once, they are good for the next log, which would have to wait.
TEST_F(DiscardTest, ADeletedLogsBlocksAreTheNextOnes) {
  Mount(FormattedSim(kVolumeBytes));
  const std::string content = Pattern(1, 100'000);
  Extent first;
  for (int i = 0; i < 3; ++i) {
    const std::string path = "/00000" + std::to_string(i) + ".log";
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume_.get(), path, &writer).ok());
    writer->SetPreallocation(1 << 20);
    for (int part = 0; part < 9; ++part) {
      ASSERT_TRUE(writer->Append(content.data(), content.size()).ok());
    }
    OpenFilePtr file;
    ASSERT_TRUE(volume_->Open(path, &file).ok());
    const Extent extent = file->inode()->map()->extents()[0];
    if (i == 0) first = extent;
    EXPECT_EQ(extent.start, first.start);
    ASSERT_TRUE(writer->Sync().ok());
    ASSERT_TRUE(writer->Close().ok());
    writer.reset();
    file.reset();
    ASSERT_TRUE(volume_->Unlink(path).ok());
    // A hole that fits as well, below the others.
    const std::string hole = "/hole" + std::to_string(i);
    ASSERT_TRUE(
        WriteFile(volume_.get(), hole, Pattern(2, 1 << 20), false).ok());
    ASSERT_TRUE(volume_->Sync().ok());
    ASSERT_TRUE(volume_->Unlink(hole).ok());
    ASSERT_TRUE(volume_->Sync().ok());
  }
  ASSERT_TRUE(volume_->Unmount().ok());
  for (const SimEvent& event : sim_->Events()) {
    if (event.op != SimOp::kDiscard) continue;
    const uint64_t start = first.start * kBlockBytes;
    EXPECT_TRUE(event.offset + event.bytes <= start ||
                event.offset >= start + 800'000);
  }
  EXPECT_EQ("", SpaceProblem(volume_.get()));
}

TEST_F(DiscardTest, NothingIsDiscardedBeforeTheDeletionIsDurable) {
  Mount(FormattedSim(kVolumeBytes));
  ASSERT_TRUE(
      WriteFile(volume_.get(), "/f.sst", Pattern(1, 4 << 20), true).ok());
  ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  // Time enough for a discard that should not come.
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  std::shared_ptr<Volume> earlier;
  ASSERT_TRUE(MountSim(SimFrom(AfterReboot(WithoutUnflushedJournal(
                           *sim_, volume_->superblock()))),
                       MountOptions(), &earlier)
                  .ok());
  std::string content;
  ASSERT_TRUE(ReadFile(earlier.get(), "/f.sst", &content).ok());
  EXPECT_EQ(Pattern(1, 4 << 20), content);
}

// At any moment no more than discard_rate allows, but for the first piece.
TEST_F(DiscardTest, TheRateIsABound) {
  constexpr uint64_t kRate = 32 << 20;
  constexpr uint64_t kBytes = 24 << 20;
  Mount(FormattedSim(2 * kBytes), /*discard=*/true, kRate);
  ASSERT_TRUE(
      WriteFile(volume_.get(), "/f.sst", Pattern(1, kBytes), true).ok());
  ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(volume_->Sync().ok());
  for (uint64_t bytes = 0; bytes < kBytes;) {
    bytes = DiscardedBytes();
    const std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - start;
    ASSERT_LE(static_cast<double>(bytes),
              elapsed.count() * kRate + Discarder::Options().piece_bytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST_F(DiscardTest, WithoutTheOptionNothingIsDiscarded) {
  Mount(FormattedSim(kVolumeBytes), /*discard=*/false);
  ASSERT_TRUE(
      WriteFile(volume_.get(), "/f.sst", Pattern(1, 4 << 20), true).ok());
  ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  ASSERT_TRUE(volume_->Unmount().ok());
  EXPECT_EQ(0u, sim_->discards());
}

// Who needs the room gets it at once: blocks that wait for their discard, and
// small ranges wait long, are taken back.
TEST_F(DiscardTest, AFullVolumeTakesBackWhatWaitsForADiscard) {
  Mount(FormattedSim(kVolumeBytes));
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        WriteFile(volume_.get(), "/f.sst", Pattern(i, 7 << 20), false).ok())
        << i;
    ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  }
  EXPECT_EQ("", SpaceProblem(volume_.get()));
}

// A discard turns the block into poison here: no living byte may meet one, and
// the space must add up.
TEST_F(DiscardTest, RandomFilesKeepTheirBytes) {
  Mount(FormattedSim(kVolumeBytes));
  std::mt19937_64 rng(TestSeed());
  std::map<std::string, std::string> files;
  for (uint64_t i = 0; i < ScaledRounds(400); ++i) {
    const std::string name = "/f" + std::to_string(rng() % 12);
    if (rng() % 3 == 0) {
      EXPECT_EQ(files.erase(name) == 1, volume_->Unlink(name).ok());
    } else {
      files[name] = Pattern(rng(), rng() % (600 << 10));
      ASSERT_TRUE(
          WriteFile(volume_.get(), name, files[name], rng() % 2 == 0).ok());
    }
    if (rng() % 8 == 0) {
      ASSERT_TRUE(volume_->Sync().ok());
    }
  }
  EXPECT_EQ("", SpaceProblem(volume_.get()));
  ASSERT_TRUE(volume_->Unmount().ok());
  EXPECT_GT(sim_->discards(), 0u);
  Mount(SimFrom(sim_->Image()));
  EXPECT_EQ("", SpaceProblem(volume_.get()));
  Tree tree;
  ASSERT_TRUE(ReadTree(volume_.get(), &tree).ok());
  EXPECT_TRUE(tree == files);
}

}  // namespace
}  // namespace diofs
