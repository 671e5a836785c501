#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "dio/scoped_fd.h"
#include "dio/sync_device.h"
#include "tests/child_process.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/temp_dir.h"
#include "tests/test_mapper.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 1 << 20;

// Behaves as if the device had moved only so many bytes at first.
class ShortDevice final : public SyncDevice {
 public:
  ShortDevice(const Geometry& geometry, ScopedFd fd, uint32_t moved)
      : SyncDevice("short", geometry, std::move(fd)), moved_(moved) {}
  ~ShortDevice() override { ExpectNothingHeld(this); }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i) Complete(bios[i], moved_);
  }

  const uint32_t moved_;
};

// Its bios are moved by a thread of the test's.
class LateDevice final : public SyncDevice {
 public:
  LateDevice(const Geometry& geometry, ScopedFd fd)
      : SyncDevice("late", geometry, std::move(fd)) {}
  ~LateDevice() override { ExpectNothingHeld(this); }
  // Moves the one bio there is, on the calling thread.
  void MoveLate() {
    Bio* const bio = bio_.exchange(nullptr);
    Complete(bio, MoveNow(bio));
  }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    EXPECT_EQ(1u, count);
    bio_ = bios[0];
  }

  std::atomic<Bio*> bio_{nullptr};
};

class CheckedSyncDevice final : public SyncDevice {
 public:
  using SyncDevice::SyncDevice;
  ~CheckedSyncDevice() override { ExpectNothingHeld(this); }
};

class SyncDeviceTest : public testing::Test {
 protected:
  SyncDeviceTest()
      : path_(dir_.File("image")), memory_(BufferPool::Get(64 << 10)) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    std::memset(memory_.data(), 'm', memory_.size());
  }

  ScopedFd Open() {
    return ScopedFd(open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  }
  Geometry Probe() {
    Geometry geometry;
    EXPECT_TRUE(Geometry::Probe(Open().get(), &geometry).ok());
    return geometry;
  }

  TempDir dir_;
  const std::string path_;
  AlignedBuffer memory_;
};

TEST_F(SyncDeviceTest, MovesBytes) {
  CheckedSyncDevice device(path_, Probe(), Open());
  EXPECT_STREQ("sync", device.backend_name());
  ASSERT_EQ(64u * 1024,
            device.Write(4096, memory_.data(), 64 << 10, 0).bytes());
  ASSERT_TRUE(device.Flush().ok());
  EXPECT_EQ(1u, device.stats().flushes);
  std::memset(memory_.data(), 0, memory_.size());
  ASSERT_TRUE(device.Read(0, memory_.data(), 8192, 0).ok());
  EXPECT_EQ(std::string(4096, '\0') + std::string(4096, 'm'),
            std::string(memory_.data(), 8192));
}

// Whatever a short completion says, all bytes arrive, once the rest has been
// taken up at a block.
TEST_F(SyncDeviceTest, ShortCompletionsAreTakenUp) {
  const Geometry geometry = Probe();
  for (const uint32_t moved : {1u, 511u, 512u, 513u, 4096u, 9000u, 16384u}) {
    ShortDevice device(geometry, Open(), moved);
    ASSERT_TRUE(device.Write(0, memory_.data(), 16384, 0).ok());
    AlignedBuffer read = BufferPool::Get(16384);
    std::memset(read.data(), 0, 16384);
    ASSERT_EQ(16384u, device.Read(0, read.data(), 16384, 0).bytes());
    // The part that "had moved" before is the device's business; the blocks
    // from the one it stopped in on must be there.
    const uint32_t from =
        moved / geometry.logical_block_bytes * geometry.logical_block_bytes;
    EXPECT_EQ(std::string(16384 - from, 'm'),
              std::string(read.data() + from, 16384 - from));
  }
}

