#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "env/file_reader.h"
#include "env/file_writer.h"
#include "env/open_file.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

class VolumeTest : public testing::Test {
 protected:
  void SetUp() override { Mount(FormattedSim(kVolumeBytes)); }

  void Mount(std::unique_ptr<SimDevice> device,
             FlushMode mode = FlushMode::kDevice) {
    volume_ = nullptr;
    MountOptions options;
    options.flush_mode = mode;
    const Result r = MountSim(std::move(device), options, &volume_, &sim_);
    ASSERT_TRUE(r.ok()) << r.ToString();
  }
  // As after kill -9, or after a clean unmount.
  void Remount(bool clean) {
    if (clean) {
      ASSERT_TRUE(volume_->Unmount().ok());
    }
    Mount(SimFrom(sim_->Image()));
  }
  bool Exists(const std::string& path) {
    FileStat stat;
    return volume_->Stat(path, &stat).ok();
  }
  uint64_t FreeBlocks() {
    VolumeUsage usage;
    EXPECT_TRUE(volume_->Usage(&usage).ok());
    return usage.free_blocks;
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
};

TEST_F(VolumeTest, AnEmptyVolumeHasARoot) {
  std::vector<DirectoryEntry> entries;
  ASSERT_TRUE(volume_->List("/", &entries).ok());
  EXPECT_TRUE(entries.empty());
  FileStat stat;
  ASSERT_TRUE(volume_->Stat("/", &stat).ok());
  EXPECT_TRUE(stat.is_directory);
}

TEST_F(VolumeTest, NamesSurviveUnmountAndDeathAlike) {
  for (const bool clean : {true, false}) {
    ASSERT_TRUE(volume_->MkdirAll("/db/a/b").ok());
    ASSERT_TRUE(WriteFile(volume_.get(), "/db/a/b/f", "text", false).ok());
    ASSERT_TRUE(volume_->Link("/db/a/b/f", "/db/g").ok());
    ASSERT_TRUE(volume_->Rename("/db/a", "/db/c").ok());
    Remount(clean);
    Tree tree;
    ASSERT_TRUE(ReadTree(volume_.get(), &tree).ok());
    const Tree want = {{"/db/", ""},
                       {"/db/c/", ""},
                       {"/db/c/b/", ""},
                       {"/db/c/b/f", "text"},
                       {"/db/g", "text"}};
    EXPECT_EQ(tree, want);
    FileStat stat;
    ASSERT_TRUE(volume_->Stat("/db/g", &stat).ok());
    EXPECT_EQ(stat.link_count, 2u);
    ASSERT_TRUE(volume_->Unlink("/db/g").ok());
    ASSERT_TRUE(volume_->Unlink("/db/c/b/f").ok());
    ASSERT_TRUE(volume_->Rmdir("/db/c/b").ok());
    ASSERT_TRUE(volume_->Rmdir("/db/c").ok());
    EXPECT_EQ(SpaceProblem(volume_.get()), "");
  }
}

TEST_F(VolumeTest, ACleanMountWritesNoSnapshot) {
  ASSERT_TRUE(volume_->Unmount().ok());
  Mount(SimFrom(sim_->Image()));
  // Four superblocks, and nothing else.
  EXPECT_EQ(sim_->writes(), 4u);
}

TEST_F(VolumeTest, AReadOnlyMountWritesNothing) {
  ASSERT_TRUE(WriteFile(volume_.get(), "/f", "text", false).ok());
  const std::string image = sim_->Image();
  MountOptions options;
  options.read_only = true;
  std::shared_ptr<Volume> reader;
  SimDevice* sim = nullptr;
  ASSERT_TRUE(MountSim(SimFrom(image), options, &reader, &sim).ok());
  std::string content;
  ASSERT_TRUE(ReadFile(reader.get(), "/f", &content).ok());
  EXPECT_EQ(content, "text");
  EXPECT_EQ(reader->Mkdir("/d").error(), EROFS);
  std::shared_ptr<OpenFile> file;
  EXPECT_EQ(reader->CreateFile("/g", &file).error(), EROFS);
  ASSERT_TRUE(reader->Open("/f", &file).ok());
  std::shared_ptr<FileWriter> writer;
  EXPECT_EQ(FileWriter::Open(file, &writer).error(), EROFS);
  file = nullptr;
  ASSERT_TRUE(reader->Unmount().ok());
  EXPECT_EQ(sim->writes(), 0u);
  EXPECT_EQ(sim->flushes(), 0u);
  EXPECT_EQ(sim->Image(), image);
}

// The blocks of a deleted file belong to the state a power cut would bring
// back, until the deletion is durable.
TEST_F(VolumeTest, FreedBlocksAreNotReusedBeforeTheFreeIsDurable) {
  const std::string old_text = Pattern(1, 6 << 20);
  ASSERT_TRUE(WriteFile(volume_.get(), "/old", old_text, true).ok());
  ASSERT_TRUE(volume_->Unlink("/old").ok());
  // Nothing makes the deletion durable; the rest of the volume is filled.
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/new.sst", &writer).ok());
  const std::string new_text = Pattern(2, 3 << 20);
  ASSERT_TRUE(writer->Append(new_text.data(), new_text.size()).ok());
  ASSERT_TRUE(writer->WriteOut().ok());
  std::shared_ptr<Volume> earlier;
  ASSERT_TRUE(MountSim(SimFrom(AfterReboot(WithoutUnflushedJournal(
                           *sim_, volume_->superblock()))),
                       MountOptions(), &earlier)
                  .ok());
  std::string content;
  ASSERT_TRUE(ReadFile(earlier.get(), "/old", &content).ok());
  EXPECT_EQ(content, old_text);
}

TEST_F(VolumeTest, AFullVolumeReclaimsWhatWasDeleted) {
  const uint64_t before = FreeBlocks();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(
        WriteFile(volume_.get(), "/f.sst", Pattern(i, 7 << 20), false).ok())
        << i;
    ASSERT_TRUE(volume_->Unlink("/f.sst").ok());
  }
  EXPECT_EQ(FreeBlocks(), before);
}

