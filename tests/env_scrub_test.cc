// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "env/checksum_table.h"
#include "env/file_kind.h"
#include "env/file_reader.h"
#include "env/file_writer.h"
#include "env/fsck.h"
#include "env/scrub.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kDeviceBytes = 16 << 20;
constexpr uint64_t kChunk = ChecksumTable::kChunkBytes;

MountOptions WithChecksums() {
  MountOptions options;
  options.checksums = true;
  return options;
}

ScrubReport ScrubImage(const std::string& image,
                       const std::vector<DeviceRange>& unreadable = {}) {
  std::shared_ptr<Volume> volume;
  MountOptions options;
  options.read_only = true;
  SimDevice* sim = nullptr;
  EXPECT_TRUE(MountSim(SimFrom(image), options, &volume, &sim).ok());
  for (const DeviceRange& range : unreadable) {
    sim->SetUnreadable(range.offset, range.bytes);
  }
  ScrubReport report;
  uint64_t done = 0;
  uint64_t total = 0;
  const Result result = Scrub(
      volume.get(),
      [&](uint64_t done_now, uint64_t total_now) {
        EXPECT_GT(done_now, done);
        done = done_now;
        total = total_now;
      },
      &report);
  EXPECT_TRUE(result.ok()) << result.ToString();
  EXPECT_EQ(done, total);
  EXPECT_EQ(done, report.bytes);
  EXPECT_EQ(sim->writes(), 0u);
  return report;
}

std::string FsckProblem(const std::string& image) {
  FsckReport report;
  EXPECT_TRUE(Fsck(SimFrom(image), &report).ok());
  return report.problems.empty() ? "" : report.problems[0];
}

class ScrubTest : public testing::Test {
 protected:
  ScrubTest() { Mount(FormattedSim(kDeviceBytes)); }

  void Mount(std::unique_ptr<SimDevice> device) {
    volume_.reset();
    ASSERT_TRUE(
        MountSim(std::move(device), WithChecksums(), &volume_, &sim_).ok());
  }

  void Write(const std::string& path, const std::string& content) {
    ASSERT_TRUE(WriteFile(volume_.get(), path, content, true).ok());
  }

  // The one extent of a file that lies in one piece.
  Extent ExtentOf(const std::string& path) {
    OpenFilePtr file;
    EXPECT_TRUE(volume_->Open(path, &file).ok());
    EXPECT_EQ(file->inode()->map()->extents().size(), 1u);
    return file->inode()->map()->extents()[0];
  }

  uint64_t Blocks(const std::string& path) {
    FileStat stat;
    EXPECT_TRUE(volume_->Stat(path, &stat).ok());
    return stat.allocated_blocks;
  }

  // Whatever a power cut now would leave has the right tables.
  void CutPower(std::mt19937_64* rng) {
    const ScrubReport report = ScrubImage(AfterReboot(sim_->CrashImage(rng)));
    ASSERT_EQ(report.problems, std::vector<std::string>());
  }

  // The image after an unmount, with the byte at each of `offsets` changed.
  std::string Damaged(const std::vector<uint64_t>& offsets) {
    std::string image;
    sim_->on_destroy = [&image](const SimDevice& sim) { image = sim.Image(); };
    volume_.reset();
    for (const uint64_t offset : offsets) image[offset] ^= 0x10;
    return image;
  }

  std::shared_ptr<Volume> volume_;
  SimDevice* sim_ = nullptr;
};

TEST_F(ScrubTest, ASoundVolumeIsClean) {
  ASSERT_TRUE(volume_->Mkdir("/db").ok());
  Write("/db/000001.sst", Pattern(1, 3 << 20));
  Write("/db/000002.log", Pattern(2, 5000));
  Write("/db/CURRENT", "MANIFEST-1\n");
  Write("/db/empty", "");
  ASSERT_TRUE(volume_->Link("/db/000001.sst", "/twice").ok());
  EXPECT_EQ(Blocks("/db/000001.sst"), (3 << 20) / kBlockBytes + 1);
  EXPECT_EQ(Blocks("/db/CURRENT"), 2u);
  EXPECT_EQ(Blocks("/db/empty"), 0u);
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
  const std::string image = Damaged({});
  const ScrubReport report = ScrubImage(image);
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.files, 4u);
  EXPECT_EQ(report.unverified_files, 0u);
  EXPECT_EQ(FsckProblem(image), "");
}

