// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "env/file_reader.h"
#include "env/fsck.h"
#include "env/log_frame.h"
#include "env/log_reader.h"
#include "env/log_scan.h"
#include "env/volume.h"
#include "tests/log_writer_fixture.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

TEST_F(LogWriterTest, ReadersSeeEveryByteAppended) {
  Create();
  EXPECT_EQ(file_->inode()->layout, FileLayout::kLog);
  EXPECT_EQ(Read(), "");
  ASSERT_OK(Append("one "));
  EXPECT_EQ(Read(), "one ");
  ASSERT_OK(Append("two"));
  EXPECT_EQ(Read(), "one two");
  EXPECT_EQ(writer_->size(), 7u);
}

TEST_F(LogWriterTest, FlushSurvivesTheProcessAndSyncThePowerCut) {
  Create();
  ASSERT_OK(Append("one "));
  ASSERT_OK(writer_->Sync());
  ASSERT_OK(Append("two "));
  ASSERT_OK(writer_->Flush());
  ASSERT_OK(Append("three"));
  EXPECT_EQ(ReadAfterKill(), "one two ");
  EXPECT_EQ(ReadAfterPowerCut(), "one ");
}

// Also where nobody has asked for a commit, and no flush takes along what was
// written before.
TEST_F(LogWriterTest, ASyncedLogHasItsNameWithoutADirectorySync) {
  for (const bool fua : {false, true}) {
    if (fua) MountWithFua();
    ASSERT_OK(volume_->Mkdir("/db"));
    ASSERT_OK(volume_->CreateFile("/db/000007.log", &file_));
    ASSERT_OK(FileWriter::Open(file_, &writer_));
    ASSERT_OK(Append("here"));
    ASSERT_OK(volume_->Rename("/db", "/moved"));
    ASSERT_OK(writer_->Sync());
    std::shared_ptr<Volume> after;
    ASSERT_OK(MountSim(SimFrom(AfterReboot(sim_->DurableImage())),
                       MountOptions(), &after));
    std::string content;
    ASSERT_OK(ReadFile(after.get(), "/moved/000007.log", &content));
    EXPECT_EQ(content, "here");
  }
}

// What the writer before could not finish may not be durable, and the journal
// must not name it before it is.
TEST_F(LogWriterTest, ASegmentBeginsBehindDurableFrames) {
  MountWithFua();
  Create();
  writer_->SetPreallocation(1 << 20);
  ASSERT_OK(Append("one"));
  ASSERT_OK(writer_->WriteOut());
  ASSERT_OK(Append("two"));
  sim_->FailNth(SimOp::kWrite, 1, EIO);
  EXPECT_EQ(writer_->WriteOut().error(), EIO);
  Reopen();
  ASSERT_OK(Append("three"));
  ASSERT_OK(volume_->SyncNames());
  EXPECT_EQ(ReadAfterPowerCut(), "one");
}

// 100 syncs of different sizes in one extent: a write and a flush each.
TEST_F(LogWriterTest, ASyncIsOneWriteAndOneFlush) {
  Create();
  writer_->SetPreallocation(8 << 20);
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  std::string content = "first";
  std::mt19937_64 rng(TestSeed());
  uint64_t writes = sim_->writes();
  uint64_t flushes = sim_->flushes();
  for (int i = 0; i < 100; ++i) {
    const std::string more = Pattern(rng(), rng() % 40000 + 1);
    content += more;
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Flush());
    ASSERT_OK(writer_->Sync());
    ASSERT_EQ(sim_->writes(), ++writes);
    ASSERT_EQ(sim_->flushes(), ++flushes);
  }
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(sim_->writes(), writes);
  EXPECT_EQ(sim_->flushes(), flushes);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// Ten thousand of them cross extents, of which the journal hears in one write
// each; they need no flush of their own.
TEST_F(LogWriterTest, TenThousandSyncsAreTenThousandWritesBesideTheJournal) {
  Mount(FormattedSim(uint64_t{512} << 20));
  const uint64_t seed = TestSeed();
  std::mt19937_64 rng(seed);
  Create();
  const uint64_t count = ScaledRounds(10000);
  const std::string bytes = Pattern(seed, 256 << 10);
  const auto of_journal = [this] {
    return volume_->device()->stats().by_class[kIoClassJournal].writes.load();
  };
  const uint64_t writes = sim_->writes();
  const uint64_t flushes = sim_->flushes();
  const uint64_t journal_writes = of_journal();
  uint64_t size = 0;
  for (uint64_t i = 0; i < count; ++i) {
    // Log-uniform from 1 byte to 256 KiB.
    const double exponent = 18.0 * static_cast<double>(rng() >> 11) * 0x1p-53;
    const auto length = static_cast<uint64_t>(std::exp2(exponent));
    ASSERT_OK(writer_->Append(bytes.data(), length));
    size += length;
    ASSERT_OK(writer_->Sync());
  }
  const uint64_t journal = of_journal() - journal_writes;
  EXPECT_EQ(sim_->writes() - writes - journal, count);
  EXPECT_LE(sim_->flushes() - flushes, count);
  EXPECT_LE(journal, file_->inode()->map()->extents().size() + 12);
  FileReader reader(file_);
  EXPECT_EQ(reader.size(), size);
}