// The device ends before its geometry says so: no endless loop, no success.
TEST_F(SyncDeviceTest, ADeviceThatShrankGivesEio) {
  const Geometry geometry = Probe();
  CheckedSyncDevice device(path_, geometry, Open());
  ASSERT_EQ(0, truncate(path_.c_str(), 8192 + 700));
  EXPECT_EQ(EIO, device.Read(4096, memory_.data(), 16384, 0).error());
  EXPECT_EQ(EIO, device.Read(8192, memory_.data(), 4096, 0).error());
  EXPECT_EQ(EIO, device.Read(65536, memory_.data(), 4096, 0).error());
  EXPECT_TRUE(device.Read(0, memory_.data(), 8192, 0).ok());
}

TEST_F(SyncDeviceTest, TheErrnoIsKept) {
  CheckedSyncDevice device(
      path_, Probe(),
      ScopedFd(open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC)));
  EXPECT_EQ(EBADF, device.Write(0, memory_.data(), 4096, 0).error());
  EXPECT_TRUE(device.Read(0, memory_.data(), 4096, 0).ok());
}

// A short write for real: the process may not write behind its file size limit.
TEST_F(SyncDeviceTest, ShortWritesGoOnUntilTheErrorShows) {
  const Geometry geometry = Probe();
  ChildProcess child([&](const ChildProcess::Parent&) {
    CheckedSyncDevice device(path_, geometry, Open());
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = {};
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    const rlimit low = {12288, limit.rlim_max};
    // Lifted again: coverage writes its counts when the child ends.
    return setrlimit(RLIMIT_FSIZE, &low) == 0 &&
           device.Write(4096, memory_.data(), 16384, 0).error() == EFBIG &&
           setrlimit(RLIMIT_FSIZE, &limit) == 0;
  });
  EXPECT_EQ(0, child.Wait());
  CheckedSyncDevice device(path_, geometry, Open());
  ASSERT_TRUE(device.Read(4096, memory_.data(), 16384, 0).ok());
  EXPECT_EQ(std::string(8192, 'm') + std::string(8192, '\0'),
            std::string(memory_.data(), 16384));
}

// Whoever waits for what another thread is moving waits until that is done.
TEST_F(SyncDeviceTest, WaitsForABioOnAnotherThread) {
  LateDevice device(Probe(), Open());
  const TestMapper mapper(TestMapper::Run(BlockState::kMapped, 0, 1));
  IoRequest request(IoDirection::kWrite, mapper, 0, memory_.data(), 4096, 4096);
  Dio dio(&device);
  {
    Plug plug(&device);
    EXPECT_EQ(Dio::Submission::kQueued, dio.Submit(request.get(), &plug));
  }
  EXPECT_FALSE(dio.done());
  std::atomic<bool> moving{false};
  std::thread mover([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    moving = true;
    device.MoveLate();
  });
  const Result result = dio.Wait();
  EXPECT_TRUE(moving);
  EXPECT_EQ(4096u, result.bytes()) << result.ToString();
  mover.join();
  char byte = 0;
  const int fd = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(1, pread(fd, &byte, 1, 4095));
  EXPECT_EQ('m', byte);
  close(fd);
}

TEST_F(SyncDeviceTest, DiscardPunchesTheImage) {
  CheckedSyncDevice device(path_, Probe(), Open());
  ASSERT_TRUE(device.geometry().discard);
  ASSERT_TRUE(device.Write(0, memory_.data(), 64 << 10, 0).ok());
  const Result result = device.Discard(4096, 8192);
  if (result.error() == EOPNOTSUPP) GTEST_SKIP() << result.ToString();
  ASSERT_TRUE(result.ok()) << result.ToString();
  ASSERT_TRUE(device.Read(0, memory_.data(), 16384, 0).ok());
  EXPECT_EQ('m', memory_.data()[4095]);
  EXPECT_EQ('\0', memory_.data()[4096]);
  EXPECT_EQ('m', memory_.data()[12288]);
}

}  // namespace
}  // namespace diofs
