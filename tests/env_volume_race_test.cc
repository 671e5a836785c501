// Regressions: threads that meet at the wrong moment, forks, and what a volume
// does after an error. Each was seen to fail before its fix.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dio/dio.h"
#include "dio/read_batch.h"
#include "env/file_reader.h"
#include "env/file_writer.h"
#include "env/format.h"
#include "env/volume.h"
#include "tests/gate_device.h"
#include "tests/gauges.h"
#include "tests/sim_device.h"
#include "tests/volume_rig.h"

namespace diofs {
namespace {

constexpr uint64_t kVolumeBytes = 16 << 20;

class VolumeRaceTest : public testing::Test {
 protected:
  void Mount(FlushMode mode = FlushMode::kDevice,
             uint64_t bytes = kVolumeBytes) {
    auto device = std::make_unique<GateDevice>(FormattedSim(bytes)->Image(),
                                               SimDevice::MakeGeometry(bytes));
    gate_ = device.get();
    MountOptions options;
    options.flush_mode = mode;
    ASSERT_TRUE(Volume::Mount(std::move(device), options, &volume_).ok());
  }
  void Append(FileWriter* writer, const std::string& text) {
    ASSERT_TRUE(writer->Append(text.data(), text.size()).ok());
  }
  // True when `body` returns in a forked child, false when it hangs there.
  bool ReturnsInChild(const std::function<void()>& body) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(20);
      body();
      _exit(0);
    }
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return WIFEXITED(status);
  }

  GateDevice* gate_ = nullptr;
  std::shared_ptr<Volume> volume_;
};

// A writer whose last handle is gone is still writing its buffer out when the
// file is opened for appending again.
TEST_F(VolumeRaceTest, ANewWriterWaitsForTheLastBytesOfTheOldOne) {
  Mount();
  std::shared_ptr<FileWriter> first;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &first).ok());
  Append(first.get(), std::string(1000, 'A'));
  ASSERT_TRUE(first->Sync().ok());
  Append(first.get(), std::string(100, 'a'));
  gate_->CloseForWrites();
  std::thread closer([&, writer = std::move(first)]() mutable {
    writer = nullptr;  // without Close
  });
  gate_->AwaitBlocked(1);
  std::atomic<bool> opened{false};
  std::shared_ptr<FileWriter> second;
  std::thread opener([&] {
    EXPECT_TRUE(OpenWriter(volume_.get(), "/f", &second).ok());
    opened = true;
  });
  EXPECT_FALSE(opened);
  gate_->Open();
  closer.join();
  opener.join();
  EXPECT_EQ(second->size(), 1100u);
  Append(second.get(), std::string(9000, 'B'));
  ASSERT_TRUE(second->Sync().ok());
  std::shared_ptr<Volume> after;
  ASSERT_TRUE(MountSim(SimFrom(gate_->Image()), MountOptions(), &after).ok());
  std::string content;
  ASSERT_TRUE(ReadFile(after.get(), "/f", &content).ok());
  EXPECT_EQ(content, std::string(1000, 'A') + std::string(100, 'a') +
                         std::string(9000, 'B'));
}

TEST_F(VolumeRaceTest, OfTwoWhoLockOneNameOneGetsIt) {
  Mount();
  for (int round = 0; round < 300; ++round) {
    std::atomic<int> ready{0};
    uint64_t ino[2] = {0, 0};
    bool locked[2] = {false, false};
    const auto lock = [&](int i) {
      ++ready;
      while (ready < 2) {
      }
      locked[i] = volume_->LockName("/LOCK", &ino[i]).ok();
    };
    std::thread other(lock, 1);
    lock(0);
    other.join();
    ASSERT_NE(locked[0], locked[1]) << "round " << round;
    volume_->UnlockName(locked[0] ? ino[0] : ino[1]);
    ASSERT_TRUE(volume_->Unlink("/LOCK").ok());
  }
}

