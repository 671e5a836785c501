#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/open_device.h"
#include "dio/plug.h"
#include "dio/uring_device.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"
#include "tests/gauges.h"
#include "tests/temp_dir.h"
#include "tests/test_mapper.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 16 << 20;
constexpr uint64_t kBlock = 4096;

// One request over the whole device taken as a file.
DioRequest MakeRequest(const BlockMapper& mapper, IoDirection direction,
                       uint64_t offset, const iovec* segments, int count,
                       bool async) {
  DioRequest request;
  request.direction = direction;
  request.offset = offset;
  request.segments = segments;
  request.segment_count = count;
  request.file_size = kImageBytes;
  request.mapper = &mapper;
  request.async = async;
  return request;
}

// Skips where the kernel or the container has no io_uring.
class UringDeviceTest : public testing::Test {
 protected:
  UringDeviceTest()
      : path_(dir_.File("image")),
        mapper_(TestMapper::Run(BlockState::kMapped, 0, kImageBytes / kBlock)),
        memory_(BufferPool::Get(256 * kBlock)) {}
  void SetUp() override {
    ASSERT_TRUE(CreateImageFile(path_, kImageBytes, false).ok());
    device_ = Open();
    if (std::string("uring") != device_->backend_name()) {
      GTEST_SKIP() << "no io_uring here";
    }
  }

  CheckedDevice Open(bool read_only = false) {
    OpenDeviceOptions options;
    options.backend = Backend::kUring;
    options.read_only = read_only;
    options.log = [this](const std::string& line) { log_ += line + "\n"; };
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path_, options, &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return device;
  }

  // Every second block of the file's first `2 * count`: so many bios.
  static TestMapper Scattered(uint64_t count) {
    std::vector<TestMapper::Block> blocks(count);
    for (uint64_t i = 0; i < count; ++i) {
      blocks[i] = {BlockState::kMapped, 2 * i, false};
    }
    return TestMapper(std::move(blocks));
  }

  uint64_t RingSubmits() { return device_->stats().ring_submits; }

  TempDir dir_;
  const std::string path_;
  std::string log_;
  TestMapper mapper_;
  AlignedBuffer memory_;
  CheckedDevice device_;
};

TEST_F(UringDeviceTest, ALoneSynchronousBioNeedsNoRing) {
  std::memset(memory_.data(), 'a', kBlock);
  ASSERT_TRUE(device_->Write(0, memory_.data(), kBlock, 0).ok());
  ASSERT_TRUE(device_->Read(0, memory_.data(), kBlock, 0).ok());
  EXPECT_EQ(0u, RingSubmits());
}

TEST_F(UringDeviceTest, ALoneAsynchronousBioGoesThroughTheRing) {
  const iovec segment = {memory_.data(), kBlock};
  Dio dio(device_.get());
  Plug plug(device_.get());
  dio.Submit(MakeRequest(mapper_, IoDirection::kRead, 0, &segment, 1, true),
             &plug);
  plug.Finish();
  EXPECT_EQ(1u, RingSubmits());
  while (!dio.done()) device_->Poll();
  EXPECT_EQ(kBlock, dio.Wait().bytes());
}

TEST_F(UringDeviceTest, ABatchIsOneSubmission) {
  const TestMapper mapper = Scattered(32);
  const iovec segment = {memory_.data(), 32 * kBlock};
  std::memset(memory_.data(), 'b', 32 * kBlock);
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    const uint64_t before = RingSubmits();
    Dio dio(device_.get());
    Plug plug(device_.get());
    dio.Submit(MakeRequest(mapper, direction, 0, &segment, 1, false), &plug);
    plug.Finish();
    EXPECT_EQ(32u * kBlock, dio.Wait().bytes());
    EXPECT_EQ(1u, RingSubmits() - before);
    // Writes that left through a ring are known to the next flush.
    ASSERT_TRUE(device_->Flush().ok());
    EXPECT_EQ(1u, device_->stats().flushes);
    if (direction == IoDirection::kRead) break;
    std::memset(memory_.data(), 0, 32 * kBlock);
  }
  EXPECT_EQ(std::string(32 * kBlock, 'b'),
            std::string(memory_.data(), 32 * kBlock));
}

