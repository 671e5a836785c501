// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "env/fsck.h"
#include "env/journal.h"
#include "env/metadata_op.h"
#include "env/repair.h"
#include "env/superblock.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kDeviceBytes = 16 << 20;

std::string Join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// Checks a copy of `image`; fails if the check writes.
Result Check(const std::string& image, FsckReport* report) {
  std::unique_ptr<SimDevice> device = SimFrom(image);
  uint64_t changes = 1;
  device->on_destroy = [&changes](const SimDevice& sim) {
    changes = sim.writes() + sim.flushes() + sim.discards();
  };
  Result result = Fsck(std::move(device), report);
  EXPECT_EQ(changes, 0u);
  return result;
}

// The one problem of `image`; "" for none, all of them where there are more.
std::string ProblemOf(const std::string& image) {
  FsckReport report;
  const Result result = Check(image, &report);
  EXPECT_TRUE(result.ok()) << result.ToString();
  return Join(report.problems);
}

Superblock SuperblockOf(const std::string& image) {
  const std::unique_ptr<SimDevice> device = SimFrom(image);
  Superblock superblock;
  EXPECT_TRUE(LoadSuperblock(device.get(), &superblock).ok());
  return superblock;
}

std::string FreshImage() { return FormattedSim(kDeviceBytes)->Image(); }

// A volume with two directories, three files, four names and, before the
// unmount, `*killed`.
std::string UsedImage(std::string* killed = nullptr) {
  std::shared_ptr<Volume> volume;
  SimDevice* sim = nullptr;
  EXPECT_TRUE(
      MountSim(FormattedSim(kDeviceBytes), MountOptions(), &volume, &sim).ok());
  EXPECT_TRUE(volume->MkdirAll("/db/archive").ok());
  EXPECT_TRUE(
      WriteFile(volume.get(), "/db/000012.sst", Pattern(1, 300 << 10), true)
          .ok());
  EXPECT_TRUE(
      WriteFile(volume.get(), "/db/000013.log", Pattern(2, 5000), true).ok());
  EXPECT_TRUE(WriteFile(volume.get(), "/db/CURRENT", "x\n", true).ok());
  EXPECT_TRUE(volume->Link("/db/000012.sst", "/db/archive/copy.sst").ok());
  EXPECT_TRUE(volume->Sync().ok());
  if (killed != nullptr) *killed = sim->Image();
  std::string image;
  sim->on_destroy = [&image](const SimDevice& device) {
    image = device.DurableImage();
  };
  volume.reset();
  return image;
}

// The part of `image` that the live region of its journal uses, in bytes.
Extent LiveJournal(const std::string& image) {
  std::shared_ptr<Volume> volume;
  MountOptions options;
  options.read_only = true;
  EXPECT_TRUE(MountSim(SimFrom(image), options, &volume).ok());
  return {volume->superblock().region_offset[volume->recovery().region],
          volume->recovery().region_used_bytes};
}

// A sound volume around metadata that contradicts itself.
std::string ImageOf(const std::vector<MetadataOp>& ops) {
  std::unique_ptr<SimDevice> device = SimFrom(FreshImage());
  Superblock superblock;
  EXPECT_TRUE(LoadSuperblock(device.get(), &superblock).ok());
  std::string operations;
  for (const MetadataOp& op : ops) op.EncodeTo(&operations);
  Journal journal(device.get(), JournalLayoutOf(superblock));
  EXPECT_TRUE(journal.Format({operations}).ok());
  superblock.clean_sequence = journal.next_sequence();
  superblock.clean_region_nonce = journal.region_nonce();
  EXPECT_TRUE(StoreSuperblock(device.get(), &superblock).ok());
  return device->Image();
}

MetadataOp Create(const std::string& name, uint64_t ino) {
  MetadataOp op;
  op.type = OpType::kCreate;
  op.parent = kRootIno;
  op.name = name;
  op.ino = ino;
  return op;
}

MetadataOp Extents(uint64_t ino, const std::vector<Extent>& extents) {
  MetadataOp op;
  op.type = OpType::kExtents;
  op.ino = ino;
  op.extents = extents;
  return op;
}