// The blocks behind a truncated file's end are allocated again, to the same
// file, before they are written: a reader must not take them for its own.
TEST_F(VolumeRaceTest, AReadBesideTruncateSeesNoStaleBytes) {
  Mount(FlushMode::kDevice, 64 << 20);
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &writer).ok());
  writer->SetPreallocation(128 << 10);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  readers.reserve(3);
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      std::shared_ptr<OpenFile> file;
      ASSERT_TRUE(volume_->Open("/f", &file).ok());
      const FileReader reader(file);
      std::string memory(64 << 10, '\0');
      while (!stop) {
        const Result r = reader.Read(0, memory.size(), memory.data());
        if (!r.ok()) continue;
        const std::string_view got(memory.data(), r.bytes());
        if (got.find_first_not_of('Z') != got.npos) ++wrong;
      }
    });
  }
  const std::string block(64 << 10, 'Z');
  for (int i = 0; i < 400; ++i) {
    Append(writer.get(), block);
    ASSERT_TRUE(writer->Flush().ok());
    ASSERT_TRUE(writer->Truncate(0).ok());
    Append(writer.get(), std::string(100, 'Z'));
    if (i % 50 == 49) {
      // Cut-off blocks stay with open handles; begin anew before they fill the
      // volume.
      ASSERT_TRUE(writer->Truncate(0).ok());
    }
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

// Longer names may not fill the journal so far that nothing fits any more.
TEST_F(VolumeRaceTest, RenamesCannotMakeTheVolumeUnmountable) {
  Mount(FlushMode::kMemory);
  int files = 0;
  Result result;
  for (;; ++files) {
    result = volume_->Mkdir("/" + std::to_string(files));
    if (!result.ok()) break;
  }
  ASSERT_EQ(result.error(), ENOSPC);
  const std::string padding(245, 'x');
  for (int i = 0; i < files; ++i) {
    const std::string name = "/" + std::to_string(i);
    result = volume_->Rename(name, name + padding);
    if (!result.ok()) break;
  }
  EXPECT_EQ(result.error(), ENOSPC);
  ASSERT_TRUE(volume_->Sync().ok());
  std::shared_ptr<Volume> after;
  ASSERT_TRUE(MountSim(SimFrom(gate_->Image()), MountOptions(), &after).ok());
  EXPECT_TRUE(after->Rmdir("/0" + padding).ok());
  EXPECT_TRUE(after->Sync().ok());
}

TEST_F(VolumeRaceTest, AForkedChildFailsWhateverItsParentHadLocked) {
  Mount();
  std::shared_ptr<FileWriter> writer;
  ASSERT_TRUE(OpenWriter(volume_.get(), "/f", &writer).ok());
  Append(writer.get(), "x");
  gate_->CloseForWrites();
  // Holds the writer's lock across its write.
  std::thread flusher([&] { EXPECT_TRUE(writer->Flush().ok()); });
  gate_->AwaitBlocked(1);
  EXPECT_TRUE(ReturnsInChild([&] {
    if (writer->Append("y", 1).error() != ESTALE) pause();
    if (writer->Sync().error() != ESTALE) pause();
    writer = nullptr;
  }));
  gate_->Open();
  flusher.join();

  std::mutex mutex;
  std::condition_variable cv;
  bool inside = false;
  bool go = false;
  std::thread holder([&] {
    bool first = true;
    volume_->ForEachInode([&](const InodePtr&) {
      if (!first) return;
      first = false;
      std::unique_lock<std::mutex> lock(mutex);
      inside = true;
      cv.notify_all();
      cv.wait(lock, [&] { return go; });
    });
  });
  {
    std::unique_lock<std::mutex> lock(mutex);
    cv.wait(lock, [&] { return inside; });
  }
  EXPECT_TRUE(ReturnsInChild([&] {
    std::shared_ptr<OpenFile> file;
    if (volume_->CreateFile("/g", &file).error() != ESTALE) pause();
    if (volume_->Open("/f", &file).error() != ESTALE) pause();
    VolumeUsage usage;
    if (volume_->Usage(&usage).error() != ESTALE) pause();
  }));
  {
    std::lock_guard<std::mutex> lock(mutex);
    go = true;
  }
  cv.notify_all();
  holder.join();
}

// In both modes: after a flush failed nothing changes any more, not even in
// memory.
TEST_F(VolumeRaceTest, AfterAFailedFlushNothingChanges) {
  for (const FlushMode mode : {FlushMode::kDevice, FlushMode::kMemory}) {
    std::unique_ptr<SimDevice> device = FormattedSim(kVolumeBytes);
    SimDevice* sim = nullptr;
    MountOptions options;
    options.flush_mode = mode;
    std::shared_ptr<Volume> volume;
    ASSERT_TRUE(MountSim(std::move(device), options, &volume, &sim).ok());
    ASSERT_TRUE(volume->Mkdir("/d").ok());
    sim->FailNth(SimOp::kFlush, 1, EIO);
    EXPECT_EQ(volume->Sync().error(), EIO);
    EXPECT_EQ(volume->Rename("/d", "/e").error(), EROFS);
    FileStat stat;
    EXPECT_TRUE(volume->Stat("/d", &stat).ok());
    EXPECT_EQ(volume->Stat("/e", &stat).error(), ENOENT);
  }
}

// A device in memory that can hold reads back until the test lets them go.
class HeldReadsDevice final : public BlockDevice {
 public:
  HeldReadsDevice(std::string image, const Geometry& geometry)
      : BlockDevice("held", geometry), image_(std::move(image)) {}
  ~HeldReadsDevice() override { ExpectNothingHeld(this); }

  // Reads that come from now on stay in flight, or not any more.
  void Hold(bool hold) { holding_ = hold; }
  size_t held() const { return held_.size(); }
  void LetGo() {
    for (Bio* bio : std::exchange(held_, {})) Move(bio);
  }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    EXPECT_TRUE(dio->done());
  }
  int64_t DoMove(Bio* /*bio*/) override { return 0; }
  const char* backend_name() const override { return "held"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    const std::vector<Bio*> copy(bios, bios + count);
    for (Bio* bio : copy) {
      if (holding_ && bio->direction() == IoDirection::kRead) {
        held_.push_back(bio);
      } else {
        Move(bio);
      }
    }
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  void Move(Bio* bio) {
    char* at = &image_[bio->device_offset()];
    for (uint32_t i = 0; i < bio->segment_count(); ++i) {
      const iovec& segment = bio->segments()[i];
      if (bio->direction() == IoDirection::kWrite) {
        std::memcpy(at, segment.iov_base, segment.iov_len);
      } else {
        std::memcpy(segment.iov_base, at, segment.iov_len);
      }
      at += segment.iov_len;
    }
    Complete(bio, bio->bytes());
  }

  std::string image_;
  bool holding_ = false;
  std::vector<Bio*> held_;
};

// The blocks of "/f" are freed by `free`, durably, and others are written until
// nothing is left: reads that were in flight meanwhile see its bytes and nobody
// else's.
void ReadWhatIsFreed(const std::function<void(Volume*)>& free) {
  constexpr size_t kReads = 256;
  auto device =
      std::make_unique<HeldReadsDevice>(FormattedSim(kVolumeBytes)->Image(),
                                        SimDevice::MakeGeometry(kVolumeBytes));
  HeldReadsDevice* const held = device.get();
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(Volume::Mount(std::move(device), MountOptions(), &volume).ok());
  const std::string content = Pattern(1, kReads * kBlockBytes);
  ASSERT_TRUE(WriteFile(volume.get(), "/f", content, true).ok());
  std::shared_ptr<OpenFile> file;
  ASSERT_TRUE(volume->Open("/f", &file).ok());

  std::string memory(content.size(), '#');
  std::vector<ReadRange> ranges(kReads);
  std::vector<ReadBatch> batches(kReads);
  auto reader = std::make_unique<FileReader>(file);
  file = nullptr;
  held->Hold(true);
  for (size_t i = 0; i < kReads; ++i) {
    ranges[i].offset = i * kBlockBytes;
    ranges[i].length = kBlockBytes;
    ranges[i].memory = memory.data() + i * kBlockBytes;
    ASSERT_TRUE(reader->Start(&ranges[i], 1, &batches[i]).ok());
  }
  held->Hold(false);
  ASSERT_EQ(held->held(), kReads);
  free(volume.get());
  ASSERT_TRUE(volume->Sync().ok());
  const std::string other(256 << 10, 'g');
  int files = 0;
  while (
      WriteFile(volume.get(), "/g" + std::to_string(files), other, true).ok()) {
    ++files;
  }
  EXPECT_GT(files, 10);
  held->LetGo();
  for (ReadBatch& batch : batches) batch.Wait();
  for (const ReadRange& range : ranges) {
    EXPECT_EQ(range.result.bytes(), kBlockBytes);
  }
  EXPECT_TRUE(memory == content);
  // With the last reader the blocks are free.
  reader = nullptr;
  EXPECT_TRUE(volume->Sync().ok());
  EXPECT_TRUE(WriteFile(volume.get(), "/h", other, true).ok());
  EXPECT_EQ(SpaceProblem(volume.get()), "");
}

TEST(VolumeReuseTest, ADeletedFilesBlocksWaitForTheReadsInFlight) {
  ReadWhatIsFreed(
      [](Volume* volume) { EXPECT_TRUE(volume->Unlink("/f").ok()); });
}

TEST(VolumeReuseTest, ATruncatedFilesBlocksWaitForTheReadsInFlight) {
  ReadWhatIsFreed([](Volume* volume) {
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume, "/f", &writer).ok());
    EXPECT_TRUE(writer->Truncate(0).ok());
  });
}