// Longer than a plug and than a ring; all of it through one ring.
TEST_F(UringDeviceTest, RequestsOfAnyLength) {
  const TestMapper mapper = Scattered(1000);
  AlignedBuffer memory = BufferPool::Get(1000 * kBlock);
  for (size_t i = 0; i < memory.size(); ++i) {
    memory.data()[i] = static_cast<char>(i / kBlock * 7 + i);
  }
  const std::string expected(memory.data(), 1000 * kBlock);
  const iovec segment = {memory.data(), 1000 * kBlock};
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    Dio dio(device_.get());
    Plug plug(device_.get());
    dio.Submit(MakeRequest(mapper, direction, 0, &segment, 1, false), &plug);
    plug.Finish();
    EXPECT_EQ(1000u * kBlock, dio.Wait().bytes());
    if (direction == IoDirection::kWrite) {
      std::memset(memory.data(), 0, memory.size());
    }
  }
  EXPECT_TRUE(expected == std::string(memory.data(), 1000 * kBlock));
}

// Segments and single buffers take different opcodes.
TEST_F(UringDeviceTest, ScatteredMemory) {
  std::vector<iovec> segments;
  for (int i = 63; i >= 0; --i) {
    std::memset(memory_.data() + size_t{1024} * i, i, 512);
    segments.push_back({memory_.data() + size_t{1024} * i, 512});
  }
  {
    Dio dio(device_.get());
    Plug plug(device_.get());
    dio.Submit(MakeRequest(mapper_, IoDirection::kWrite, kBlock,
                           segments.data(), 64, true),
               &plug);
    plug.Finish();
    EXPECT_EQ(64u * 512, dio.Wait().bytes());
  }
  EXPECT_EQ(1u, RingSubmits());
  ASSERT_TRUE(device_->Read(kBlock, memory_.data(), 32 << 10, 0).ok());
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(std::string(512, static_cast<char>(63 - i)),
              std::string(memory_.data() + size_t{512} * i, 512));
  }
}

// The errors of the device arrive as they are: here a descriptor that takes no
// writes.
TEST_F(UringDeviceTest, ErrnosArrive) {
  device_.reset();
  device_ = Open(/*read_only=*/true);
  const TestMapper mapper = Scattered(4);
  std::memset(memory_.data(), 'e', 4 * kBlock);
  const iovec segment = {memory_.data(), 4 * kBlock};
  Dio dio(device_.get());
  Plug plug(device_.get());
  dio.Submit(MakeRequest(mapper, IoDirection::kWrite, 0, &segment, 1, false),
             &plug);
  plug.Finish();
  EXPECT_EQ(EBADF, dio.Wait().error());
}

// One thread submits, another waits, and the Dio dies at once.
TEST_F(UringDeviceTest, AnyThreadMayWait) {
  const TestMapper mapper = Scattered(8);
  const iovec segment = {memory_.data(), 8 * kBlock};
  std::atomic<Dio*> handed{nullptr};
  std::atomic<bool> stop{false};
  std::thread waiter([&] {
    while (!stop) {
      Dio* const dio = handed.exchange(nullptr);
      if (dio == nullptr) {
        std::this_thread::yield();
        continue;
      }
      EXPECT_EQ(8u * kBlock, dio->Wait().bytes());
      delete dio;
    }
  });
  for (int i = 0; i < 150; ++i) {
    auto* const dio = new Dio(device_.get());
    Plug plug(device_.get());
    dio->Submit(MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, true),
                &plug);
    plug.Finish();
    handed = dio;
    while (handed != nullptr) std::this_thread::yield();
  }
  stop = true;
  waiter.join();
}