TEST_F(LogWriterTest, WhereTheDeviceWritesThroughASyncNeedsNoFlush) {
  MountWithFua();
  Create();
  writer_->SetPreallocation(1 << 20);
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  uint64_t writes = sim_->writes();
  const uint64_t flushes = sim_->flushes();
  std::string content = "first";
  for (int i = 0; i < 50; ++i) {
    const std::string more = Pattern(i, 700);
    content += more;
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
    ASSERT_EQ(sim_->writes(), ++writes);
    ASSERT_TRUE(sim_->Events().back().fua);
  }
  EXPECT_EQ(sim_->flushes(), flushes);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// A write through makes durable what it carries, and nothing before it.
TEST_F(LogWriterTest, WhatWasWrittenBeforeNeedsAFlush) {
  MountWithFua();
  Create();
  writer_->SetPreallocation(1 << 20);
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  ASSERT_OK(Append(Pattern(1, 5000)));
  ASSERT_OK(writer_->WriteOut());
  ASSERT_OK(Append("last"));
  const uint64_t flushes = sim_->flushes();
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(sim_->flushes(), flushes + 1);
  EXPECT_EQ(ReadAfterPowerCut(), "first" + Pattern(1, 5000) + "last");
}

TEST_F(LogWriterTest, AppendsOfAnySizeComeBack) {
  std::mt19937_64 rng(TestSeed());
  Create();
  std::string content;
  for (int i = 0; i < 60; ++i) {
    const uint64_t most = i % 7 == 0 ? 3 << 20 : 9000;
    if (content.size() > (5 << 20)) break;
    const std::string more = Pattern(rng(), rng() % most + 1);
    content += more;
    ASSERT_OK(Append(more));
    if (i % 3 == 0) ASSERT_OK(writer_->Flush());
    if (i % 5 == 0) ASSERT_OK(writer_->Sync());
  }
  EXPECT_EQ(Read(), content);
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut(), content);
  ASSERT_OK(writer_->Close());
  EXPECT_EQ(Read(), content);
  // Closed, it needs no walk; the blocks behind its end are given back.
  const LogState::Journaled journaled = file_->inode()->log->journaled();
  EXPECT_TRUE(journaled.closed);
  EXPECT_EQ(journaled.known.logical, content.size());
  EXPECT_LE(file_->inode()->map()->blocks(),
            journaled.known.position / kBlockBytes + 1);
  EXPECT_EQ(ReadAfterKill(), content);
  writer_ = nullptr;
  file_ = nullptr;
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

TEST_F(LogWriterTest, ReadsOfAnyPartAreExact) {
  std::mt19937_64 rng(TestSeed());
  Create();
  std::string content;
  while (content.size() < (2 << 20)) {
    const uint64_t most = rng() % 10 == 0 ? 300000 : 500;
    content += Pattern(rng(), rng() % most + 1);
    const uint64_t from = writer_->size();
    ASSERT_OK(writer_->Append(content.data() + from, content.size() - from));
    if (rng() % 4 != 0) ASSERT_OK(writer_->Flush());
  }
  ASSERT_OK(writer_->Flush());
  for (const bool remounted : {false, true}) {
    if (remounted) {
      Mount(SimFrom(sim_->Image()));
      ASSERT_OK(volume_->Open(kPath, &file_));
    }
    const FileReader reader(file_);
    EXPECT_EQ(reader.size(), content.size());
    char byte = '?';
    EXPECT_EQ(ReadLog(*file_, UINT64_MAX, 1, &byte, 0).bytes(), 0u);
    for (int i = 0; i < 300; ++i) {
      std::vector<ReadRange> ranges(rng() % 3 + 1);
      std::vector<std::string> memory;
      for (ReadRange& range : ranges) {
        range.offset = rng() % (content.size() + 100);
        range.length = rng() % (rng() % 10 == 0 ? 200000 : 3000);
        memory.emplace_back(range.length, '?');
      }
      for (size_t r = 0; r < ranges.size(); ++r) {
        ranges[r].memory = memory[r].data();
      }
      if (i % 2 == 0) {
        ASSERT_OK(reader.MultiRead(ranges.data(), ranges.size()));
      } else {
        ReadBatch batch;
        ASSERT_OK(reader.Start(ranges.data(), ranges.size(), &batch));
        batch.Wait();
      }
      for (size_t r = 0; r < ranges.size(); ++r) {
        ASSERT_OK(ranges[r].result);
        const std::string expected =
            ranges[r].offset >= content.size()
                ? ""
                : content.substr(ranges[r].offset, ranges[r].length);
        ASSERT_EQ(memory[r].substr(0, ranges[r].result.bytes()), expected);
      }
    }
  }
}

// Frames that nobody knows of may lie behind the end of one that was not closed
// in this mount.
TEST_F(LogWriterTest, OnlyAClosedLogGoesOnInItsSegment) {
  Create();
  std::string content;
  for (int life = 0; life < 4; ++life) {
    const std::string more = Pattern(life, 3000);
    content += more;
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
    EXPECT_EQ(file_->inode()->log->journaled().segments.size(),
              1u + (life + 1) / 2);
    if (life % 2 == 0) {
      Mount(SimFrom(AfterReboot(sim_->DurableImage())));
      Reopen();
      EXPECT_EQ(writer_->size(), content.size());
    } else {
      ASSERT_OK(writer_->Close());
      Reopen();
    }
    EXPECT_EQ(Read(), content);
  }
  ASSERT_OK(writer_->Close());
  EXPECT_EQ(ReadAfterPowerCut(), content);
  LogScan scan;
  ASSERT_OK(ScanLog(sim_, *file_->inode(), /*from_start=*/true, &scan));
  EXPECT_EQ(scan.frames, 4u);
  EXPECT_EQ(scan.length, content.size());
  EXPECT_EQ(scan.end, file_->inode()->log->end());
  EXPECT_EQ(scan.damage, "");
}

// Frames behind the end that a power cut left are of another generation.
TEST_F(LogWriterTest, WhatWasLostStaysLost) {
  Create();
  writer_->SetPreallocation(1 << 20);
  ASSERT_OK(Append("synced "));
  ASSERT_OK(writer_->Sync());
  const std::string before = sim_->Image();
  for (int i = 0; i < 5; ++i) {
    ASSERT_OK(Append(Pattern(i, 4096)));
    ASSERT_OK(writer_->Flush());
  }
  // The first of them is lost, the others are on the medium.
  std::string image = sim_->Image();
  const uint64_t at = FirstBlock();
  image.replace(at, uint64_t{2} * kBlockBytes, before, at,
                uint64_t{2} * kBlockBytes);
  Mount(SimFrom(AfterReboot(image)));
  EXPECT_EQ(Read(), "synced ");
  Reopen();
  // As long as what was lost, so that the old frames would fit behind it.
  ASSERT_OK(Append(Pattern(0, 4096)));
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut(), "synced " + Pattern(0, 4096));
  EXPECT_EQ(ReadAfterKill(), "synced " + Pattern(0, 4096));
}