TEST(FsckTest, FreshVolumeIsSound) {
  FsckReport report;
  ASSERT_TRUE(Check(FreshImage(), &report).ok());
  EXPECT_EQ(Join(report.problems), "");
  EXPECT_EQ(Join(report.notes), "");
  EXPECT_EQ(report.files, 0u);
  EXPECT_EQ(report.directories, 1u);
  EXPECT_EQ(report.usage.total_blocks, kDeviceBytes / kBlockBytes);
  EXPECT_EQ(report.usage.allocated_blocks, 0u);
}

TEST(FsckTest, UsedVolumeIsSoundAndCounted) {
  FsckReport report;
  ASSERT_TRUE(Check(UsedImage(), &report).ok());
  EXPECT_EQ(Join(report.problems), "");
  EXPECT_EQ(Join(report.notes), "");
  EXPECT_EQ(report.files, 3u);
  EXPECT_EQ(report.directories, 3u);
  EXPECT_GE(report.extents, 3u);
  EXPECT_EQ(report.usage.inodes, 6u);
  EXPECT_EQ(report.usage.allocated_blocks, (300u + 8u + 4u) / 4u);
  EXPECT_EQ(report.usage.total_blocks,
            report.usage.metadata_blocks + report.usage.allocated_blocks +
                report.usage.pending_blocks + report.usage.free_blocks);
}

TEST(FsckTest, UncleanVolumeIsSoundWithANote) {
  std::string killed;
  UsedImage(&killed);
  FsckReport report;
  ASSERT_TRUE(Check(killed, &report).ok());
  EXPECT_EQ(Join(report.problems), "");
  ASSERT_EQ(report.notes.size(), 1u) << Join(report.notes);
  EXPECT_NE(report.notes[0].find("not unmounted cleanly"), std::string::npos);
}

TEST(FsckTest, NamesEachDamagedSuperblockCopy) {
  const std::string image = UsedImage();
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    std::string damaged = image;
    damaged[SuperblockOffset(kDeviceBytes, i) + 100] ^= 1;
    const std::string problem = ProblemOf(damaged);
    EXPECT_EQ(std::count(problem.begin(), problem.end(), '\n'), 1) << problem;
    EXPECT_EQ(problem.find("superblock copy " + std::to_string(i + 1) +
                           " of 4: damaged"),
              0u)
        << problem;
  }
}

TEST(FsckTest, AllSuperblocksDamagedIsAProblem) {
  std::string image = UsedImage();
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    image[SuperblockOffset(kDeviceBytes, i) + 100] ^= 1;
  }
  EXPECT_NE(ProblemOf(image).find("damaged superblock"), std::string::npos);
}

TEST(FsckTest, UnfinishedSuperblockUpdateIsANote) {
  std::string image = UsedImage();
  Superblock older = SuperblockOf(image);
  --older.epoch;
  older.Encode().copy(&image[SuperblockOffset(kDeviceBytes, 3)],
                      kSuperblockBytes);
  FsckReport report;
  ASSERT_TRUE(Check(image, &report).ok());
  EXPECT_EQ(Join(report.problems), "");
  ASSERT_EQ(report.notes.size(), 1u) << Join(report.notes);
  EXPECT_EQ(report.notes[0].find("superblock copy 4 of 4 is of epoch"), 0u);
}

TEST(FsckTest, CopiesThatDisagreeAreAProblem) {
  std::string image = UsedImage();
  Superblock other = SuperblockOf(image);
  other.label = "something else";
  other.Encode().copy(&image[SuperblockOffset(kDeviceBytes, 2)],
                      kSuperblockBytes);
  EXPECT_NE(ProblemOf(image).find("superblock copy 3 of 4 differs"),
            std::string::npos);
}

TEST(FsckTest, NoVolumeAndUnreadableDeviceAreErrors) {
  FsckReport report;
  EXPECT_EQ(Check(std::string(kDeviceBytes, '\0'), &report).error(), ENODATA);
  EXPECT_EQ(Check(std::string(kBlockBytes, '\0'), &report).error(), ENODATA);

  std::unique_ptr<SimDevice> device = SimFrom(FreshImage());
  device->FailNth(SimOp::kRead, 1, EIO, /*forever=*/true);
  EXPECT_EQ(Fsck(std::move(device), &report).error(), EIO);
}