// Threads share the device, each in its own region; half of them hand their
// requests to a neighbour to wait for. What is read is what was written.
TEST_F(UringDeviceTest, ConcurrentThreads) {
  constexpr int kThreads = 4;
  constexpr uint64_t kRegion = kImageBytes / kThreads;
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 rng(TestSeed() + t);
      AlignedBuffer memory = BufferPool::Get(64 * kBlock);
      for (int i = 0; i < 150; ++i) {
        const uint64_t count = 1 + rng() % 16;
        const uint64_t first = rng() % (kRegion / kBlock - 2 * count);
        TestMapper mapper;
        for (uint64_t b = 0; b < count; ++b) {
          mapper.blocks.push_back({BlockState::kMapped,
                                   t * kRegion / kBlock + first + 2 * b,
                                   false});
        }
        const char fill = static_cast<char>(rng());
        std::memset(memory.data(), fill, count * kBlock);
        const iovec segment = {memory.data(), count * kBlock};
        for (const IoDirection direction :
             {IoDirection::kWrite, IoDirection::kRead}) {
          Dio dio(device_.get());
          Plug plug(device_.get());
          dio.Submit(
              MakeRequest(mapper, direction, 0, &segment, 1, rng() % 2 == 0),
              &plug);
          plug.Finish();
          if (rng() % 4 == 0) device_->Poll();
          if (rng() % 4 == 0) {
            std::thread other([&] { EXPECT_TRUE(dio.Wait().ok()); });
            other.join();
          }
          ASSERT_EQ(count * kBlock, dio.Wait().bytes());
          if (direction == IoDirection::kWrite) {
            ASSERT_TRUE(rng() % 8 != 0 || device_->Flush().ok());
            std::memset(memory.data(), fill + 1, count * kBlock);
          }
        }
        ASSERT_TRUE(std::string(count * kBlock, fill) ==
                    std::string(memory.data(), count * kBlock));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Signals interrupt waits and system calls; no request notices.
TEST_F(UringDeviceTest, SignalsDoNotDisturb) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {};  // without SA_RESTART
  ASSERT_EQ(0, sigaction(SIGALRM, &action, &before));
  const itimerval every = {{0, 500}, {0, 500}};
  ASSERT_EQ(0, setitimer(ITIMER_REAL, &every, nullptr));
  const TestMapper mapper = Scattered(32);
  const iovec segment = {memory_.data(), 32 * kBlock};
  for (int i = 0; i < 400; ++i) {
    DioRequest request =
        MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, false);
    if (i % 2 == 0) request.waiter = Waiter::kSubmitter;
    Dio dio(device_.get());
    Plug plug(device_.get());
    dio.Submit(request, &plug);
    plug.Finish();
    const Result result = dio.Wait(32);
    ASSERT_EQ(32u * kBlock, result.bytes()) << result.ToString();
  }
  const itimerval never = {};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
}

// ---- Where io_uring is missing or fails -------------------------------------

// Writes and reads a batch; true if it came back whole.
bool RoundTrip(BlockDevice* device, const TestMapper& mapper, char* memory) {
  const uint64_t bytes = mapper.blocks.size() * kBlock;
  const iovec segment = {memory, bytes};
  std::memset(memory, 'r', bytes);
  for (const IoDirection direction :
       {IoDirection::kWrite, IoDirection::kRead}) {
    Dio dio(device);
    Plug plug(device);
    dio.Submit(MakeRequest(mapper, direction, 0, &segment, 1, true), &plug);
    plug.Finish();
    if (dio.Wait().bytes() != bytes) return false;
    if (direction == IoDirection::kWrite) std::memset(memory, 0, bytes);
  }
  return std::string(bytes, 'r') == std::string(memory, bytes);
}

TEST_F(UringDeviceTest, BlockedSetupDegradesAndSaysSo) {
  device_.reset();
  const TestMapper mapper = Scattered(8);
  for (const int error : {EPERM, ENOSYS}) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      if (!DenySyscall(SYS_io_uring_setup, error)) return false;
      const auto device = Open();
      return std::string("threads") == device->backend_name() &&
             log_.find(std::strerror(error)) != std::string::npos &&
             log_.find(path_) == 0 &&
             std::count(log_.begin(), log_.end(), '\n') == 1 &&
             RoundTrip(device.get(), mapper, memory_.data());
    });
    EXPECT_EQ(0, child.Wait()) << error;
  }
}

// The kernel takes no submission, for good or for now: no bio is lost.
TEST_F(UringDeviceTest, RefusedSubmissionsAreMovedHere) {
  device_.reset();
  const TestMapper mapper = Scattered(40);
  for (const int error : {ENOMEM, EBADF, EAGAIN, EBUSY}) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      const auto device = Open();
      if (!DenySyscall(SYS_io_uring_enter, error,
                       /*unless_second_is_zero=*/true)) {
        return false;
      }
      return std::string("uring") == device->backend_name() &&
             RoundTrip(device.get(), mapper, memory_.data()) &&
             RoundTrip(device.get(), mapper, memory_.data()) &&
             device->stats().ring_submits == 0 && device->bios_in_use() == 0;
    });
    EXPECT_EQ(0, child.Wait()) << std::strerror(error);
  }
}

// Every ring fails, one after the other, until none is left.
TEST_F(UringDeviceTest, WithoutARingLeftTheCallerDoesTheWork) {
  device_.reset();
  const TestMapper mapper = Scattered(4);
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open();
    if (!DenySyscall(SYS_io_uring_enter, EBADF, true)) return false;
    for (unsigned i = 0; i < RingPool::kMaxRingsMade; ++i) {
      if (!RoundTrip(device.get(), mapper, memory_.data())) return false;
    }
    return device->stats().ring_submits == 0;
  });
  EXPECT_EQ(0, child.Wait());
}