TEST_F(ScrubTest, WithoutTheOptionFilesAreOnlyRead) {
  volume_.reset();
  ASSERT_TRUE(
      MountSim(FormattedSim(kDeviceBytes), MountOptions(), &volume_, &sim_)
          .ok());
  Write("/a.sst", Pattern(1, 100000));
  EXPECT_EQ(Blocks("/a.sst"), 25u);
  const uint64_t start = ExtentOf("/a.sst").start * kBlockBytes;
  const ScrubReport report = ScrubImage(Damaged({start}));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.unverified_files, 1u);
  EXPECT_EQ(report.unverified_bytes, 100000u);
}

TEST_F(ScrubTest, WhatIsNotWhatWasWrittenIsToldByPathAndBytes) {
  Write("/a.sst", Pattern(1, 5 * kChunk + 10));
  Write("/000002.log", Pattern(2, 3000));
  const uint64_t start = ExtentOf("/a.sst").start * kBlockBytes;
  const uint64_t log = ExtentOf("/000002.log").start * kBlockBytes;
  const ScrubReport report =
      ScrubImage(Damaged({start + kChunk, start + 2 * kChunk + 5,
                          start + 5 * kChunk + 9, log + 1000}));
  ASSERT_EQ(report.problems.size(), 3u);
  EXPECT_EQ(report.problems[1],
            "/a.sst: bytes 65536 to 196607 are not what was written");
  EXPECT_EQ(report.problems[2],
            "/a.sst: bytes 327680 to 327689 are not what was written");
  EXPECT_EQ(report.problems[0].rfind(
                "/000002.log: bytes 0 to 2999 cannot be read", 0),
            0u)
      << report.problems[0];
}

TEST_F(ScrubTest, AChangedBitBehindTheEndIsNoMatter) {
  Write("/a.sst", Pattern(1, 100));
  const uint64_t start = ExtentOf("/a.sst").start * kBlockBytes;
  EXPECT_EQ(ScrubImage(Damaged({start + 100})).problems.size(), 0u);
}

TEST_F(ScrubTest, ADamagedTableIsToldAsSuch) {
  Write("/a.sst", Pattern(1, 10000));
  const uint64_t table = (ExtentOf("/a.sst").start + 3) * kBlockBytes;
  const ScrubReport report = ScrubImage(Damaged({table + 24}));
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("/a.sst: checksums cannot be read"),
            std::string::npos)
      << report.problems[0];
  EXPECT_EQ(report.unverified_files, 1u);
}

TEST_F(ScrubTest, WhatCannotBeReadIsToldToTheChunk) {
  Write("/a.sst", Pattern(1, 4 * kChunk));
  const uint64_t start = ExtentOf("/a.sst").start * kBlockBytes;
  const ScrubReport report = ScrubImage(
      Damaged({}), {{start + kChunk + uint64_t{5} * kBlockBytes, 512}});
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("/a.sst: bytes 65536 to 131071 cannot be"),
            std::string::npos)
      << report.problems[0];
}

// ---- When a file has a table ------------------------------------------------

TEST_F(ScrubTest, ATableCostsOneWriteAndNoFlushMore) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  const std::string content = Pattern(1, 100000);
  ASSERT_TRUE(writer->Append(content.data(), content.size()).ok());
  const uint64_t writes = sim_->writes();
  const uint64_t flushes = sim_->flushes();
  ASSERT_TRUE(writer->Sync().ok());
  EXPECT_EQ(sim_->writes() - writes, 3u);  // content, table, journal
  EXPECT_EQ(sim_->flushes() - flushes, 2u);
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(sim_->writes() - writes, 3u);
  EXPECT_EQ(Blocks("/a.sst"), 26u);
}

