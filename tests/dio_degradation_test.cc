#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/io_ring.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"
#include "tests/zram_device.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 16 << 20;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kMebiByte = 1 << 20;

// It clones registered buffers and discards through io_uring.
bool KernelIsFrom612() {
  utsname name = {};
  int major = 0;
  int minor = 0;
  if (uname(&name) != 0 ||
      std::sscanf(name.release, "%d.%d", &major, &minor) != 2) {
    return false;
  }
  return major > 6 || (major == 6 && minor >= 12);
}

// An asynchronous request for blocks scattered over the device, one bio each.
class Transfer {
 public:
  Transfer(BlockDevice* device, IoDirection direction, char* memory,
           uint64_t blocks)
      : mapper_(ScatteredBlocks(blocks)),
        io_(direction, mapper_, 0, memory, blocks * kBlock, blocks * kBlock),
        dio_(device) {
    io_->async = true;
    Plug plug(device);
    (void)dio_.Submit(io_.get(), &plug);
  }
  bool Whole() { return dio_.Wait().bytes() == io_.segments[0].iov_len; }

 private:
  const TestMapper mapper_;
  IoRequest io_;
  Dio dio_;
};

// Writes and reads back `blocks` through that memory.
bool RoundTrip(BlockDevice* device, char* memory, uint64_t blocks, char fill) {
  std::memset(memory, fill, blocks * kBlock);
  if (!Transfer(device, IoDirection::kWrite, memory, blocks).Whole()) {
    return false;
  }
  std::memset(memory, 0, blocks * kBlock);
  return Transfer(device, IoDirection::kRead, memory, blocks).Whole() &&
         std::count(memory, memory + blocks * kBlock, fill) ==
             static_cast<int64_t>(blocks * kBlock);
}

// Moves data on several rings, first one thread and then two at once; true if
// every bio has named a registered buffer.
bool EveryRingIsFixed(BlockDevice* device, char* memory) {
  // None is reaped before all have left, so that each takes a ring of its own.
  std::vector<std::unique_ptr<Transfer>> transfers;
  for (uint64_t i = 0; i < 4; ++i) {
    transfers.push_back(std::make_unique<Transfer>(device, IoDirection::kRead,
                                                   memory + 4 * i * kBlock, 4));
  }
  for (const auto& transfer : transfers) {
    if (!transfer->Whole()) return false;
  }
  std::atomic<bool> ok{true};
  const auto use = [&](char* piece) {
    for (int i = 0; i < 50; ++i) {
      if (!Transfer(device, IoDirection::kRead, piece, 4).Whole()) ok = false;
    }
  };
  std::thread other([&] { use(memory); });
  use(memory + 4 * kBlock);
  other.join();
  return ok && device->stats().fixed_buffer_ios == 16 + 2 * 50 * 4;
}

class Degradation : public testing::Test {
 protected:
  Degradation() : path_(dir_.File("image")) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    EXPECT_EQ(0, chmod(dir_.path().c_str(), 0755));
    EXPECT_EQ(0, chmod(path_.c_str(), 0666));
  }

  CheckedDevice Open(const std::string& path,
                     Backend backend = Backend::kAuto) {
    OpenDeviceOptions options;
    options.backend = backend;
    options.log = [this](const std::string& line) { lines_.push_back(line); };
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path, options, &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return device;
  }
  bool RingsWork() {
    const auto device = Open(path_);
    const bool work = std::string("uring") == device->backend_name();
    lines_.clear();
    return work;
  }
  // One line was logged, about `path`, and it says `what`.
  bool Said(const std::string& path, const std::string& what) const {
    if (lines_.size() != 1) return false;
    const std::string& line = lines_.front();
    return line.find(path + ": ") == 0 && line.find(what) < line.size() &&
           line.find('\n') == std::string::npos;
  }

  TempDir dir_;
  const std::string path_;
  std::vector<std::string> lines_;
};

// Gives up what exempts from RLIMIT_MEMLOCK, for a user whom nobody else is:
// what it has locked is counted over all its processes.
bool LimitLockedMemory(rlim_t bytes) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  limit.rlim_max = std::min<rlim_t>(limit.rlim_max, bytes);
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  if (geteuid() != 0) return true;
  const auto user = static_cast<uid_t>(1000000000 + getpid());
  return setgid(user) == 0 && setuid(user) == 0;
}