TEST(FsckTest, UnreadableSuperblockCopyIsAProblem) {
  std::unique_ptr<SimDevice> device = SimFrom(FreshImage());
  device->SetUnreadable(SuperblockOffset(kDeviceBytes, 1), kBlockBytes);
  FsckReport report;
  ASSERT_TRUE(Fsck(std::move(device), &report).ok());
  ASSERT_EQ(report.problems.size(), 1u) << Join(report.problems);
  EXPECT_EQ(report.problems[0].find("superblock copy 2 of 4"), 0u)
      << report.problems[0];
}

TEST(FsckTest, DamagedJournalIsAProblem) {
  std::string image = UsedImage();
  const Superblock superblock = SuperblockOf(image);
  for (const uint64_t offset : superblock.region_offset) {
    std::memset(&image[offset], 0, kRegionHeaderBytes);
  }
  EXPECT_EQ(ProblemOf(image).find("journal: "), 0u) << ProblemOf(image);
}

// What a clean unmount left whole cannot be torn.
TEST(FsckTest, DamagedLastFrameOfACleanVolumeIsAProblem) {
  std::string image = UsedImage();
  const uint64_t end = LiveJournal(image).end();
  image[end - kBlockBytes + kFrameHeaderBytes - 1] ^= 1;
  EXPECT_EQ(ProblemOf(image).find("journal: "), 0u) << ProblemOf(image);
}

TEST(FsckTest, NamesBothOwnersOfABlock) {
  const std::string problem =
      ProblemOf(ImageOf({Create("a", 2), Extents(2, {{3000, 4}, {3100, 8}}),
                         Create("b", 3), Extents(3, {{3104, 8}})}));
  EXPECT_NE(problem.find("blocks 3104+4 belong to both inode 2 (/a) and inode "
                         "3 (/b)\n"),
            std::string::npos)
      << problem;
  EXPECT_NE(problem.find("cannot be mounted"), std::string::npos) << problem;
}

TEST(FsckTest, FindsABlockThatAFileHasTwice) {
  const std::string problem = ProblemOf(
      ImageOf({Create("a", 2), Extents(2, {{3000, 4}, {3100, 8}, {3001, 1}})}));
  EXPECT_NE(problem.find("blocks 3001+1 belong to both inode 2 (/a) and inode "
                         "2 (/a)\n"),
            std::string::npos)
      << problem;
}

TEST(FsckTest, FindsFilesOverTheVolumesOwnBlocks) {
  const uint64_t journal = kJournalOffset / kBlockBytes;
  const std::string problem =
      ProblemOf(ImageOf({Create("a", 2), Extents(2, {{journal - 1, 2}})}));
  EXPECT_NE(
      problem.find("blocks " + std::to_string(journal) + "+1 belong to both"),
      std::string::npos)
      << problem;
  EXPECT_NE(problem.find("superblocks and journal"), std::string::npos);
}

TEST(FsckTest, FindsBlocksBehindTheEnd) {
  const uint64_t total = kDeviceBytes / kBlockBytes;
  const std::string problem = ProblemOf(
      ImageOf({Create("a", 2), Extents(2, {{total + 10, 2}}), Create("b", 3),
               Extents(3, {{INT64_MAX / kBlockBytes - 1, 1}}), Create("c", 4),
               Extents(4, {{total - 3, 6}})}));
  EXPECT_NE(problem.find("inode 2 (/a): blocks " + std::to_string(total + 10) +
                         "+2 lie outside"),
            std::string::npos)
      << problem;
  EXPECT_NE(problem.find("inode 4 (/c): blocks " + std::to_string(total - 3) +
                         "+6 lie outside"),
            std::string::npos)
      << problem;
  EXPECT_NE(problem.find("inode 3 (/b): blocks"), std::string::npos) << problem;
}

// A walk over frames in so many blocks would not come to an end.
TEST(FsckTest, LogsWithForgedBlocksAreNotWalked) {
  MetadataOp create = Create("1.log", 2);
  create.layout = FileLayout::kLog;
  MetadataOp segment;
  segment.type = OpType::kSegment;
  segment.ino = 2;
  segment.segment.generation = 7;
  const uint64_t blocks = INT64_MAX / kBlockBytes - 4000;
  const std::string image =
      ImageOf({create, segment, Extents(2, {{3000, blocks}})});
  FsckReport report;
  ASSERT_TRUE(Check(image, &report).ok());
  EXPECT_NE(Join(report.problems).find("lie outside the volume"),
            std::string::npos)
      << Join(report.problems);
  EXPECT_NE(Join(report.notes).find("the frames of logs were not looked at"),
            std::string::npos)
      << Join(report.notes);
}