TEST_F(ScrubTest, AFileThatGoesOnAfterASyncGetsItsTableAtClose) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  std::string content = Pattern(1, 10000);
  ASSERT_TRUE(writer->Append(content.data(), 5000).ok());
  ASSERT_TRUE(writer->Sync().ok());
  EXPECT_EQ(Blocks("/a.sst"), 3u);
  ASSERT_TRUE(writer->Append(content.data() + 5000, 5000).ok());
  ASSERT_TRUE(writer->Sync().ok());
  OpenFilePtr file;
  ASSERT_TRUE(volume_->Open("/a.sst", &file).ok());
  EXPECT_EQ(file->inode()->journaled_blocks, 3u);
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(file->inode()->journaled_blocks, 4u);
  file.reset();
  writer.reset();
  std::string read;
  ASSERT_TRUE(ReadFile(volume_.get(), "/a.sst", &read).ok());
  EXPECT_EQ(read, content);
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
  const ScrubReport report = ScrubImage(Damaged({}));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.unverified_files, 0u);
}

// The writer did not see what was there, and reads nothing back for it.
TEST_F(ScrubTest, AFileThatIsOpenedAgainLosesItsTable) {
  std::string content = Pattern(1, 10000);
  Write("/a.sst", content);
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  EXPECT_EQ(Blocks("/a.sst"), 4u);
  ASSERT_TRUE(writer->Append("more", 4).ok());
  content += "more";
  ASSERT_TRUE(writer->Sync().ok());
  ASSERT_TRUE(writer->Close().ok());
  writer.reset();
  EXPECT_EQ(Blocks("/a.sst"), 3u);
  std::string read;
  ASSERT_TRUE(ReadFile(volume_.get(), "/a.sst", &read).ok());
  EXPECT_EQ(read, content);
  const ScrubReport report = ScrubImage(Damaged({}));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.unverified_files, 1u);
}

TEST_F(ScrubTest, TruncateTakesTheTableAway) {
  Write("/a.sst", Pattern(1, 10000));
  for (const uint64_t bytes : {9000, 0}) {
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
    ASSERT_TRUE(writer->Truncate(bytes).ok());
    ASSERT_TRUE(writer->Close().ok());
    writer.reset();
    EXPECT_EQ(Blocks("/a.sst"), bytes == 0 ? 0u : 3u);
  }
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

// A power cut between the two must not leave a table that vouches for what was
// there before.
TEST_F(ScrubTest, TheTableIsDurablyGoneBeforeAByteIsOverwritten) {
  Write("/a.sst", Pattern(1, 10000));
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->WriteAt(100, "new", 3).ok());
  // All that was written counts, what waits for a flush of the journal not.
  const std::string cut = WithoutUnflushedJournal(*sim_, volume_->superblock());
  const ScrubReport report = ScrubImage(AfterReboot(cut));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.unverified_files, 1u);
  ASSERT_TRUE(writer->Close().ok());
}

// Neither does one that an append has taken away, which need not be durable.
TEST_F(ScrubTest, NorDoesATableThatAnAppendTookAway) {
  Write("/a.sst", Pattern(1, 10000));
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->Append("more", 4).ok());
  ASSERT_TRUE(writer->Close().ok());
  writer.reset();
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->WriteAt(100, "new", 3).ok());
  const std::string cut = WithoutUnflushedJournal(*sim_, volume_->superblock());
  EXPECT_EQ(ScrubImage(AfterReboot(cut)).problems, std::vector<std::string>());
  ASSERT_TRUE(writer->Close().ok());
}

// The name, too, may come back with the table.
TEST_F(ScrubTest, NorDoesATableOfAFileThatWasUnlinked) {
  for (const bool truncate : {false, true}) {
    Mount(FormattedSim(kDeviceBytes));
    Write("/a.sst", Pattern(1, 10000));
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
    ASSERT_TRUE(volume_->Unlink("/a.sst").ok());
    if (truncate) {
      ASSERT_TRUE(writer->Truncate(500).ok());
      ASSERT_TRUE(writer->Append("new", 3).ok());
      ASSERT_TRUE(writer->WriteOut().ok());
    } else {
      ASSERT_TRUE(writer->WriteAt(100, "new", 3).ok());
    }
    const std::string cut =
        WithoutUnflushedJournal(*sim_, volume_->superblock());
    EXPECT_EQ(ScrubImage(AfterReboot(cut)).problems,
              std::vector<std::string>());
    ASSERT_TRUE(writer->Close().ok());
  }
}

