#include <gtest/gtest.h>

#include <cerrno>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "env/file_reader.h"
#include "env/file_writer.h"
#include "env/plain_writer.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 32 << 20;

class FileWriterTest : public testing::TestWithParam<uint32_t> {
 protected:
  void SetUp() override {
    ASSERT_TRUE(MountSim(FormattedSim(kVolumeBytes, GetParam()), MountOptions(),
                         &volume_, &sim_)
                    .ok());
  }

  void Create(const std::string& path) {
    writer_ = nullptr;
    ASSERT_TRUE(volume_->CreateFile(path, &file_).ok());
    ASSERT_TRUE(FileWriter::Open(file_, &writer_).ok());
  }
  Result Append(const std::string& text) {
    return writer_->Append(text.data(), text.size());
  }
  std::string Read() {
    std::string content;
    const Result r = ReadFile(volume_.get(), "/f", &content);
    EXPECT_TRUE(r.ok()) << r.ToString();
    return content;
  }
  // The content after a power cut that keeps nothing but what was flushed.
  std::string ReadAfterPowerCut() {
    std::shared_ptr<Volume> volume;
    const Result mounted = MountSim(
        SimFrom(AfterReboot(sim_->DurableImage(), GetParam()), GetParam()),
        MountOptions(), &volume);
    EXPECT_TRUE(mounted.ok()) << mounted.ToString();
    std::string content = "no file";
    if (volume != nullptr) (void)ReadFile(volume.get(), "/f", &content);
    return content;
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<OpenFile> file_;
  std::shared_ptr<FileWriter> writer_;
};

INSTANTIATE_TEST_SUITE_P(LogicalBlock, FileWriterTest,
                         testing::Values(512, 4096));

TEST_P(FileWriterTest, ReadersSeeEveryByteAppended) {
  Create("/f");
  ASSERT_TRUE(Append("one ").ok());
  EXPECT_EQ(Read(), "one ");
  ASSERT_TRUE(Append("two").ok());
  EXPECT_EQ(Read(), "one two");
  EXPECT_EQ(writer_->size(), 7u);
}

TEST_P(FileWriterTest, BytesBehindTheEndAreZeroOnTheDevice) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(1, 700)).ok());
  ASSERT_TRUE(writer_->Sync().ok());
  const uint64_t block = file_->inode()->map()->extents()[0].start;
  const std::string image = sim_->Image();
  EXPECT_EQ(image.substr(block * kBlockBytes, 700), Pattern(1, 700));
  EXPECT_EQ(image.substr(block * kBlockBytes + 700, kBlockBytes - 700),
            std::string(kBlockBytes - 700, '\0'));
}

TEST_P(FileWriterTest, SyncedBytesSurviveAPowerCut) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(2, 10000)).ok());
  ASSERT_TRUE(writer_->Sync().ok());
  ASSERT_TRUE(Append("never synced").ok());
  ASSERT_TRUE(writer_->Flush().ok());
  EXPECT_EQ(ReadAfterPowerCut(), Pattern(2, 10000));
}

TEST_P(FileWriterTest, SyncWithoutAppendMakesFlushedBytesDurable) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(3, 5000)).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  ASSERT_TRUE(writer_->Sync().ok());
  EXPECT_EQ(ReadAfterPowerCut(), Pattern(3, 5000));
}

// Counts per operation, so that a change which costs a device write is seen.
TEST_P(FileWriterTest, WhatASyncCosts) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(4, 100)).ok());
  ASSERT_TRUE(writer_->Sync().ok());
  for (int i = 0; i < 10; ++i) {
    const uint64_t writes = sim_->writes();
    const uint64_t flushes = sim_->flushes();
    ASSERT_TRUE(Append(Pattern(4, 100)).ok());
    ASSERT_TRUE(writer_->Sync().ok());
    EXPECT_EQ(sim_->writes() - writes, 2u);  // the block, the journal frame
    EXPECT_EQ(sim_->flushes() - flushes, 2u);
  }
  const uint64_t writes = sim_->writes();
  const uint64_t flushes = sim_->flushes();
  ASSERT_TRUE(writer_->Sync().ok());
  EXPECT_EQ(sim_->writes(), writes) << "a sync of nothing writes nothing";
  EXPECT_EQ(sim_->flushes(), flushes);
}