// The second ring is refused: all share the first.
TEST_F(UringDeviceTest, OneRingServesAll) {
  device_.reset();
  const TestMapper mapper = Scattered(8);
  const iovec segment = {memory_.data(), 8 * kBlock};
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open();
    if (!DenySyscall(SYS_io_uring_setup, ENOMEM)) return false;
    const DioRequest request =
        MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, true);
    bool whole = true;
    for (int i = 0; i < 3; ++i) {
      Dio first(device.get());
      Dio second(device.get());
      {
        Plug plug(device.get());
        (void)first.Submit(request, &plug);
      }
      {
        Plug plug(device.get());
        (void)second.Submit(request, &plug);
      }
      whole = whole && second.Wait().bytes() == 8 * kBlock &&
              first.Wait().bytes() == 8 * kBlock;
    }
    return whole && device->stats().ring_submits == 6;
  });
  EXPECT_EQ(0, child.Wait());
}

// The kernel fails while requests are in flight: they still end.
TEST_F(UringDeviceTest, RefusedWaitsStillEnd) {
  device_.reset();
  const TestMapper mapper = Scattered(50);
  ChildProcess child([&](const ChildProcess::Parent&) {
    const auto device = Open();
    const iovec segment = {memory_.data(), 50 * kBlock};
    Dio dio(device.get());
    Plug plug(device.get());
    dio.Submit(MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, true),
               &plug);
    plug.Finish();
    return device->stats().ring_submits == 1 &&
           DenySyscall(SYS_io_uring_enter, EBADF) &&
           dio.Wait().bytes() == 50 * kBlock &&
           RoundTrip(device.get(), mapper, memory_.data());
  });
  EXPECT_EQ(0, child.Wait());
}

// ---- Forks
// -------------------------------------------------------------------

// Maps memory until every gap a forgotten mapping has left must be filled, then
// runs `body`; the child dies if that took any of it away.
bool RunAmongMappings(const std::function<void()>& body) {
  constexpr size_t kPage = 4096;
  std::vector<char*> pages;
  for (int i = 0; i < 2000; ++i) {
    void* const page = mmap(nullptr, kPage, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    pages.push_back(static_cast<char*>(page));
  }
  body();
  for (char* page : pages) *static_cast<volatile char*>(page) = 1;
  return true;
}

TEST_F(UringDeviceTest, AForkedChildCanDoNothingAndHarmNothing) {
  const TestMapper mapper = Scattered(16);
  const iovec segment = {memory_.data(), 16 * kBlock};
  for (int round = 0; round < 20; ++round) {
    auto dio = std::make_unique<Dio>(device_.get());
    Plug plug(device_.get());
    dio->Submit(MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, true),
                &plug);
    plug.Finish();
    // That one is in flight, maybe; this one is only plugged.
    Dio plugged(device_.get());
    Plug its_plug(device_.get());
    AlignedBuffer its_memory = BufferPool::Get(16 * kBlock);
    const iovec its_segment = {its_memory.data(), 16 * kBlock};
    plugged.Submit(
        MakeRequest(mapper, IoDirection::kRead, 0, &its_segment, 1, true),
        &its_plug);
    ChildProcess child([&](const ChildProcess::Parent&) {
      bool ok = dio->Wait().error() == ESTALE;
      its_plug.Finish();
      ok = ok && plugged.Wait().error() == ESTALE;
      dio.reset();
      ok = ok && device_->stale() &&
           device_->Read(0, memory_.data(), kBlock, 0).error() == ESTALE &&
           device_->Write(0, memory_.data(), kBlock, 0).error() == ESTALE &&
           device_->Flush().error() == ESTALE &&
           device_->Discard(0, kBlock).error() == ESTALE;
      auto another = std::make_unique<Dio>(device_.get());
      Plug another_plug(device_.get());
      another->Submit(
          MakeRequest(mapper, IoDirection::kRead, 0, &segment, 1, false),
          &another_plug);
      another_plug.Finish();
      ok = ok && another->Wait().error() == ESTALE;
      another.reset();
      device_->Poll();
      return RunAmongMappings([&] { device_.reset(); }) && ok;
    });
    EXPECT_EQ(0, child.Wait());
    EXPECT_EQ(16u * kBlock, dio->Wait().bytes());
    its_plug.Finish();
    EXPECT_EQ(16u * kBlock, plugged.Wait().bytes());
    EXPECT_FALSE(device_->stale());
    ASSERT_TRUE(RoundTrip(device_.get(), mapper, memory_.data()));
  }
}

}  // namespace
}  // namespace diofs