TEST_F(ScrubTest, AFileThatWasUnlinkedIsReadAsItIsWritten) {
  std::string content = Pattern(1, 10000);
  Write("/a.sst", content);
  OpenFilePtr file;
  ASSERT_TRUE(volume_->Open("/a.sst", &file).ok());
  const FileReader reader(file);
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(FileWriter::Open(file, &writer).ok());
  ASSERT_TRUE(volume_->Unlink("/a.sst").ok());
  for (int i = 0; i < 5; ++i) {
    const std::string more = Pattern(2 + i, 7000);
    content += more;
    ASSERT_TRUE(writer->Append(more.data(), more.size()).ok());
    std::string read(content.size(), '\0');
    const Result result = reader.Read(0, read.size(), read.data());
    ASSERT_EQ(result.bytes(), content.size()) << result.ToString();
    ASSERT_EQ(read, content);
  }
  ASSERT_TRUE(writer->Sync().ok());
  ASSERT_TRUE(writer->Close().ok());
}

TEST_F(ScrubTest, BlocksThatCameAheadAreFreeWhenTheTableGoes) {
  VolumeUsage before;
  ASSERT_TRUE(volume_->Usage(&before).ok());
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  writer->SetPreallocation(8 << 20);
  const std::string content = Pattern(1, 10000);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(writer->Append(content.data(), 5000).ok());
    ASSERT_TRUE(writer->Sync().ok());
    ASSERT_TRUE(writer->Close().ok());
  }
  VolumeUsage after;
  ASSERT_TRUE(volume_->Usage(&after).ok());
  // The content, a table, and those that came before it and may be read.
  EXPECT_LE(before.free_blocks - after.free_blocks, 7u + 5u);
}

TEST_F(ScrubTest, NothingAppendedChangesNothing) {
  Write("/a.sst", Pattern(1, 10000));
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->Append(nullptr, 0).ok());
  ASSERT_TRUE(writer->WriteAt(100, nullptr, 0).ok());
  ASSERT_TRUE(writer->WriteAt(20000, nullptr, 0).ok());
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_EQ(writer->size(), 10000u);
  EXPECT_EQ(Blocks("/a.sst"), 4u);
}

// Bytes overwritten in place are flushed when the file is closed, though its
// size is what it was.
TEST_F(ScrubTest, AnOverwriteIsFlushedAtClose) {
  Write("/a.sst", Pattern(1, 10000));
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->WriteAt(100, "new", 3).ok());
  ASSERT_TRUE(sim_->HasUnflushedWrites());
  ASSERT_TRUE(writer->Close().ok());
  EXPECT_FALSE(sim_->HasUnflushedWrites());
}

TEST_F(ScrubTest, WhereThereIsNoRoomThereIsNoTable) {
  // As large as the volume lets it be, and no block left behind the content.
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  const std::string block = Pattern(1, kBlockBytes);
  uint64_t blocks = 0;
  while (writer->Append(block.data(), block.size()).ok()) ++blocks;
  ASSERT_TRUE(writer->Sync().ok());
  ASSERT_TRUE(writer->Close().ok());
  writer.reset();
  EXPECT_EQ(Blocks("/a.sst"), blocks);
  // What is kept for files like this one is not for tables.
  Write("/CURRENT", "MANIFEST-1\n");
  EXPECT_EQ(Blocks("/CURRENT"), 1u);
  const ScrubReport report = ScrubImage(Damaged({}));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.bytes, blocks * kBlockBytes + 11);
}

TEST_F(ScrubTest, AnErrorOfTheTablesWriteIsOneOfTheFile) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->Append("content", 7).ok());
  sim_->FailNth(SimOp::kWrite, 2, EIO);
  EXPECT_EQ(writer->Sync().error(), EIO);
  EXPECT_EQ(writer->Sync().error(), EIO);
}

// A writer that knows of no tables would leave them wrong.
TEST_F(ScrubTest, AVolumeWithTablesSaysSo) {
  EXPECT_EQ(volume_->superblock().feature_ro_compat,
            Superblock::kChecksumTables);
  const std::string image = Damaged({});
  Superblock superblock;
  ASSERT_TRUE(LoadSuperblock(SimFrom(image).get(), &superblock).ok());
  EXPECT_EQ(superblock.feature_ro_compat, Superblock::kChecksumTables);
  EXPECT_TRUE(CheckMayWrite(superblock).ok());
  superblock.feature_ro_compat |= 4;
  const Result refused = CheckMayWrite(superblock);
  EXPECT_EQ(refused.error(), EROFS);
  EXPECT_NE(refused.ToString().find("features 0x4 "), std::string::npos)
      << refused.ToString();
}

