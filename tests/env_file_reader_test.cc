#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "env/file_reader.h"
#include "env/file_writer.h"
#include "env/volume.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr size_t kFileBytes = 3'000'001;

class FileReaderTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(
        MountSim(FormattedSim(32 << 20), MountOptions(), &volume_, &sim_).ok());
    content_ = Pattern(TestSeed(), kFileBytes);
    ASSERT_TRUE(WriteFile(volume_.get(), "/f", content_, true).ok());
    ASSERT_TRUE(volume_->Open("/f", &file_).ok());
  }

  std::string Expected(uint64_t offset, size_t length) const {
    return offset < content_.size() ? content_.substr(offset, length) : "";
  }

  SimDevice* sim_ = nullptr;
  std::shared_ptr<Volume> volume_;
  std::shared_ptr<OpenFile> file_;
  std::string content_;
};

TEST_F(FileReaderTest, AnyOffsetLengthAndAddress) {
  std::mt19937_64 rng(TestSeed());
  const FileReader reader(file_);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t offset = rng() % (kFileBytes + 5000);
    const size_t length = rng() % 20000;
    std::string memory(length + 16, '#');
    char* const at = memory.data() + rng() % 8;
    const Result r = reader.Read(offset, length, at);
    ASSERT_TRUE(r.ok()) << r.ToString();
    ASSERT_EQ(std::string(at, r.bytes()), Expected(offset, length));
    ASSERT_EQ(at[length], '#') << "wrote behind the memory it was given";
  }
}

TEST_F(FileReaderTest, BehindTheEndIsNothing) {
  const FileReader reader(file_);
  char c = 0;
  EXPECT_EQ(reader.Read(kFileBytes, 1, &c).bytes(), 0u);
  EXPECT_EQ(reader.Read(UINT64_MAX, 1, &c).bytes(), 0u);
  EXPECT_EQ(reader.Read(UINT64_MAX - 1, 10, &c).bytes(), 0u);
}

TEST_F(FileReaderTest, MultiReadAnswersEachRequest) {
  std::mt19937_64 rng(TestSeed());
  const FileReader reader(file_);
  for (const size_t count : {0, 1, 2, 32, 300}) {
    std::vector<std::string> memory(count);
    std::vector<ReadRange> ranges(count);
    for (size_t i = 0; i < count; ++i) {
      memory[i].resize(rng() % 5000);
      ranges[i].offset = rng() % (kFileBytes + 1000);
      ranges[i].length = memory[i].size();
      ranges[i].memory = memory[i].data();
    }
    ASSERT_TRUE(reader.MultiRead(ranges.data(), count).ok());
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(ranges[i].result.ok());
      memory[i].resize(ranges[i].result.bytes());
      ASSERT_EQ(memory[i], Expected(ranges[i].offset, ranges[i].length));
    }
  }
}

TEST_F(FileReaderTest, AStartedReadMayBeAwaitedElsewhere) {
  const FileReader reader(file_);
  std::string memory(100000, '\0');
  ReadRange range;
  range.offset = 12345;
  range.length = memory.size();
  range.memory = memory.data();
  ReadBatch batch;
  ASSERT_TRUE(reader.Start(&range, 1, &batch).ok());
  std::thread waiter([&] { batch.Wait(); });
  waiter.join();
  ASSERT_TRUE(range.result.ok());
  EXPECT_EQ(memory, Expected(12345, memory.size()));
}

TEST_F(FileReaderTest, AnErrorOfTheDeviceIsTheReadersError) {
  const FileReader reader(file_);
  char c = 0;
  sim_->FailNth(SimOp::kRead, 1, EIO);
  EXPECT_EQ(reader.Read(0, 1, &c).error(), EIO);
  EXPECT_TRUE(reader.Read(0, 1, &c).ok());
}

TEST_F(FileReaderTest, ADeletedFileIsReadableUntilItIsClosed) {
  ASSERT_TRUE(volume_->Unlink("/f").ok());
  ASSERT_TRUE(volume_->Sync().ok());
  // Whatever is written now must not land in its blocks.
  ASSERT_TRUE(
      WriteFile(volume_.get(), "/g", std::string(8 << 20, 'g'), true).ok());
  const FileReader reader(file_);
  std::string memory(kFileBytes, '\0');
  ASSERT_EQ(reader.Read(0, kFileBytes, memory.data()).bytes(), kFileBytes);
  EXPECT_EQ(memory, content_);
}

TEST_F(FileReaderTest, SequentialReadsMatchAndReadAhead) {
  SequentialReader reader(file_);
  std::mt19937_64 rng(TestSeed());
  std::string all;
  const uint64_t reads = sim_->reads();
  while (true) {
    std::string memory(rng() % 40000 + 1, '\0');
    const Result r = reader.Read(memory.size(), memory.data());
    ASSERT_TRUE(r.ok());
    all.append(memory, 0, r.bytes());
    if (r.bytes() < memory.size()) break;
  }
  EXPECT_EQ(all, content_);
  // 64 KiB, 128 KiB, … 1 MiB: not one request for each call.
  EXPECT_LT(sim_->reads() - reads, 20u);
}

TEST_F(FileReaderTest, WhatWasOnlyReadAheadMayBeUnreadable) {
  // The third block of the file.
  const uint64_t lost = uint64_t{2} * kBlockBytes;
  sim_->SetUnreadable(
      file_->inode()->map()->extents()[0].start * kBlockBytes + lost,
      kBlockBytes);
  SequentialReader reader(file_);
  std::string memory(lost, '-');
  for (uint64_t at = 0; at < lost; at += 1000) {
    const uint64_t length = std::min<uint64_t>(1000, lost - at);
    const Result result = reader.Read(length, memory.data() + at);
    ASSERT_TRUE(result.ok()) << result.ToString();
    ASSERT_EQ(result.bytes(), length);
  }
  EXPECT_EQ(memory, content_.substr(0, lost));
  EXPECT_FALSE(reader.Read(1, memory.data()).ok());
}

TEST_F(FileReaderTest, SequentialSkipAndTail) {
  SequentialReader reader(file_);
  char memory[16];
  reader.Skip(kFileBytes - 4);
  EXPECT_EQ(reader.Read(16, memory).bytes(), 4u);
  EXPECT_EQ(reader.Read(16, memory).bytes(), 0u);
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(FileWriter::Open(file_, &writer).ok());
  ASSERT_TRUE(writer->Append("more", 4).ok());
  ASSERT_EQ(reader.Read(16, memory).bytes(), 4u);
  EXPECT_EQ(std::string(memory, 4), "more");
  reader.Skip(1000);
  EXPECT_EQ(reader.Read(16, memory).bytes(), 0u);
}

}  // namespace
}  // namespace diofs