// The device fails under an append: the file's size is what it was, and once
// its writer is gone so is the space that was taken ahead.
TEST(VolumeReuseTest, AFailedAppendLeavesSizeAndFreeSpace) {
  SimDevice* sim = nullptr;
  std::shared_ptr<Volume> volume;
  ASSERT_TRUE(
      MountSim(FormattedSim(kVolumeBytes), MountOptions(), &volume, &sim).ok());
  const std::string before(5000, 'b');
  ASSERT_TRUE(WriteFile(volume.get(), "/f", before, true).ok());
  VolumeUsage usage;
  ASSERT_TRUE(volume->Usage(&usage).ok());
  const auto free_before = usage.free_blocks;
  {
    std::shared_ptr<FileWriter> writer;
    ASSERT_TRUE(OpenWriter(volume.get(), "/f", &writer).ok());
    const std::string more(300000, 'm');
    sim->FailNth(SimOp::kWrite, 1, EIO);
    Result result = writer->Append(more.data(), more.size());
    if (result.ok()) result = writer->Flush();
    EXPECT_EQ(result.error(), EIO);
  }
  FileStat stat;
  ASSERT_TRUE(volume->Stat("/f", &stat).ok());
  EXPECT_EQ(stat.size_bytes, before.size());
  ASSERT_TRUE(volume->Usage(&usage).ok());
  EXPECT_EQ(usage.free_blocks, free_before);
  EXPECT_EQ(SpaceProblem(volume.get()), "");
  std::string content;
  ASSERT_TRUE(ReadFile(volume.get(), "/f", &content).ok());
  EXPECT_EQ(content, before);
}