TEST_F(VolumeTest, ADeletedFileKeepsItsBlocksWhileItIsOpen) {
  ASSERT_TRUE(WriteFile(volume_.get(), "/f", Pattern(1, 40960), true).ok());
  const uint64_t before = FreeBlocks();
  std::shared_ptr<OpenFile> file;
  ASSERT_TRUE(volume_->Open("/f", &file).ok());
  ASSERT_TRUE(volume_->Unlink("/f").ok());
  EXPECT_EQ(FreeBlocks(), before);
  file = nullptr;
  EXPECT_EQ(FreeBlocks(), before + 10);
}

TEST_F(VolumeTest, AHandleMayBeOpenedOverAnother) {
  ASSERT_TRUE(WriteFile(volume_.get(), "/f", "x", false).ok());
  std::shared_ptr<OpenFile> file;
  ASSERT_TRUE(volume_->Open("/f", &file).ok());
  ASSERT_TRUE(volume_->Open("/f", &file).ok());
  ASSERT_TRUE(volume_->CreateFile("/f", &file).ok());
}

TEST_F(VolumeTest, CreateReplacesAndTheOldContentStaysWithItsHandle) {
  ASSERT_TRUE(WriteFile(volume_.get(), "/f", "old", true).ok());
  std::shared_ptr<OpenFile> old_file;
  ASSERT_TRUE(volume_->Open("/f", &old_file).ok());
  ASSERT_TRUE(WriteFile(volume_.get(), "/f", "new!", true).ok());
  char memory[8];
  EXPECT_EQ(FileReader(old_file).Read(0, 8, memory).bytes(), 3u);
  std::string content;
  ASSERT_TRUE(ReadFile(volume_.get(), "/f", &content).ok());
  EXPECT_EQ(content, "new!");
}

TEST_F(VolumeTest, ErrorsOfNames) {
  ASSERT_TRUE(volume_->Mkdir("/d").ok());
  ASSERT_TRUE(WriteFile(volume_.get(), "/d/f", "x", false).ok());
  std::shared_ptr<OpenFile> file;
  EXPECT_EQ(volume_->Open("/none", &file).error(), ENOENT);
  EXPECT_EQ(volume_->Open("/d", &file).error(), EISDIR);
  EXPECT_EQ(volume_->CreateFile("/d", &file).error(), EISDIR);
  EXPECT_EQ(volume_->CreateFile("/none/f", &file).error(), ENOENT);
  EXPECT_EQ(volume_->CreateFile("/d/f/g", &file).error(), ENOTDIR);
  EXPECT_EQ(volume_->Mkdir("/d").error(), EEXIST);
  EXPECT_EQ(volume_->MkdirAll("/d/f").error(), EEXIST);
  EXPECT_TRUE(volume_->MkdirAll("/d").ok());
  EXPECT_EQ(volume_->Rmdir("/d").error(), ENOTEMPTY);
  EXPECT_EQ(volume_->Unlink("/d").error(), EISDIR);
  EXPECT_EQ(volume_->Unlink("/none").error(), ENOENT);
  EXPECT_EQ(volume_->Rename("/none", "/x").error(), ENOENT);
  EXPECT_EQ(volume_->Rename("/d", "/d/inside").error(), EINVAL);
  EXPECT_EQ(volume_->Link("/d/f", "/d/f").error(), EEXIST);
  std::vector<DirectoryEntry> entries;
  EXPECT_EQ(volume_->List("/d/f", &entries).error(), ENOTDIR);
  EXPECT_EQ(volume_->List("/none", &entries).error(), ENOENT);
}