TEST_F(ScrubTest, AJournalThatIsDamagedIsAProblem) {
  Write("/a.sst", Pattern(1, 10000));
  ASSERT_TRUE(volume_->Mkdir("/b").ok());
  ASSERT_TRUE(volume_->Mkdir("/c").ok());
  ASSERT_TRUE(volume_->Sync().ok());
  // The first frame behind the snapshot's end.
  std::vector<uint64_t> frames;
  for (const SimEvent& event : sim_->Events()) {
    if (event.op == SimOp::kWrite && event.io_class == kIoClassJournal) {
      frames.push_back(event.offset);
    }
  }
  ASSERT_GE(frames.size(), 3u);
  const std::string image = Damaged({frames[frames.size() - 3] + 100});
  const ScrubReport report = ScrubImage(image);
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_EQ(report.problems[0].rfind("journal damaged: ", 0), 0u)
      << report.problems[0];
}

TEST_F(ScrubTest, AMissingFrameOfALogEndsItsReading) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/000002.log", &writer).ok());
  const std::string content = Pattern(1, 100000);
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(writer->Append(content.data(), content.size()).ok());
    ASSERT_TRUE(writer->Sync().ok());
  }
  ASSERT_TRUE(writer->Close().ok());
  writer.reset();
  OpenFilePtr file;
  ASSERT_TRUE(volume_->Open("/000002.log", &file).ok());
  const uint64_t log = file->inode()->map()->extents()[0].start * kBlockBytes;
  file.reset();
  const ScrubReport report = ScrubImage(Damaged({log + 200000}));
  ASSERT_EQ(report.problems.size(), 1u);
  EXPECT_NE(report.problems[0].find("/000002.log: bytes "), std::string::npos);
  EXPECT_NE(report.problems[0].find(" to 2999999 cannot be read: "),
            std::string::npos)
      << report.problems[0];
}

Result ChangeAtRandom(Volume* volume, const std::string& path,
                      FileWriter* writer, std::mt19937_64* rng) {
  const std::string content = Pattern((*rng)(), (*rng)() % 90000 + 1);
  const uint64_t size = writer->size();
  OpenFilePtr created;
  FileStat stat;
  switch ((*rng)() % 9) {
    case 0:
    case 1:
      return writer->Sync();
    case 2:
      return writer->Truncate((*rng)() % (size + 1));
    case 3:
      return writer->WriteAt((*rng)() % (size + 1), content.data(),
                             500 % content.size());
    case 4:
      // The writer may have lost its name before.
      return volume->Stat(path, &stat).ok() ? volume->Unlink(path)
                                            : Result::Ok();
    case 5:
      return volume->CreateFile(path, &created);
    default:
      return writer->Append(content.data(), content.size());
  }
}

// Files in any state, a power cut at any time: a table that is there is right.
TEST_F(ScrubTest, ATableThatSurvivesAPowerCutIsRight) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < static_cast<int>(ScaledRounds(8)); ++round) {
    Mount(FormattedSim(kDeviceBytes));
    for (int step = 0; step < 12; ++step) {
      std::shared_ptr<FileWriter> writer;
      const std::string path = "/" + std::to_string(rng() % 3) + ".sst";
      ASSERT_TRUE(OpenWriter(volume_.get(), path, &writer).ok());
      const int cut_after = static_cast<int>(rng() % 4);
      for (int part = 0; part < 3; ++part) {
        if (part == cut_after) CutPower(&rng);
        const Result result =
            ChangeAtRandom(volume_.get(), path, writer.get(), &rng);
        ASSERT_TRUE(result.ok()) << result.ToString();
      }
      ASSERT_TRUE(writer->Close().ok());
      writer.reset();
      CutPower(&rng);
    }
    EXPECT_EQ(SpaceProblem(volume_.get()), "");
    const std::string image = Damaged({});
    EXPECT_EQ(FsckProblem(image), "");
    EXPECT_EQ(ScrubImage(image).problems, std::vector<std::string>());
  }
}

}  // namespace
}  // namespace diofs