// MiB the log says are registered; -1 where it says something else.
int RegisteredMebiBytes(const std::string& line) {
  if (line.find(": io_uring has none of 32 MiB of buffers") < line.size()) {
    return 0;
  }
  int registered = -1;
  const size_t at = line.find("io_uring has ");
  if (at < line.size()) {
    (void)std::sscanf(line.c_str() + at, "io_uring has %d MiB of 32 MiB",
                      &registered);
  }
  return registered;
}

TEST_F(Degradation, WhatMayNotBeLockedIsUsedWithoutRegistration) {
  if (!RingsWork()) GTEST_SKIP() << "no io_uring here";
  for (const int limit_mib : {0, 1, 8}) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      if (!LimitLockedMemory(limit_mib * kMebiByte)) return false;
      const auto device = Open(path_);
      if (limit_mib == 0 && std::string("threads") == device->backend_name()) {
        // From Linux 6.14 on the queues themselves count.
        AlignedBuffer memory = BufferPool::Get(4 * kBlock);
        return Said(path_, "io_uring is not available") &&
               RoundTrip(device.get(), memory.data(), 4, 't');
      }
      // The ring itself and whole huge pages count, so it may be less.
      const int registered =
          RegisteredMebiBytes(lines_.empty() ? std::string() : lines_.front());
      if (std::string("uring") != device->backend_name() ||
          !Said(path_, "; raise RLIMIT_MEMLOCK") ||
          (registered == 0 && !Said(path_, std::strerror(ENOMEM))) ||
          registered < 0 || registered > limit_mib) {
        return false;
      }
      // The arena from its first byte on, MiB by MiB.
      std::vector<AlignedBuffer> memory;
      memory.reserve(8);
      for (int i = 0; i < 8; ++i) memory.push_back(BufferPool::Get(kMebiByte));
      for (AlignedBuffer& piece : memory) {
        const uint64_t before = device->stats().fixed_buffer_ios;
        if (!RoundTrip(device.get(), piece.data(), 4, 'l')) return false;
        const bool inside = piece.data() + piece.size() <=
                            BufferPool::arena().base() + registered * kMebiByte;
        const uint64_t fixed = device->stats().fixed_buffer_ios - before;
        if (fixed != (inside ? 8 : 0)) return false;
      }
      return true;
    });
    EXPECT_EQ(0, child.Wait()) << limit_mib;
  }
}

// All rings share what the first one has registered, however little that is:
// it is locked once.
TEST_F(Degradation, EveryRingUsesTheRegisteredBuffers) {
  if (!RingsWork()) GTEST_SKIP() << "no io_uring here";
  for (const bool limited : {false, true}) {
    // Before, each ring registers what it can.
    if (limited && !KernelIsFrom612()) break;
    ChildProcess child([&](const ChildProcess::Parent&) {
      if (limited && !LimitLockedMemory(8 * kMebiByte)) return false;
      const auto device = Open(path_);
      if (!limited && geteuid() == 0 && !lines_.empty()) return false;
      const int registered =
          lines_.empty() ? 32 : RegisteredMebiBytes(lines_.front());
      // The last MiB of it.
      std::vector<AlignedBuffer> memory;
      memory.reserve(static_cast<size_t>(registered));
      for (int i = 0; i < registered; ++i) {
        memory.push_back(BufferPool::Get(kMebiByte));
      }
      if (memory.empty()) return false;
      return EveryRingIsFixed(device.get(), memory.back().data());
    });
    EXPECT_EQ(0, child.Wait()) << limited;
  }
}

// ---- Devices that cannot issue requests without blocking
// ----------------------

TEST_F(Degradation, WithoutNowaitThreadsAreUsedAndRingsWorkIfAskedFor) {
  for (const Backend backend : {Backend::kAuto, Backend::kUring}) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      // As zram answers to RWF_NOWAIT, the only flag a read has here.
      if (!DenySyscallWith(SYS_preadv2, EOPNOTSUPP, 5)) return false;
      const auto device = Open(path_, backend);
      if (device->geometry().nowait) return false;
      const std::string name = device->backend_name();
      if (backend == Backend::kAuto &&
          (name != "threads" ||
           !Said(path_, "cannot issue requests without blocking"))) {
        return false;
      }
      AlignedBuffer memory = BufferPool::Get(8 * kBlock);
      return RoundTrip(device.get(), memory.data(), 8, 'n');
    });
    EXPECT_EQ(0, child.Wait());
  }
}