// Whatever fills the volume, WAL and MANIFEST go on for a while.
TEST_F(VolumeRaceTest, TheReserveOutlastsFilesOfAnyName) {
  for (const char* name : {"/1.sst", "/copy.sst.tmp", "/LOG"}) {
    Mount(FlushMode::kMemory);
    std::shared_ptr<FileWriter> wal;
    std::shared_ptr<FileWriter> manifest;
    std::shared_ptr<FileWriter> big;
    ASSERT_TRUE(OpenWriter(volume_.get(), "/000001.log", &wal).ok());
    ASSERT_TRUE(OpenWriter(volume_.get(), "/MANIFEST-000001", &manifest).ok());
    ASSERT_TRUE(OpenWriter(volume_.get(), name, &big).ok());
    for (const size_t piece : {64 << 10, 4 << 10}) {
      const std::string text(piece, 'b');
      while (big->Append(text.data(), text.size()).ok()) {
      }
    }
    const std::string record(1000, 'r');
    ASSERT_TRUE(wal->Append(record.data(), record.size()).ok()) << name;
    while (wal->Append(record.data(), record.size()).ok()) {
    }
    EXPECT_TRUE(manifest->Append(record.data(), record.size()).ok()) << name;
  }
}

}  // namespace
}  // namespace diofs