TEST_F(LogWriterTest, TruncateKeepsExactlyTheFirstBytes) {
  std::mt19937_64 rng(TestSeed());
  Create();
  std::string content;
  for (int round = 0; round < 60; ++round) {
    for (uint64_t i = rng() % 4; i > 0; --i) {
      const std::string more = Pattern(rng(), rng() % 9000 + 1);
      content += more;
      ASSERT_OK(Append(more));
      if (rng() % 2 == 0) ASSERT_OK(writer_->Flush());
    }
    uint64_t size = content.empty() ? 0 : rng() % (content.size() + 1);
    if (rng() % 8 == 0) size = 0;
    if (rng() % 8 == 0) size = content.size() + rng() % 5000;
    ASSERT_OK(writer_->Truncate(size));
    content.resize(size);
    ASSERT_EQ(writer_->size(), size);
    ASSERT_EQ(Read(), content);
    if (round % 4 == 0) {
      ASSERT_OK(writer_->Sync());
      ASSERT_EQ(ReadAfterPowerCut(), content);
    }
    if (round % 4 == 1) {
      ASSERT_OK(writer_->Flush());
      ASSERT_EQ(ReadAfterKill(), content);
    }
    if (round % 16 == 15) {
      ASSERT_OK(writer_->Close());
      Reopen();
    }
  }
  ASSERT_OK(writer_->Close());
  writer_ = nullptr;
  file_ = nullptr;
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

TEST_F(LogWriterTest, ALogCanOnlyBeAppendedTo) {
  Create();
  ASSERT_OK(writer_->WriteAt(0, "abc", 3));
  EXPECT_EQ(writer_->WriteAt(1, "x", 1).error(), ENOTSUP);
  EXPECT_EQ(writer_->WriteAt(4, "x", 1).error(), ENOTSUP);
  EXPECT_EQ(Read(), "abc");
}

// ---- Damage -----------------------------------------------------------------

// The middle one of three synced frames, whichever bit of it flips.
TEST_F(LogWriterTest, DamageInTheMiddleIsNeverReadOrCutOff) {
  Create();
  writer_->SetPreallocation(1 << 20);
  for (const char* text : {"first", "middle", "last"}) {
    ASSERT_OK(Append(text));
    ASSERT_OK(writer_->Sync());
  }
  const std::string sound = AfterReboot(sim_->DurableImage());
  const uint64_t middle = FirstBlock() + LogFrameBytes(5);
  for (uint64_t bit = 0; bit < uint64_t{kLogFrameHeaderBytes + 6} * 8;
       bit += 5) {
    std::string image = sound;
    image[middle + bit / 8] ^= static_cast<char>(1 << bit % 8);
    std::shared_ptr<Volume> volume;
    ASSERT_OK(MountSim(SimFrom(image), MountOptions(), &volume));
    std::string content;
    ASSERT_EQ(ReadFile(volume.get(), kPath, &content).error(), EUCLEAN) << bit;
    std::shared_ptr<OpenFile> file;
    ASSERT_OK(volume->Open(kPath, &file));
    std::shared_ptr<FileWriter> writer;
    EXPECT_EQ(FileWriter::Open(file, &writer).error(), EUCLEAN);
    // What lies before it is there.
    content.assign(5, '?');
    const FileReader reader(file);
    ASSERT_OK(reader.Read(0, 5, content.data()));
    EXPECT_EQ(content, "first");
    EXPECT_EQ(reader.Read(5, 1, content.data()).error(), EUCLEAN);
    EXPECT_EQ(FsckProblems(image).size(), 1u);
  }
}

TEST_F(LogWriterTest, ABlockThatCannotBeReadIsNoEnd) {
  Create();
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  ASSERT_OK(Append(Pattern(1, 5000)));
  ASSERT_OK(writer_->Sync());
  auto device = SimFrom(AfterReboot(sim_->DurableImage()));
  device->SetUnreadable(FirstBlock() + kBlockBytes, 512);
  Mount(std::move(device));
  std::string content;
  EXPECT_EQ(ReadFile(volume_.get(), kPath, &content).error(), EUCLEAN);
}

// Preallocated blocks that hold whatever there was.
TEST_F(LogWriterTest, GarbageBehindTheEndIsNotRead) {
  Create();
  writer_->SetPreallocation(1 << 20);
  ASSERT_OK(Append("all there is"));
  ASSERT_OK(writer_->Sync());
  const std::string sound = AfterReboot(sim_->DurableImage());
  const uint64_t at = FirstBlock();
  for (int kind = 0; kind < 3; ++kind) {
    std::string image = sound;
    const uint64_t count = (1 << 20) - kBlockBytes;
    if (kind == 0) image.replace(at + kBlockBytes, count, count, '\xae');
    if (kind == 1) image.replace(at + kBlockBytes, count, count, '\0');
    // Frames of this very log, at other places.
    for (uint64_t i = 1; kind == 2 && i < 256; ++i) {
      image.replace(at + i * kBlockBytes, kBlockBytes, sound, at, kBlockBytes);
    }
    EXPECT_EQ(ReadFrom(image), "all there is") << kind;
  }
}

// ---- Errors -----------------------------------------------------------------

TEST_F(LogWriterTest, AFailedWriteOrFlushIsKept) {
  for (const SimOp op : {SimOp::kWrite, SimOp::kFlush}) {
    Mount(FormattedSim(kVolumeBytes));
    Create();
    ASSERT_OK(Append("good"));
    ASSERT_OK(writer_->Sync());
    ASSERT_OK(Append("bad"));
    sim_->FailNth(op, 1, EIO);
    EXPECT_EQ(writer_->Sync().error(), EIO);
    EXPECT_EQ(writer_->Sync().error(), EIO);
    EXPECT_EQ(Append("more").error(), EIO);
    EXPECT_EQ(writer_->Flush().error(), EIO);
    EXPECT_EQ(writer_->Close().error(), EIO);
    EXPECT_EQ(ReadAfterPowerCut().substr(0, 4), "good");
  }
}

TEST_F(LogWriterTest, NoSpaceIsToldAtAppendAndChangesNothing) {
  Create();
  std::string content;
  const std::string more = Pattern(3, 1 << 20);
  Result result;
  while ((result = Append(more)).ok()) content += more;
  EXPECT_EQ(result.error(), ENOSPC);
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(Read(), content);
  // What was pending is in frames now, perhaps shorter than was thought.
  while ((result = Append(more)).ok()) content += more;
  EXPECT_EQ(result.error(), ENOSPC);
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

}  // namespace
}  // namespace diofs