TEST_P(FileWriterTest, WhatAFlushCosts) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(5, 100)).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  const uint64_t writes = sim_->writes();
  const uint64_t flushes = sim_->flushes();
  ASSERT_TRUE(Append(Pattern(5, 100)).ok());
  ASSERT_TRUE(writer_->Flush().ok());
  // The data are made durable before the journal names them.
  EXPECT_EQ(sim_->writes() - writes, 2u);
  EXPECT_EQ(sim_->flushes() - flushes, 1u);
}

TEST_P(FileWriterTest, CloseGivesBackWhatWasAllocatedAhead) {
  Create("/000001.sst");
  writer_->SetPreallocation(4 << 20);
  ASSERT_TRUE(Append(Pattern(6, 5000)).ok());
  EXPECT_EQ(file_->inode()->map()->blocks(), (4u << 20) / kBlockBytes);
  ASSERT_TRUE(writer_->Close().ok());
  EXPECT_EQ(file_->inode()->map()->blocks(), 2u);
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

TEST_P(FileWriterTest, NoSpaceIsToldBeforeAByteIsTaken) {
  Create("/000001.sst");
  const std::string chunk = Pattern(7, 1 << 20);
  Result result;
  uint64_t appended = 0;
  while ((result = Append(chunk)).ok()) appended += chunk.size();
  EXPECT_EQ(result.error(), ENOSPC);
  EXPECT_EQ(writer_->size(), appended);
  // Not sticky: deleting something makes room.
  ASSERT_TRUE(writer_->Sync().ok());
  // The reserve keeps a WAL going on a volume that is full.
  std::shared_ptr<FileWriter> wal;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/000002.log", &wal).ok());
  EXPECT_TRUE(wal->Append(chunk.data(), 64 << 10).ok());
  ASSERT_TRUE(wal->Close().ok());
  wal = nullptr;
  writer_ = nullptr;
  file_ = nullptr;
  ASSERT_TRUE(volume_->Unlink("/000001.sst").ok());
  Create("/000003.sst");
  EXPECT_TRUE(Append(chunk).ok());
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

TEST_P(FileWriterTest, AnErrorIsKept) {
  Create("/f");
  ASSERT_TRUE(Append("a").ok());
  sim_->FailNth(SimOp::kWrite, 1, EIO);
  EXPECT_EQ(writer_->Sync().error(), EIO);
  EXPECT_EQ(Append("b").error(), EIO);
  EXPECT_EQ(writer_->Sync().error(), EIO);
  EXPECT_EQ(writer_->Flush().error(), EIO);
  EXPECT_EQ(writer_->Close().error(), EIO);
}

TEST_P(FileWriterTest, AFailedFlushIsKept) {
  Create("/f");
  ASSERT_TRUE(Append("a").ok());
  sim_->FailNth(SimOp::kFlush, 1, EIO);
  EXPECT_EQ(writer_->Sync().error(), EIO);
  EXPECT_EQ(writer_->Sync().error(), EIO);
  // The cache of the device has lost who knows what: nobody's sync succeeds.
  std::shared_ptr<FileWriter> other;
  if (OpenWriter(volume_.get(), "/g", &other).ok() &&
      other->Append("x", 1).ok()) {
    EXPECT_FALSE(other->Sync().ok());
  }
}

TEST_P(FileWriterTest, AReopenedFileGoesOnAtItsEnd) {
  Create("/f");
  ASSERT_TRUE(Append(Pattern(8, 4097)).ok());
  ASSERT_TRUE(writer_->Close().ok());
  writer_ = nullptr;
  ASSERT_TRUE(FileWriter::Open(file_, &writer_).ok());
  ASSERT_TRUE(Append("tail").ok());
  ASSERT_TRUE(writer_->Close().ok());
  EXPECT_EQ(Read(), Pattern(8, 4097) + "tail");
}

TEST_P(FileWriterTest, HandlesOfOneFileShareTheWriter) {
  Create("/f");
  std::shared_ptr<FileWriter> second;
  ASSERT_TRUE(FileWriter::Open(file_, &second).ok());
  EXPECT_EQ(second, writer_);
}

// Sync may run beside Append: it covers what was appended before it began.
TEST_P(FileWriterTest, SyncBesideAppend) {
  Create("/f");
  std::thread syncer([&] {
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(writer_->Sync().ok());
  });
  std::string expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string text = Pattern(i, i % 97 + 1);
    expected += text;
    ASSERT_TRUE(Append(text).ok());
  }
  syncer.join();
  ASSERT_TRUE(writer_->Sync().ok());
  EXPECT_EQ(Read(), expected);
  EXPECT_EQ(ReadAfterPowerCut(), expected);
}

// Every kind of change to one file, against a string.
TEST_P(FileWriterTest, MatchesAStringUnderRandomOperations) {
  const uint64_t seed = TestSeed();
  std::mt19937_64 rng(seed);
  Create("/f");
  std::string model;
  for (uint64_t step = 0; step < ScaledRounds(600); ++step) {
    SCOPED_TRACE("DIOFS_TEST_SEED=" + std::to_string(seed) + " step " +
                 std::to_string(step));
    const uint64_t choice = rng() % 100;
    if (choice < 45) {
      const uint64_t most = rng() % 20 == 0 ? 300000 : 6000;
      const std::string text = Pattern(rng(), rng() % most);
      ASSERT_TRUE(Append(text).ok());
      model += text;
    } else if (choice < 60) {
      const std::string text = Pattern(rng(), rng() % 9000 + 1);
      const uint64_t offset = rng() % (model.size() + 5000);
      ASSERT_TRUE(writer_->WriteAt(offset, text.data(), text.size()).ok());
      if (model.size() < offset + text.size()) {
        model.resize(offset + text.size(), '\0');
      }
      model.replace(offset, text.size(), text);
    } else if (choice < 66 && !model.empty()) {
      model.resize(rng() % (model.size() + 100));
      ASSERT_TRUE(writer_->Truncate(model.size()).ok());
    } else if (choice < 76) {
      ASSERT_TRUE(writer_->Flush().ok());
    } else if (choice < 82) {
      ASSERT_TRUE(writer_->StartWriteback().ok());
    } else if (choice < 86) {
      ASSERT_TRUE(writer_->Sync().ok());
      ASSERT_EQ(ReadAfterPowerCut(), model);
    } else if (choice < 90) {
      ASSERT_TRUE(writer_->Close().ok());
      writer_ = nullptr;
      ASSERT_TRUE(FileWriter::Open(file_, &writer_).ok());
    } else {
      const FileReader reader(file_);
      const uint64_t offset = rng() % (model.size() + 100);
      std::string got(rng() % 10000, '\0');
      const Result r = reader.Read(offset, got.size(), got.data());
      ASSERT_TRUE(r.ok()) << r.ToString();
      got.resize(r.bytes());
      const std::string want =
          offset < model.size() ? model.substr(offset, got.size()) : "";
      ASSERT_EQ(got, want);
    }
    if (model.size() > 4 << 20) {
      model.clear();
      ASSERT_TRUE(writer_->Truncate(0).ok());
    }
    ASSERT_EQ(writer_->size(), model.size());
  }
  ASSERT_EQ(Read(), model);
  writer_ = nullptr;
  file_ = nullptr;
  EXPECT_EQ(SpaceProblem(volume_.get()), "");
}

}  // namespace
}  // namespace diofs