TEST_F(VolumeTest, ALockIsHeldOnce) {
  uint64_t ino = 0;
  uint64_t again = 0;
  ASSERT_TRUE(volume_->LockName("/LOCK", &ino).ok());
  EXPECT_EQ(volume_->LockName("//LOCK", &again).error(), EBUSY);
  volume_->UnlockName(ino);
  EXPECT_TRUE(volume_->LockName("/LOCK", &again).ok());
}

TEST_F(VolumeTest, AnErrorOnTheJournalStopsEveryChange) {
  ASSERT_TRUE(volume_->Mkdir("/a").ok());
  sim_->FailNth(SimOp::kWrite, 1, EIO);
  EXPECT_EQ(volume_->Mkdir("/b").error(), EIO);
  EXPECT_EQ(volume_->Mkdir("/c").error(), EROFS);
  EXPECT_EQ(volume_->Sync().error(), EROFS);
  EXPECT_TRUE(Exists("/a"));
  EXPECT_FALSE(volume_->Unmount().ok());
  // It was not marked clean, and what had returned is there.
  Mount(SimFrom(sim_->Image()));
  EXPECT_TRUE(Exists("/a"));
}

TEST_F(VolumeTest, AfterUnmountOpenFilesFail) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &writer).ok());
  ASSERT_TRUE(writer->Append("x", 1).ok());
  ASSERT_TRUE(volume_->Unmount().ok());
  EXPECT_EQ(writer->Sync().error(), ESTALE);
  EXPECT_EQ(volume_->Mkdir("/d").error(), ESTALE);
  FileStat stat;
  EXPECT_EQ(volume_->Stat("/f", &stat).error(), ESTALE);
  EXPECT_TRUE(volume_->Unmount().ok());
  writer = nullptr;
  Mount(SimFrom(sim_->Image()));
  EXPECT_TRUE(Exists("/f"));
}

// It may have missed what was written while it was under way.
// Bytes of a log that a Flush has written have nothing in the journal.
TEST_F(VolumeTest, ASyncOfTheVolumeCoversWhatWasFlushed) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/000001.log", &writer).ok());
  ASSERT_TRUE(writer->Append("first", 5).ok());
  ASSERT_TRUE(writer->Sync().ok());
  ASSERT_TRUE(writer->Append("second", 6).ok());
  ASSERT_TRUE(writer->Flush().ok());
  ASSERT_TRUE(sim_->HasUnflushedWrites());
  ASSERT_TRUE(volume_->Sync().ok());
  EXPECT_FALSE(sim_->HasUnflushedWrites());
}

TEST_F(VolumeTest, AFlushCoversWhatWasWrittenBeforeIt) {
  ASSERT_TRUE(volume_->Mkdir("/before").ok());
  Journal* const journal = volume_->journal();
  const Lsn before = journal->tail_lsn();
  sim_->on_flush = [this] {
    sim_->on_flush = nullptr;
    EXPECT_TRUE(volume_->Mkdir("/meanwhile").ok());
  };
  ASSERT_TRUE(volume_->FlushDevice().ok());
  EXPECT_EQ(journal->durable_lsn(), before);
  ASSERT_TRUE(volume_->FlushDevice().ok());
  EXPECT_EQ(journal->durable_lsn(), before + 1);
}

TEST_F(VolumeTest, InModeMemoryNothingIsWrittenUntilASync) {
  ASSERT_TRUE(volume_->Unmount().ok());
  Mount(SimFrom(sim_->Image()), FlushMode::kMemory);
  const uint64_t writes = sim_->writes();
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &writer).ok());
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(writer->Append("0123456789", 10).ok());
    ASSERT_TRUE(writer->Flush().ok());
  }
  EXPECT_EQ(sim_->writes(), writes);
  ASSERT_TRUE(writer->Sync().ok());
  Mount(SimFrom(AfterReboot(sim_->DurableImage())));
  FileStat stat;
  ASSERT_TRUE(volume_->Stat("/f", &stat).ok());
  EXPECT_EQ(stat.size_bytes, 1000u);
}

