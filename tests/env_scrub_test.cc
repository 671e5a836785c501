// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "env/checksum_table.h"
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
  const ScrubReport report =
      ScrubImage(Damaged({}), {{start + kChunk + 5 * kBlockBytes, 512}});
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
  const ScrubReport report = ScrubImage(Damaged({}));
  EXPECT_EQ(report.problems, std::vector<std::string>());
  EXPECT_EQ(report.bytes, blocks * kBlockBytes);
}

TEST_F(ScrubTest, AnErrorOfTheTablesWriteIsOneOfTheFile) {
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/a.sst", &writer).ok());
  ASSERT_TRUE(writer->Append("content", 7).ok());
  sim_->FailNth(SimOp::kWrite, 2, EIO);
  EXPECT_EQ(writer->Sync().error(), EIO);
  EXPECT_EQ(writer->Sync().error(), EIO);
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
      for (int part = 0; part < 3; ++part) {
        const std::string content = Pattern(rng(), rng() % 90000 + 1);
        const uint64_t size = writer->size();
        switch (rng() % 6) {
          case 0:
            ASSERT_TRUE(writer->Sync().ok());
            break;
          case 1:
            ASSERT_TRUE(writer->Truncate(rng() % (size + 1)).ok());
            break;
          case 2:
            ASSERT_TRUE(writer
                            ->WriteAt(rng() % (size + 1), content.data(),
                                      500 % content.size())
                            .ok());
            break;
          default:
            ASSERT_TRUE(writer->Append(content.data(), content.size()).ok());
            break;
        }
      }
      ASSERT_TRUE(writer->Close().ok());
      writer.reset();
      const ScrubReport report =
          ScrubImage(AfterReboot(sim_->CrashImage(&rng)));
      ASSERT_EQ(report.problems, std::vector<std::string>());
    }
    EXPECT_EQ(SpaceProblem(volume_.get()), "");
    const std::string image = Damaged({});
    EXPECT_EQ(FsckProblem(image), "");
    EXPECT_EQ(ScrubImage(image).problems, std::vector<std::string>());
  }
}

}  // namespace
}  // namespace diofs