// ---- Repair -----------------------------------------------------------------

// Repairs `*image`; the lines it gives.
std::string Repaired(std::string* image, bool lost_cache = false) {
  std::vector<std::string> done;
  const Result result = Repair(
      [image](std::unique_ptr<BlockDevice>* device) {
        std::unique_ptr<SimDevice> sim = SimFrom(*image);
        sim->on_destroy = [image](const SimDevice& at) {
          *image = at.DurableImage();
        };
        *device = std::move(sim);
        return Result::Ok();
      },
      lost_cache, &done);
  return result.ok() ? Join(done) : result.ToString();
}

TEST(RepairTest, ASoundVolumeIsNotTouched) {
  const std::string image = UsedImage();
  std::string repaired = image;
  EXPECT_EQ(Repaired(&repaired), "");
  EXPECT_EQ(repaired == image, true);
}

TEST(RepairTest, SuperblockCopiesComeFromOneThatIsWhole) {
  std::string image = UsedImage();
  image[SuperblockOffset(kDeviceBytes, 0) + 100] ^= 1;
  image[SuperblockOffset(kDeviceBytes, 3) + 8] ^= 1;
  EXPECT_EQ(Repaired(&image), "rewrote superblock copies 1, 4 of 4\n");
  FsckReport report;
  ASSERT_TRUE(Check(image, &report).ok());
  EXPECT_EQ(Join(report.problems) + Join(report.notes), "");
}

TEST(RepairTest, AnUnfinishedSuperblockUpdateIsFinished) {
  std::string image = UsedImage();
  Superblock older = SuperblockOf(image);
  --older.epoch;
  older.Encode().copy(&image[SuperblockOffset(kDeviceBytes, 3)],
                      kSuperblockBytes);
  EXPECT_EQ(Repaired(&image), "rewrote superblock copies 4 of 4\n");
  FsckReport report;
  ASSERT_TRUE(Check(image, &report).ok());
  EXPECT_EQ(Join(report.problems) + Join(report.notes), "");
}

// Which of them is right?
TEST(RepairTest, CopiesThatDisagreeAreLeft) {
  std::string image = UsedImage();
  Superblock other = SuperblockOf(image);
  other.label = "something else";
  other.Encode().copy(&image[SuperblockOffset(kDeviceBytes, 2)],
                      kSuperblockBytes);
  const std::string before = image;
  EXPECT_EQ(Repaired(&image), "");
  EXPECT_EQ(image == before, true);
}

TEST(RepairTest, AnUncleanVolumeIsReplayed) {
  std::string killed;
  UsedImage(&killed);
  EXPECT_EQ(Repaired(&killed), "replayed the journal and unmounted\n");
  FsckReport report;
  ASSERT_TRUE(Check(killed, &report).ok());
  EXPECT_EQ(Join(report.problems) + Join(report.notes), "");
  EXPECT_EQ(report.files, 3u);
}

// Two transactions that were written and never flushed, of which the device has
// lost the first: with the host still up.
TEST(RepairTest, ALostCacheIsATornTail) {
  std::shared_ptr<Volume> volume;
  SimDevice* sim = nullptr;
  ASSERT_TRUE(
      MountSim(FormattedSim(kDeviceBytes), MountOptions(), &volume, &sim).ok());
  ASSERT_TRUE(volume->Mkdir("/synced").ok());
  ASSERT_TRUE(volume->Sync().ok());
  ASSERT_TRUE(volume->Mkdir("/one").ok());
  ASSERT_TRUE(volume->Mkdir("/two").ok());
  std::string image = sim->Image();
  const uint64_t lost = LiveJournal(image).end() - uint64_t{2} * kBlockBytes;
  image.replace(lost, kBlockBytes, kBlockBytes, '\0');
  EXPECT_NE(ProblemOf(image).find("no power was lost since"),
            std::string::npos);
  // Only somebody who knows of it can say so.
  EXPECT_EQ(Repaired(&image), "");
  EXPECT_EQ(Repaired(&image, true).find("took the end of the journal for torn"),
            0u);
  EXPECT_EQ(ProblemOf(image), "");
  volume = nullptr;
  ASSERT_TRUE(MountSim(SimFrom(image), MountOptions(), &volume).ok());
  Tree tree;
  ASSERT_TRUE(ReadTree(volume.get(), &tree).ok());
  EXPECT_EQ(tree, (Tree{{"/synced/", ""}}));
}

