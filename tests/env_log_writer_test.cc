#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "env/file_reader.h"
#include "env/fsck.h"
#include "env/log_frame.h"
#include "env/log_reader.h"
#include "env/log_scan.h"
#include "env/log_walker.h"
#include "env/log_writer.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;
constexpr const char* kPath = "/000001.log";

#define ASSERT_OK(expression)                            \
  do {                                                   \
    const Result ok_result = (expression);               \
    ASSERT_TRUE(ok_result.ok()) << ok_result.ToString(); \
  } while (false)

std::vector<std::string> FsckProblems(std::string image) {
  FsckReport report;
  const Result result = Fsck(SimFrom(image), &report);
  if (!result.ok()) report.problems.push_back(result.ToString());
  return report.problems;
}

class LogWriterTest : public testing::Test {
 protected:
  void SetUp() override { Mount(FormattedSim(kVolumeBytes)); }

  void Mount(std::unique_ptr<SimDevice> device,
             const MountOptions& options = MountOptions()) {
    writer_ = nullptr;
    file_ = nullptr;
    volume_ = nullptr;
    ASSERT_OK(MountSim(std::move(device), options, &volume_, &sim_));
  }
  void MountWithFua() {
    std::string image = FormattedSim(kVolumeBytes)->Image();
    Geometry geometry = SimDevice::MakeGeometry(kVolumeBytes);
    geometry.fua = true;
    MountOptions options;
    options.flush_mode = FlushMode::kMemory;
    Mount(std::make_unique<SimDevice>(std::move(image), geometry), options);
  }
  void Create() {
    writer_ = nullptr;
    ASSERT_OK(volume_->CreateFile(kPath, &file_));
    ASSERT_OK(FileWriter::Open(file_, &writer_));
  }
  void Reopen() {
    writer_ = nullptr;
    file_ = nullptr;
    ASSERT_OK(volume_->Open(kPath, &file_));
    ASSERT_OK(FileWriter::Open(file_, &writer_));
  }
  Result Append(const std::string& text) {
    return writer_->Append(text.data(), text.size());
  }
  std::string Read(Volume* volume) {
    std::string content;
    const Result r = ReadFile(volume, kPath, &content);
    return r.ok() ? content : r.ToString();
  }
  std::string Read() { return Read(volume_.get()); }
  // As another boot finds it that has only what was flushed, or the same boot.
  std::string ReadAfterPowerCut() {
    return ReadFrom(AfterReboot(sim_->DurableImage()));
  }
  std::string ReadAfterKill() { return ReadFrom(sim_->Image()); }
  std::string ReadFrom(const std::string& image) {
    EXPECT_EQ(FsckProblems(image), std::vector<std::string>());
    std::shared_ptr<Volume> volume;
    const Result mounted = MountSim(SimFrom(image), MountOptions(), &volume);
    if (!mounted.ok()) return mounted.ToString();
    EXPECT_EQ(SpaceProblem(volume.get()), "");
    return Read(volume.get());
  }
  // Device offset of the log's first block.
  uint64_t FirstBlock() const {
    return file_->inode()->map()->extents()[0].start * kBlockBytes;
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<OpenFile> file_;
  std::shared_ptr<FileWriter> writer_;
};

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
  image.replace(at, 2 * kBlockBytes, before, at, 2 * kBlockBytes);
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
  for (uint64_t bit = 0; bit < (kLogFrameHeaderBytes + 6) * 8; bit += 5) {
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

// ---- Threads ----------------------------------------------------------------

TEST_F(LogWriterTest, SyncsBesideAppendsShareWrites) {
  Mount(FormattedSim(uint64_t{128} << 20));
  Create();
  writer_->SetPreallocation(32 << 20);
  constexpr int kAppends = 2000;
  std::vector<std::thread> threads;
  threads.reserve(3);
  std::string content;
  threads.emplace_back([&] {
    for (int i = 0; i < kAppends; ++i) {
      const std::string more = Pattern(i, 300);
      content += more;
      EXPECT_TRUE(Append(more).ok());
    }
  });
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      uint64_t durable = 0;
      while (durable < uint64_t{kAppends} * 300) {
        const uint64_t size = writer_->size();
        EXPECT_TRUE(writer_->Sync().ok());
        durable = size;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Read(), content);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// Closed in one mount, it was appended to in the next one, and the power cut
// took the record of that along, but not the frames.
TEST_F(LogWriterTest, FramesBehindTheEndOfAClosedLogStayForgotten) {
  Create();
  ASSERT_OK(Append("kept"));
  ASSERT_OK(writer_->Close());
  ASSERT_OK(volume_->Sync());
  Reopen();
  ASSERT_OK(Append(" lost"));
  ASSERT_OK(writer_->WriteOut());
  std::string image =
      AfterReboot(WithoutUnflushedJournal(*sim_, volume_->superblock()));
  for (int mount = 0; mount < 3; ++mount) {
    Mount(SimFrom(image));
    EXPECT_EQ(Read(), "kept");
    Reopen();
    if (mount == 1) {
      ASSERT_OK(volume_->Unmount());
    } else {
      // Makes the record, and leaves no frame behind it.
      sim_->FailNth(SimOp::kWrite, 1, EIO, /*forever=*/true);
      EXPECT_FALSE(Append("x").ok() && writer_->Flush().ok());
    }
    image = AfterReboot(sim_->DurableImage());
  }
}

TEST_F(LogWriterTest, AGrowingTruncateThatDoesNotFitChangesNothing) {
  Create();
  ASSERT_OK(Append("front"));
  EXPECT_EQ(writer_->Truncate(kVolumeBytes).error(), ENOSPC);
  EXPECT_EQ(writer_->Truncate(kMaxLogBytes + 1).error(), EFBIG);
  EXPECT_EQ(writer_->size(), 5u);
  ASSERT_OK(writer_->Truncate(8));
  ASSERT_OK(writer_->Sync());
  EXPECT_EQ(ReadAfterPowerCut(), std::string("front\0\0\0", 8));
}

// Each life of the file is filled with a letter of its own: what is read is of
// one life, and no reader takes a cut for damage.
TEST_F(LogWriterTest, ReadersBesideTruncateSeeOneLife) {
  for (uint64_t round = 0; round < ScaledRounds(20); ++round) {
    Create();
    ASSERT_OK(Append(std::string(20000, 'a')));
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    readers.reserve(2);
    for (int t = 0; t < 2; ++t) {
      readers.emplace_back([&] {
        const FileReader reader(file_);
        std::string memory(40000, '-');
        while (!stop) {
          const Result result = reader.Read(0, memory.size(), memory.data());
          ASSERT_TRUE(result.ok()) << result.ToString();
          const std::string content = memory.substr(0, result.bytes());
          EXPECT_EQ(content.find_first_not_of(content[0]), std::string::npos);
        }
      });
    }
    // What is cut off stays allocated while the file is open.
    for (char life = 'b'; life < 'z'; ++life) {
      EXPECT_TRUE(writer_->Truncate(0).ok());
      EXPECT_TRUE(Append(std::string(20000, life)).ok());
    }
    stop = true;
    for (std::thread& reader : readers) reader.join();
  }
}

// Without any word of its final size; the clock's commit, made here by hand,
// comes between the two.
TEST_F(LogWriterTest, BlocksAreJournaledBeforeTheyAreNeeded) {
  Create();
  const auto of_journal = [this] {
    return volume_->device()->stats().by_class[kIoClassJournal].writes.load();
  };
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  uint64_t blocks = file_->inode()->map()->blocks();
  uint64_t grown = 0;
  std::string content = "first";
  while (grown < 4) {
    const std::string more = Pattern(content.size(), 3000);
    content += more;
    uint64_t journal = of_journal();
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
    const uint64_t now = file_->inode()->map()->blocks();
    EXPECT_EQ(of_journal(), journal) << content.size();
    if (now == blocks) continue;
    ++grown;
    // A quarter of them was left.
    EXPECT_GT(blocks * kBlockBytes, content.size() + (32 << 10));
    blocks = now;
    ASSERT_OK(volume_->SyncNames());
    EXPECT_EQ(of_journal(), journal + 1);
  }
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// They are there when they are needed, whether or not the clock was in time.
TEST_F(LogWriterTest, ASyncNamesBlocksThatWereAllocatedAhead) {
  MountWithFua();
  Create();
  std::string content;
  while (content.size() < 2'000'000) {
    const std::string more = Pattern(content.size(), 20000);
    content += more;
    ASSERT_OK(Append(more));
    ASSERT_OK(writer_->Sync());
  }
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

// Whoever comes while the write of another one is under way.
TEST_F(LogWriterTest, NobodyIsToldOfAWriteBeforeItIsOver) {
  Create();
  ASSERT_OK(Append("first"));
  ASSERT_OK(writer_->Sync());
  for (const bool sync : {false, true}) {
    ASSERT_OK(Append("more"));
    std::thread other;
    std::atomic<bool> returned{false};
    sim_->on_write = [&] {
      if (other.joinable()) return;
      other = std::thread([&] {
        EXPECT_TRUE((sync ? writer_->Sync() : writer_->Flush()).ok());
        returned = true;
      });
      // It would be back by then, if it did not wait.
      for (int i = 0; i < 100 && !returned; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      EXPECT_FALSE(returned);
    };
    EXPECT_TRUE(writer_->WriteOut().ok());
    other.join();
    sim_->on_write = nullptr;
  }
  EXPECT_EQ(ReadAfterPowerCut(), "firstmoremore");
}

// The flush of a Sync covers nothing of what a Truncate puts in its place
// meanwhile: frames must not name it durable.
TEST_F(LogWriterTest, ATruncateDuringTheFlushOfASyncIsNotMistakenForIt) {
  Create();
  ASSERT_OK(Append(std::string(50000, 'o')));
  std::thread other;
  sim_->on_flush = [&] {
    if (other.joinable()) return;
    other = std::thread([&] { EXPECT_TRUE(writer_->Truncate(100).ok()); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  };
  ASSERT_OK(writer_->Sync());
  other.join();
  sim_->on_flush = nullptr;
  ASSERT_OK(Append("new"));
  ASSERT_OK(writer_->WriteOut());
  ASSERT_OK(Append("newer"));
  ASSERT_OK(writer_->WriteOut());
  EXPECT_EQ(Read(), std::string(100, 'o') + "newnewer");
  // Only what the Truncate itself made durable is certain.
  EXPECT_EQ(ReadAfterPowerCut(), std::string(100, 'o'));
  LogWalker::Stream stream;
  stream.device = sim_;
  stream.map = file_->inode()->map();
  const LogPosition mark = file_->inode()->log->FindMark(0, &stream.segments);
  LogWalker walker(std::move(stream), mark);
  LogWalker::Frame frame;
  for (bool found = true; found;) {
    ASSERT_OK(walker.Next(&frame, &found));
    EXPECT_LE(frame.header.durable_upto, 100u);
  }
}

// Where free space is scattered, blocks that come ahead of need may change
// where a frame goes that was planned before.
TEST_F(LogWriterTest, SyncsOnAFragmentedVolumeNameEveryBlock) {
  std::mt19937_64 rng(TestSeed());
  for (uint64_t round = 0; round < ScaledRounds(4); ++round) {
    MountWithFua();
    std::vector<std::string> paths;
    while (true) {
      const std::string path = "/" + std::to_string(paths.size()) + ".sst";
      const uint64_t bytes = (rng() % 30 + 1) * kBlockBytes;
      if (!WriteFile(volume_.get(), path, std::string(bytes, 'f'), false)
               .ok()) {
        break;
      }
      paths.push_back(path);
    }
    for (const std::string& path : paths) {
      if (rng() % 2 == 0) {
        ASSERT_OK(volume_->Unlink(path));
      }
    }
    ASSERT_OK(volume_->SyncNames());
    Create();
    std::string content;
    for (int i = 0; i < 12; ++i) {
      const std::string more = Pattern(rng(), rng() % 100000 + 1);
      ASSERT_OK(Append(more));
      content += more;
      ASSERT_OK(writer_->Sync());
      ASSERT_EQ(ReadAfterPowerCut() == content, true) << content.size();
    }
  }
}

// Nobody of them has to know of the others: each call does what it says with
// what is there when it is served.
TEST_F(LogWriterTest, AppendsSyncsClosesAndTruncatesMayMeet) {
  std::mt19937_64 rng(TestSeed());
  Create();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) EXPECT_TRUE(writer_->Sync().ok());
    });
  }
  threads.emplace_back([&] {
    while (!stop) EXPECT_TRUE(writer_->Close().ok());
  });
  threads.emplace_back([&, seed = rng()] {
    std::mt19937_64 sizes(seed);
    while (!stop) {
      const uint64_t size = writer_->size();
      EXPECT_TRUE(writer_->Truncate(size == 0 ? 0 : sizes() % size).ok());
    }
  });
  for (uint64_t i = 0; i < ScaledRounds(1000); ++i) {
    EXPECT_TRUE(Append(std::string(rng() % 3000 + 1, 'x')).ok());
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  ASSERT_OK(Append("the end"));
  ASSERT_OK(writer_->Sync());
  const std::string content = Read();
  EXPECT_EQ(content.size(), writer_->size());
  EXPECT_EQ(content.find_first_not_of('x'), content.size() - 7);
  EXPECT_EQ(ReadAfterPowerCut(), content);
}

}  // namespace
}  // namespace diofs