TEST_F(VolumeTest, InModeMemoryASyncOfTheVolumeWritesTheJournal) {
  ASSERT_TRUE(volume_->Unmount().ok());
  Mount(SimFrom(sim_->Image()), FlushMode::kMemory);
  ASSERT_TRUE(volume_->Mkdir("/d").ok());
  ASSERT_TRUE(volume_->Sync().ok());
  Mount(SimFrom(AfterReboot(sim_->DurableImage())));
  FileStat stat;
  EXPECT_TRUE(volume_->Stat("/d", &stat).ok());
}

// The journal has two regions of 1 MiB here; this takes it through both, again
// and again.
TEST_F(VolumeTest, TheJournalGoesRound) {
  for (int i = 0; i < 2000; ++i) {
    const std::string name = "/f" + std::to_string(i % 7);
    ASSERT_TRUE(WriteFile(volume_.get(), name, Pattern(i, i % 100), false).ok())
        << i;
  }
  EXPECT_GT(volume_->journal()->frames_written(), 2000u);
  Tree before;
  ASSERT_TRUE(ReadTree(volume_.get(), &before).ok());
  Remount(false);
  Tree after;
  ASSERT_TRUE(ReadTree(volume_.get(), &after).ok());
  EXPECT_EQ(before, after);
}

TEST_F(VolumeTest, TooManyFilesAreRefusedAndDeletingThemHelps) {
  Result result;
  int made = 0;
  const std::string padding(200, 'n');
  for (; made < 100000; ++made) {
    result = volume_->Mkdir("/" + padding + std::to_string(made));
    if (!result.ok()) break;
  }
  EXPECT_EQ(result.error(), ENOSPC);
  ASSERT_GT(made, 100);
  for (int i = 0; i < made; ++i) {
    ASSERT_TRUE(volume_->Rmdir("/" + padding + std::to_string(i)).ok()) << i;
  }
  EXPECT_TRUE(volume_->Mkdir("/again").ok());
  Remount(false);
  EXPECT_TRUE(Exists("/again"));
}

TEST_F(VolumeTest, AForkedChildCanDoNothing) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &writer).ok());
  ASSERT_TRUE(writer->Append("parent", 6).ok());
  const pid_t child = fork();
  if (child == 0) {
    int failures = 0;
    failures += volume_->Mkdir("/child").error() == ESTALE ? 0 : 1;
    failures += writer->Sync().ok() ? 1 : 0;
    failures += volume_->Unmount().error() == ESTALE ? 0 : 1;
    _exit(failures);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_TRUE(writer->Sync().ok());
}

TEST_F(VolumeTest, ThreadsOnDifferentFiles) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string path = "/t" + std::to_string(t);
        ASSERT_TRUE(
            WriteFile(volume_.get(), path, Pattern(i, 5000), i % 5 == 0).ok());
        ASSERT_TRUE(volume_->Rename(path, path + "r").ok());
        std::string content;
        ASSERT_TRUE(ReadFile(volume_.get(), path + "r", &content).ok());
        ASSERT_EQ(content, Pattern(i, 5000));
        std::vector<DirectoryEntry> entries;
        ASSERT_TRUE(volume_->List("/", &entries).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
  Remount(false);
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

TEST(VolumeFormatTest, RefusesWhatIsTooSmall) {
  SimDevice device(SimDevice::MakeGeometry(8 << 20));
  EXPECT_EQ(Volume::Format(&device, FormatOptions()).error(), EINVAL);
  EXPECT_EQ(device.writes(), 0u);
}

TEST(VolumeFormatTest, WritesEveryBlockOnce) {
  SimDevice device(SimDevice::MakeGeometry(kVolumeBytes));
  uint64_t last_done = 0;
  FormatOptions options;
  options.progress = [&](uint64_t done, uint64_t total) {
    EXPECT_EQ(total, kVolumeBytes);
    EXPECT_GT(done, last_done);
    last_done = done;
  };
  ASSERT_TRUE(Volume::Format(&device, options).ok());
  EXPECT_EQ(last_done, kVolumeBytes);
  // Nothing of what was there before is left anywhere.
  const std::string image = device.Image();
  const uint64_t free_block = 10 << 20;
  EXPECT_EQ(image.substr(free_block, 4096), std::string(4096, '\0'));
}

TEST(VolumeMountTest, SaysWhatIsWrong) {
  std::shared_ptr<Volume> volume;
  auto blank = std::make_unique<SimDevice>(
      std::string(kVolumeBytes, '\0'), SimDevice::MakeGeometry(kVolumeBytes));
  EXPECT_EQ(MountSim(std::move(blank), MountOptions(), &volume).error(),
            ENODATA);
  const std::string image = FormattedSim(kVolumeBytes)->Image();
  std::string damaged = image;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    damaged[SuperblockOffset(kVolumeBytes, i) + 40] ^= 1;
  }
  EXPECT_EQ(MountSim(SimFrom(damaged), MountOptions(), &volume).error(),
            EUCLEAN);
  std::string newer = image;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    // With a checksum of its own kind; one flipped bit alone would be damage.
    newer[SuperblockOffset(kVolumeBytes, i) + 8] = kFormatVersion + 1;
    newer[SuperblockOffset(kVolumeBytes, i) + 12] ^= 1;
  }
  EXPECT_EQ(MountSim(SimFrom(newer), MountOptions(), &volume).error(),
            EPROTONOSUPPORT);
}