TEST_F(Degradation, Zram) {
  const bool rings_work = RingsWork();
  const ZramDevice zram(kImageBytes);
  if (!zram.ok()) GTEST_SKIP() << "no zram; see the test before this one";
  AlignedBuffer memory = BufferPool::Get(64 * kBlock);
  {
    const auto device = Open(zram.path());
    EXPECT_STREQ("threads", device->backend_name());
    EXPECT_FALSE(device->geometry().nowait);
    EXPECT_TRUE(Said(zram.path(), "cannot issue requests without blocking"));
    EXPECT_TRUE(RoundTrip(device.get(), memory.data(), 64, 'z'));
  }
  if (!rings_work) return;
  lines_.clear();
  const auto device = Open(zram.path(), Backend::kUring);
  EXPECT_STREQ("uring", device->backend_name());
  EXPECT_TRUE(lines_.empty());
  EXPECT_TRUE(RoundTrip(device.get(), memory.data(), 64, 'y'));
  EXPECT_GE(device->stats().ring_submits, 2u);
  // Its driver knows no discard by io_uring; BLKDISCARD it knows.
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(device->Discard(0, 128 * kBlock).ok());
    ASSERT_TRUE(device->Read(0, memory.data(), 2 * kBlock, 0).ok());
    EXPECT_EQ(2 * kBlock,
              std::count(memory.data(), memory.data() + 2 * kBlock, '\0'));
    EXPECT_TRUE(RoundTrip(device.get(), memory.data(), 64, 'x'));
  }
}

// ---- Discard
// ------------------------------------------------------------------

uint64_t AllocatedBytes(const std::string& path) {
  struct stat info = {};
  EXPECT_EQ(0, stat(path.c_str(), &info));
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

// A MiB is written and discarded; true where `file`, below it, has shrunk.
bool DiscardFreesSpace(BlockDevice* device, const std::string& file) {
  AlignedBuffer memory = FilledBuffer(kMebiByte, 'd');
  if (!device->Write(kMebiByte, memory.data(), kMebiByte, 0).ok() ||
      !device->Flush().ok()) {
    return false;
  }
  const uint64_t before = AllocatedBytes(file);
  return device->Discard(kMebiByte, kMebiByte).ok() &&
         AllocatedBytes(file) + (kMebiByte) <= before &&
         device->stats().discard_bytes >= kMebiByte;
}

TEST_F(Degradation, DiscardThroughTheRing) {
  const bool rings_work = RingsWork();
  const LoopDevice loop(path_);
  if (!loop.ok() || !rings_work || !KernelIsFrom612()) {
    GTEST_SKIP() << "no loop device, no io_uring, or a kernel before 6.12";
  }
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open(loop.path(), Backend::kUring);
    // BLKDISCARD is not to be had: it has to be the ring.
    return DenySyscall(SYS_ioctl, ENOTTY) && device->geometry().discard &&
           DiscardFreesSpace(device.get(), path_) &&
           DiscardFreesSpace(device.get(), path_);
  });
  EXPECT_EQ(0, child.Wait());
}

TEST_F(Degradation, DiscardWithoutARing) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop device to be had";
  for (const int error : {0, ENOMEM, EAGAIN}) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      const auto device = Open(loop.path(), Backend::kUring);
      // From here on the ring takes nothing.
      return (error == 0 || DenySyscall(SYS_io_uring_enter, error, true)) &&
             DiscardFreesSpace(device.get(), path_) &&
             DiscardFreesSpace(device.get(), path_);
    });
    EXPECT_EQ(0, child.Wait()) << error;
  }
  const auto device = Open(loop.path(), Backend::kThreads);
  EXPECT_TRUE(DiscardFreesSpace(device.get(), path_));
}

TEST_F(Degradation, DiscardOfAnImagePunchesIt) {
  for (const Backend backend :
       {Backend::kUring, Backend::kThreads, Backend::kSync}) {
    const auto device = Open(path_, backend);
    EXPECT_TRUE(DiscardFreesSpace(device.get(), path_));
  }
}

}  // namespace
}  // namespace diofs