// What was durable is damaged: nothing can be made of that.
TEST(RepairTest, ADamagedJournalIsLeft) {
  std::shared_ptr<Volume> volume;
  SimDevice* sim = nullptr;
  ASSERT_TRUE(
      MountSim(FormattedSim(kDeviceBytes), MountOptions(), &volume, &sim).ok());
  ASSERT_TRUE(volume->Mkdir("/one").ok());
  ASSERT_TRUE(volume->Sync().ok());
  ASSERT_TRUE(volume->Mkdir("/two").ok());
  std::string image = sim->Image();
  const uint64_t lost = LiveJournal(image).end() - uint64_t{2} * kBlockBytes;
  image.replace(lost, kBlockBytes, kBlockBytes, '\0');
  const std::string before = image;
  EXPECT_EQ(Repaired(&image, true), "");
  EXPECT_EQ(image == before, true);
  EXPECT_NE(ProblemOf(image).find("names it durable"), std::string::npos);
}

TEST(FsckTest, OperationsThatDoNotFitTheTreeAreAProblem) {
  const std::string problem =
      ProblemOf(ImageOf({Create("a", 2), Create("a", 3)}));
  EXPECT_EQ(problem.find("journal: "), 0u) << problem;
  EXPECT_NE(problem.find("the name is taken"), std::string::npos) << problem;
}

TEST(FsckTest, ManyProblemsAreCutShort) {
  std::vector<MetadataOp> ops;
  for (uint64_t ino = 2; ino < 2 + 1500; ++ino) {
    ops.push_back(Create("f" + std::to_string(ino), ino));
    ops.push_back(Extents(ino, {{3000, 1}}));
  }
  FsckReport report;
  ASSERT_TRUE(Check(ImageOf(ops), &report).ok());
  EXPECT_EQ(report.problems.size(), 1001u);
  EXPECT_EQ(report.problems.back(), "and 500 more");
}

// What is flipped is either told or makes no difference to what is read.
TEST(FsckTest, FlippedBitsAreToldOrHarmless) {
  const std::string image = UsedImage();
  const Extent journal = LiveJournal(image);
  std::shared_ptr<Volume> volume;
  MountOptions options;
  options.read_only = true;
  ASSERT_TRUE(MountSim(SimFrom(image), options, &volume).ok());
  Tree expected;
  ASSERT_TRUE(ReadTree(volume.get(), &expected).ok());
  volume.reset();

  std::mt19937_64 rng(TestSeed());
  uint64_t told = 0;
  // Enough for the share that must be told not to be chance.
  const uint64_t rounds = std::max<uint64_t>(ScaledRounds(150), 60);
  for (uint64_t round = 0; round < rounds; ++round) {
    std::string damaged = image;
    const bool in_journal = round % 3 != 0;
    // Mostly behind the last frame, now and then among the first ones.
    const uint64_t in_region =
        rng() % (round % 2 == 0 ? journal.count : uint64_t{2} * 4096);
    const uint64_t where =
        in_journal ? journal.start + in_region
                   : SuperblockOffset(kDeviceBytes, rng() % 4) + rng() % 4096;
    damaged[where] = static_cast<char>(damaged[where] ^ (1 << rng() % 8));
    FsckReport report;
    const Result result = Check(damaged, &report);
    if (!result.ok() || !report.problems.empty()) {
      ++told;
      continue;
    }
    EXPECT_TRUE(in_journal) << "superblock byte " << where;
    Tree tree;
    const Result mounted = MountSim(SimFrom(damaged), options, &volume);
    ASSERT_TRUE(mounted.ok()) << "byte " << where << mounted.ToString();
    ASSERT_TRUE(ReadTree(volume.get(), &tree).ok());
    EXPECT_EQ(tree == expected, true) << "byte " << where;
    volume.reset();
  }
  EXPECT_GT(told, rounds / 3);
}

}  // namespace
}  // namespace diofs
