#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "dio/threads_device.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kImageBytes = 16 << 20;

// This process's threads of that name, by the line of /proc/…/status that
// starts with `field`.
std::vector<std::string> PoolThreads(const std::string& field) {
  std::vector<std::string> found;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream status(task.path() / "status");
    std::string line;
    std::string wanted;
    bool ours = false;
    while (std::getline(status, line)) {
      if (line == "Name:\tdiofs-io") ours = true;
      if (line.rfind(field, 0) == 0) wanted = line;
    }
    if (ours) found.push_back(wanted);
  }
  return found;
}

class ThreadsDeviceTest : public testing::Test {
 protected:
  ThreadsDeviceTest()
      : path_(dir_.File("image")), memory_(BufferPool::Get(1 << 20)) {
    EXPECT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    device_ = Open();
  }

  CheckedDevice Open(bool read_only = false) {
    OpenDeviceOptions options;
    options.backend = Backend::kThreads;
    options.read_only = read_only;
    options.log = [this](const std::string& line) { log_ += line; };
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path_, options, &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return device;
  }

  // A request for `blocks` scattered ones, one bio each, through `memory`.
  struct Request {
    Request(BlockDevice* device, IoDirection direction, char* memory,
            uint64_t blocks, bool async)
        : mapper(ScatteredBlocks(blocks)),
          io(direction, mapper, 0, memory, blocks * kBlock, blocks * kBlock),
          dio(std::make_unique<Dio>(device)) {
      io->async = async;
      Plug plug(device);
      (void)dio->Submit(io.get(), &plug);
    }
    const TestMapper mapper;
    IoRequest io;
    std::unique_ptr<Dio> dio;
  };

  // Writes and reads back; true where it came back whole.
  static bool RoundTrip(BlockDevice* device, char* memory, uint64_t blocks) {
    const uint64_t bytes = blocks * kBlock;
    for (uint64_t i = 0; i < bytes; ++i) {
      memory[i] = static_cast<char>(i / kBlock * 7 + i);
    }
    const std::string expected(memory, bytes);
    Request write(device, IoDirection::kWrite, memory, blocks, true);
    if (write.dio->Wait().bytes() != bytes) return false;
    std::memset(memory, 0, bytes);
    Request read(device, IoDirection::kRead, memory, blocks, true);
    return read.dio->Wait().bytes() == bytes &&
           expected == std::string(memory, bytes);
  }

  // Of a test before: a thread that was joined may still be seen.
  const size_t threads_before_ = PoolThreads("Name:").size();
  TempDir dir_;
  const std::string path_;
  std::string log_;
  AlignedBuffer memory_;
  CheckedDevice device_;
};

TEST_F(ThreadsDeviceTest, ALoneSynchronousBioNeedsNoThread) {
  std::memset(memory_.data(), 's', kBlock);
  ASSERT_TRUE(device_->Write(0, memory_.data(), kBlock, 0).ok());
  ASSERT_TRUE(device_->Read(0, memory_.data(), kBlock, 0).ok());
  EXPECT_LE(PoolThreads("Name:").size(), threads_before_);
  EXPECT_STREQ("threads", device_->backend_name());
  EXPECT_EQ("", log_);
  // With nothing queued there is nothing to do.
  device_->Poll();
}

// Nobody waits and nobody polls, and it ends all the same.
TEST_F(ThreadsDeviceTest, AnAsynchronousBioNeedsNoWaiter) {
  Request read(device_.get(), IoDirection::kRead, memory_.data(), 1, true);
  while (!read.dio->done()) std::this_thread::yield();
  EXPECT_EQ(kBlock, read.dio->Wait().bytes());
  EXPECT_LE(PoolThreads("Name:").size(), threads_before_ + 1);
}

TEST_F(ThreadsDeviceTest, BatchesAreSpreadOverThreads) {
  for (const bool async : {false, true}) {
    Request read(device_.get(), IoDirection::kRead, memory_.data(), 16, async);
    while (!read.dio->done()) std::this_thread::yield();
    EXPECT_EQ(16 * kBlock, read.dio->Wait().bytes());
  }
  EXPECT_GT(PoolThreads("Name:").size(), 1u);
}

// More than the queue and the pool of threads hold.
TEST_F(ThreadsDeviceTest, RequestsOfAnyLength) {
  constexpr uint64_t kBlocks =
      2 * ThreadsDevice::kMaxQueuedBios + 4 * ThreadsDevice::kMaxThreads;
  AlignedBuffer memory = BufferPool::Get(kBlocks * kBlock);
  EXPECT_TRUE(RoundTrip(device_.get(), memory.data(), kBlocks));
  EXPECT_LE(PoolThreads("Name:").size(),
            threads_before_ + ThreadsDevice::kMaxThreads);
}

// Many requests at once fill the queue; the submitter then works itself.
TEST_F(ThreadsDeviceTest, AFullQueueIsNoObstacle) {
  std::vector<AlignedBuffer> memory;
  std::vector<std::unique_ptr<Request>> requests;
  for (int i = 0; i < 24; ++i) {
    memory.push_back(BufferPool::Get(64 * kBlock));
    requests.push_back(std::make_unique<Request>(
        device_.get(), IoDirection::kRead, memory.back().data(), 64, true));
  }
  for (const auto& request : requests) {
    EXPECT_EQ(64 * kBlock, request->dio->Wait().bytes());
  }
  EXPECT_LE(PoolThreads("Name:").size(),
            threads_before_ + ThreadsDevice::kMaxThreads);
}