// Two files that claim one block: no write, and a word about it.
TEST(VolumeMountTest, RefusesOverlappingExtents) {
  std::unique_ptr<SimDevice> device = FormattedSim(kVolumeBytes);
  Superblock superblock;
  ASSERT_TRUE(LoadSuperblock(device.get(), &superblock).ok());
  Namespace names;
  for (const char* name : {"a", "b"}) {
    MetadataOp op;
    Namespace::Effects effects;
    ASSERT_TRUE(
        names.PrepareCreate(std::string("/") + name, FileKind::kOther, 1, &op)
            .ok());
    const uint64_t ino = op.ino;
    ASSERT_TRUE(names.Apply(op, &effects).ok());
    op = MetadataOp();
    op.type = OpType::kExtents;
    op.ino = ino;
    op.extents = {{3000, 2}};
    ASSERT_TRUE(names.Apply(op, &effects).ok());
  }
  std::vector<std::string> snapshot;
  EncodeSnapshotOf(names, &snapshot);
  Journal journal(device.get(), {superblock.uuid, superblock.region_offset,
                                 superblock.region_bytes});
  ASSERT_TRUE(journal.Format(snapshot).ok());
  superblock.clean_sequence = journal.next_sequence();
  superblock.clean_region_nonce = journal.region_nonce();
  ASSERT_TRUE(StoreSuperblock(device.get(), &superblock).ok());
  std::shared_ptr<Volume> volume;
  EXPECT_EQ(MountSim(std::move(device), MountOptions(), &volume).error(),
            EUCLEAN);
}

// What an unlucky power cut leaves of the volume before is all of it, or
// nothing that could be mounted.
TEST(VolumeFormatTest, APowerCutWhileFormattingLeavesAllOrNothing) {
  std::mt19937_64 rng(TestSeed());
  const Tree old = {{"/a", Pattern(1, 3 << 20)}, {"/b", Pattern(2, 5000)}};
  std::string image;
  {
    std::shared_ptr<Volume> volume;
    SimDevice* sim = nullptr;
    ASSERT_TRUE(
        MountSim(FormattedSim(kMinVolumeBytes), MountOptions(), &volume, &sim)
            .ok());
    for (const auto& [path, content] : old) {
      ASSERT_TRUE(WriteFile(volume.get(), path, content, true).ok());
    }
    sim->on_destroy = [&image](const SimDevice& device) {
      image = device.Image();
    };
  }
  int gone = 0;
  bool cut_short = true;
  for (uint64_t nth = 1; cut_short; ++nth) {
    const std::unique_ptr<SimDevice> device = SimFrom(image);
    device->FailNth(SimOp::kWrite, nth, EIO, /*forever=*/true);
    cut_short = !Volume::Format(device.get(), FormatOptions()).ok();
    for (uint64_t i = 0; i < ScaledRounds(3); ++i) {
      std::shared_ptr<Volume> volume;
      const std::string left = AfterReboot(device->CrashImage(&rng));
      if (!MountSim(SimFrom(left), MountOptions(), &volume).ok()) {
        ++gone;
        continue;
      }
      Tree tree;
      ASSERT_TRUE(ReadTree(volume.get(), &tree).ok());
      ASSERT_TRUE(tree.empty() || (cut_short && tree == old))
          << "write " << nth;
    }
  }
  EXPECT_GT(gone, 10);
}

}  // namespace
}  // namespace diofs