TEST_F(ThreadsDeviceTest, ErrnosArrive) {
  device_.reset();
  device_ = Open(/*read_only=*/true);
  std::memset(memory_.data(), 'e', 4 * kBlock);
  Request write(device_.get(), IoDirection::kWrite, memory_.data(), 4, true);
  EXPECT_EQ(EBADF, write.dio->Wait().error());
}

// One thread submits, another waits, and the Dio dies at once.
TEST_F(ThreadsDeviceTest, AnyThreadMayWait) {
  for (uint64_t i = 0; i < ScaledRounds(100); ++i) {
    Request read(device_.get(), IoDirection::kRead, memory_.data(), 8, true);
    std::thread waiter([&] {
      EXPECT_EQ(8 * kBlock, read.dio->Wait().bytes());
      read.dio.reset();
    });
    if (i % 2 == 0) device_->Poll();
    waiter.join();
  }
}

TEST_F(ThreadsDeviceTest, ConcurrentThreads) {
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      AlignedBuffer memory = BufferPool::Get(16 * kBlock);
      for (uint64_t i = 0; i < ScaledRounds(60); ++i) {
        const uint64_t blocks = 1 + (i + static_cast<uint64_t>(t)) % 16;
        Request read(device_.get(), IoDirection::kRead, memory.data(), blocks,
                     i % 2 == 0);
        EXPECT_EQ(blocks * kBlock, read.dio->Wait().bytes());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// The host's signals are for the host's threads.
TEST_F(ThreadsDeviceTest, ItsThreadsTakeNoSignals) {
  ASSERT_TRUE(RoundTrip(device_.get(), memory_.data(), 16));
  const std::vector<std::string> masks = PoolThreads("SigBlk:");
  ASSERT_FALSE(masks.empty());
  for (const std::string& mask : masks) {
    // All that can be blocked: bits 0..63 but for KILL, STOP and two of libc's.
    const uint64_t blocked =
        std::stoull(mask.substr(mask.find('\t') + 1), nullptr, 16);
    constexpr uint64_t kNot = uint64_t{1} << 8 | uint64_t{1} << 18 |
                              uint64_t{1} << 31 | uint64_t{1} << 32;
    EXPECT_EQ(UINT64_MAX, blocked | kNot) << mask;
  }
}

// ---- Where threads are not to be had
// -----------------------------------------

TEST_F(ThreadsDeviceTest, WithoutThreadsTheCallerDoesTheWork) {
  device_.reset();
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open();
    return DenySyscall(SYS_clone3, EAGAIN) && DenySyscall(SYS_clone, EAGAIN) &&
           RoundTrip(device.get(), memory_.data(), 1) &&
           RoundTrip(device.get(), memory_.data(), 100) &&
           PoolThreads("Name:").empty() && device->bios_in_use() == 0;
  });
  EXPECT_EQ(0, child.Wait());
}

TEST_F(ThreadsDeviceTest, FewThreadsDoTheWorkOfMany) {
  device_.reset();
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open();
    return RoundTrip(device.get(), memory_.data(), 1) &&
           DenySyscall(SYS_clone3, EAGAIN) && DenySyscall(SYS_clone, EAGAIN) &&
           RoundTrip(device.get(), memory_.data(), 100) &&
           PoolThreads("Name:").size() <= 2;
  });
  EXPECT_EQ(0, child.Wait());
}

// ---- Forks
// --------------------------------------------------------------------

// Idle threads in one round, busy ones in the other.
TEST_F(ThreadsDeviceTest, AForkedChildCanDoNothingAndHarmNothing) {
  for (int round = 0; round < 10; ++round) {
    Request read(device_.get(), IoDirection::kRead, memory_.data(), 32, true);
    if (round % 2 == 0) {
      EXPECT_EQ(32 * kBlock, read.dio->Wait().bytes());
    }
    ChildProcess child([&](const ChildProcess::Parent&) {
      const bool waited = round % 2 == 0;
      const Result result = read.dio->Wait();
      const bool ok =
          (waited ? result.ok() : result.error() == ESTALE) &&
          device_->Read(0, memory_.data(), kBlock, 0).error() == ESTALE;
      device_->Poll();
      read.dio.reset();
      device_.reset();
      return ok;
    });
    EXPECT_EQ(0, child.Wait());
    EXPECT_EQ(32 * kBlock, read.dio->Wait().bytes());
    EXPECT_TRUE(RoundTrip(device_.get(), memory_.data(), 8));
  }
}

TEST_F(ThreadsDeviceTest, IdleThreadsEndWithTheDevice) {
  ASSERT_TRUE(RoundTrip(device_.get(), memory_.data(), 64));
  ASSERT_FALSE(PoolThreads("Name:").empty());
  device_.reset();
  device_ = Open();
  EXPECT_TRUE(RoundTrip(device_.get(), memory_.data(), 64));
}

}  // namespace
}  // namespace diofs
