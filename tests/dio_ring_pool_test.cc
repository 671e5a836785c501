#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/open_device.h"
#include "dio/read_batch.h"
#include "dio/ring_pool.h"
#include "tests/child_process.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/loop_device.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 4 << 20;
constexpr uint64_t kBlock = 4096;

// The io_urings of this process.
size_t OpenRings() {
  size_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string to = std::filesystem::read_symlink(entry, gone).string();
    if (to.find("[io_uring]") != std::string::npos) ++count;
  }
  return count;
}

// A thread that does what it is told, one thing after the other.
class Thread {
 public:
  Thread() : thread_([this] { Loop(); }) {}
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;
  ~Thread() { End(); }

  // Returns when `what` has been done.
  void Do(const std::function<void()>& what) {
    std::unique_lock<std::mutex> lock(mutex_);
    what_ = &what;
    changed_.notify_all();
    changed_.wait(lock, [this] { return what_ == nullptr; });
  }
  void End() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      end_ = true;
      changed_.notify_all();
    }
    if (thread_.joinable()) thread_.join();
  }

 private:
  void Loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return end_ || what_ != nullptr; });
      if (what_ == nullptr) return;
      (*what_)();
      what_ = nullptr;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* what_ = nullptr;
  bool end_ = false;
  std::thread thread_;
};

// Skips where the kernel or the container has no io_uring.
class RingPoolTest : public testing::Test {
 protected:
  RingPoolTest() : memory_(FilledBuffer(64 * kBlock, 'm')) {}
  ~RingPoolTest() override {
    pool_.reset();
    if (fd_ >= 0) close(fd_);
    EXPECT_EQ(0u, bios_.in_use());
    EXPECT_EQ(0u, OpenRings());
  }

  void SetUp() override {
    path_ = dir_.File("image");
    // With content: a hole would be read without the device.
    std::ofstream(path_) << std::string(kImageBytes, 'i');
    fd_ = open(path_.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    ASSERT_GE(fd_, 0);
    pool_ = MakePool();
    if (pool_->Pick() == nullptr) GTEST_SKIP() << "no io_uring here";
    if (pool_->Own() == nullptr) GTEST_SKIP() << "no rings of one thread here";
  }

  std::unique_ptr<RingPool> MakePool() {
    return std::make_unique<RingPool>(
        fd_, [this](Bio* bio, int) { bios_.Put(bio); });
  }

  // Reads of one block each; all into the same memory.
  void Submit(IoRing* ring, size_t count) {
    std::vector<Bio*> bios;
    for (size_t i = 0; i < count; ++i) {
      BioHead head;
      head.device_offset = i * kBlock;
      head.max_bytes = kBlock;
      head.max_segments = 1;
      bios.push_back(bios_.TryGet());
      bios.back()->Reset(head);
      bios.back()->TryAppend(0, head.device_offset, memory_.data(), kBlock);
    }
    ring->Submit(bios.data(), bios.size());
  }

  TempDir dir_;
  std::string path_;
  int fd_ = -1;
  BioPool bios_{1000};
  AlignedBuffer memory_;
  std::unique_ptr<RingPool> pool_;
};

// ---- Shared rings -----------------------------------------------------------

TEST_F(RingPoolTest, AnIdleRingIsPreferred) {
  IoRing* const first = pool_->Pick();
  ASSERT_NE(nullptr, first);
  EXPECT_EQ(first, pool_->Pick());
  Submit(first, 2);
  EXPECT_NE(first, pool_->Pick());
  while (first->in_flight() > 0) pool_->ReapAll();
  EXPECT_EQ(first, pool_->Pick());
}

// Many more rings are never made.
TEST_F(RingPoolTest, TheLeastLoadedRingIsShared) {
  std::set<IoRing*> rings;
  for (unsigned i = 0; i < 2 * RingPool::kMaxRings; ++i) {
    IoRing* const ring = pool_->Pick();
    rings.insert(ring);
    Submit(ring, i == 0 ? 2 : 1);
  }
  EXPECT_EQ(RingPool::kMaxRings, rings.size());
  while (bios_.in_use() > 0) pool_->ReapAll();
}

// ---- Own rings --------------------------------------------------------------

TEST_F(RingPoolTest, EachThreadHasARingOfItsOwn) {
  IoRing* const own = pool_->Own();
  EXPECT_EQ(own, pool_->Own());
  EXPECT_NE(own, pool_->Pick());
  EXPECT_TRUE(pool_->MayUse(own));
  EXPECT_TRUE(pool_->MayUse(pool_->Pick()));
  Thread other;
  IoRing* others = nullptr;
  other.Do([&] {
    others = pool_->Own();
    EXPECT_EQ(others, pool_->Own());
    EXPECT_FALSE(pool_->MayUse(own));
    EXPECT_TRUE(pool_->MayUse(pool_->Pick()));
  });
  EXPECT_NE(nullptr, others);
  EXPECT_NE(own, others);
  EXPECT_FALSE(pool_->MayUse(others));
}

// The same thread may use several devices.
TEST_F(RingPoolTest, EachDeviceHasRingsOfItsOwn) {
  IoRing* const own = pool_->Own();
  auto second = MakePool();
  IoRing* const seconds = second->Own();
  EXPECT_NE(own, seconds);
  EXPECT_EQ(own, pool_->Own());
  EXPECT_EQ(seconds, second->Own());
  second.reset();
  EXPECT_EQ(own, pool_->Own());
  // What the thread remembers of the dead pool is not taken for the new one's.
  second = MakePool();
  EXPECT_FALSE(second->MayUse(own));
  EXPECT_TRUE(second->MayUse(second->Own()));
}

TEST_F(RingPoolTest, AnOwnRingEndsWithItsThread) {
  const size_t before = OpenRings();
  for (int i = 0; i < 3; ++i) {
    Thread other;
    other.Do([&] { EXPECT_NE(nullptr, pool_->Own()); });
    EXPECT_EQ(before + 1, OpenRings());
    other.End();
    EXPECT_EQ(before, OpenRings());
  }
}

// A thread that goes completes what it has left in flight.
TEST_F(RingPoolTest, AThreadThatEndsLeavesNothingInFlight) {
  Thread other;
  other.Do([&] { Submit(pool_->Own(), 16); });
  EXPECT_GT(bios_.in_use(), 0u);
  other.End();
  EXPECT_EQ(0u, bios_.in_use());
}

TEST_F(RingPoolTest, ADeviceMayEndBeforeItsThreads) {
  Thread other;
  other.Do([&] { EXPECT_NE(nullptr, pool_->Own()); });
  pool_.reset();
  EXPECT_EQ(0u, OpenRings());
  pool_ = MakePool();
  other.Do([&] { EXPECT_NE(nullptr, pool_->Own()); });
  other.End();
  EXPECT_EQ(0u, OpenRings());
}

TEST_F(RingPoolTest, ThreadsAndDevicesMayEndTogether) {
  for (int i = 0; i < 100; ++i) {
    pool_ = MakePool();
    std::vector<std::thread> threads;
    threads.reserve(3);
    std::atomic<int> ready{0};
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&] {
        EXPECT_NE(nullptr, pool_->Own());
        ++ready;
      });
    }
    while (ready < 3) std::this_thread::yield();
    pool_.reset();
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(0u, OpenRings());
  }
}

// Threads beyond the bound share, until one of the others ends.
TEST_F(RingPoolTest, OwnRingsAreBounded) {
  std::vector<std::unique_ptr<Thread>> threads;
  size_t with_ring = 1;  // this thread
  for (unsigned i = 0; i < RingPool::kMaxOwnRings + 3; ++i) {
    threads.push_back(std::make_unique<Thread>());
    threads.back()->Do([&] { with_ring += pool_->Own() != nullptr ? 1 : 0; });
  }
  EXPECT_EQ(RingPool::kMaxOwnRings, with_ring);
  threads.front()->End();
  threads.back()->Do([&] { EXPECT_NE(nullptr, pool_->Own()); });
}

// Only its owner looks at it.
TEST_F(RingPoolTest, AForeignThreadReapsNoOwnRing) {
  Thread other;
  other.Do([&] { Submit(pool_->Own(), 4); });
  for (int i = 0; i < 100; ++i) pool_->ReapAll();
  EXPECT_EQ(4u, bios_.in_use());
  other.Do([&] {
    while (bios_.in_use() > 0) pool_->ReapAll();
  });
}

// Runs `then` as the last of all of a thread's destructors, if it is made
// first.
struct LastOfThread {
  ~LastOfThread() {
    if (then) then();
  }
  std::function<void()> then;
};
thread_local LastOfThread t_last;

// A child that exits runs the destructors of the thread that forked. They find
// locks that another thread may have held, and rings that are the parent's.
TEST_F(RingPoolTest, AForkedChildLeavesThemAlone) {
  IoRing* const own = pool_->Own();
  std::atomic<bool> stop{false};
  // Holds the pool's lock for much of the time.
  std::thread busy([&] {
    while (!stop) {
      Thread maker;
      maker.Do([&] { EXPECT_NE(nullptr, pool_->Own()); });
    }
  });
  Thread forker;
  for (int i = 0; i < 50; ++i) {
    int status = 0;
    forker.Do([&] {
      t_last.then = nullptr;
      EXPECT_NE(nullptr, pool_->Own());
      ChildProcess child([&](const ChildProcess::Parent&) {
        {
          RingPool pool(fd_, [](Bio*, int) {});
          EXPECT_NE(nullptr, pool.Own());
        }
        RingPool* const parents = pool_.release();
        if (i % 2 == 0) delete parents;
        t_last.then = [] { ExitChild(testing::Test::HasFailure() ? 1 : 0); };
        std::exit(1);
        return false;
      });
      status = child.Wait();
    });
    EXPECT_EQ(0, status);
    if (status != 0) break;
  }
  stop = true;
  busy.join();
  EXPECT_EQ(own, pool_->Own());
}

// ---- Through a device -------------------------------------------------------

class OwnRingTest : public RingPoolTest {
 protected:
  void SetUp() override {
    RingPoolTest::SetUp();
    pool_.reset();
    device_ = Open(path_);
  }
  ~OwnRingTest() override { device_.reset(); }

  static CheckedDevice Open(const std::string& path) {
    std::unique_ptr<BlockDevice> device;
    const Result result = OpenBlockDevice(path, OpenDeviceOptions(), &device);
    EXPECT_TRUE(result.ok()) << result.ToString();
    EXPECT_STREQ("uring", device->backend_name());
    return device;
  }

  // Submits reads of `blocks` blocks, one bio each.
  std::unique_ptr<Dio> SubmitReads(uint64_t blocks, Waiter waiter) {
    std::memset(memory_.data(), 'm', memory_.size());
    IoRequest io(IoDirection::kRead, mapper_, 0, memory_.data(),
                 blocks * kBlock, blocks * kBlock);
    io->async = true;
    io->waiter = waiter;
    auto dio = std::make_unique<Dio>(device_.get());
    Plug plug(device_.get());
    (void)dio->Submit(io.get(), &plug);
    return dio;
  }
  void ExpectRead(Dio* dio, uint64_t blocks) {
    EXPECT_EQ(blocks * kBlock, dio->Wait().bytes());
    EXPECT_EQ(
        static_cast<int64_t>(blocks * kBlock),
        std::count(memory_.data(), memory_.data() + blocks * kBlock, 'i'));
  }

  const TestMapper mapper_{ScatteredBlocks(64)};
  CheckedDevice device_;
};

TEST_F(OwnRingTest, ReadsOfAnyNumberComeBack) {
  for (const uint64_t blocks : {1, 2, 63, 64}) {
    for (const Waiter waiter : {Waiter::kSubmitter, Waiter::kAnyThread}) {
      const auto dio = SubmitReads(blocks, waiter);
      ExpectRead(dio.get(), blocks);
    }
  }
}

// More than a ring holds, in requests that are waited for in any order.
TEST_F(OwnRingTest, ManyRequestsAtOnce) {
  std::vector<AlignedBuffer> memory;
  std::vector<std::unique_ptr<Dio>> dios;
  for (int i = 0; i < 40; ++i) {
    memory.push_back(FilledBuffer(16 * kBlock, 'm'));
    IoRequest io(IoDirection::kRead, mapper_, 0, memory.back().data(),
                 16 * kBlock, 16 * kBlock);
    io->async = true;
    io->waiter = i % 7 == 0 ? Waiter::kAnyThread : Waiter::kSubmitter;
    dios.push_back(std::make_unique<Dio>(device_.get()));
    Plug plug(device_.get());
    (void)dios.back()->Submit(io.get(), &plug);
  }
  for (size_t i = dios.size(); i-- > 0;) {
    EXPECT_EQ(16 * kBlock, dios[i]->Wait(static_cast<uint32_t>(i)).bytes());
    EXPECT_EQ(
        static_cast<int64_t>(16 * kBlock),
        std::count(memory[i].data(), memory[i].data() + 16 * kBlock, 'i'));
  }
}

// A thread's ring ends before destructors that may still have to read.
TEST_F(OwnRingTest, AThreadThatEndsMayStillRead) {
  Thread reader;
  bool read = false;
  const size_t before = OpenRings();
  reader.Do([&] {
    t_last.then = [&] {
      EXPECT_EQ(before, OpenRings());
      const auto dio = SubmitReads(8, Waiter::kSubmitter);
      ExpectRead(dio.get(), 8);
      EXPECT_EQ(before, OpenRings());
      read = true;
    };
    ExpectRead(SubmitReads(8, Waiter::kSubmitter).get(), 8);
    EXPECT_EQ(before + 1, OpenRings());
  });
  reader.End();
  EXPECT_TRUE(read);
}

// Against the rule; it takes until the submitter looks.
TEST_F(OwnRingTest, AForeignWaiterWaitsForTheSubmitter) {
  Thread submitter;
  std::unique_ptr<Dio> dio;
  for (const bool ends : {false, true}) {
    submitter.Do([&] { dio = SubmitReads(8, Waiter::kSubmitter); });
    std::thread looks([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      EXPECT_FALSE(dio->done());
      if (ends) return submitter.End();
      submitter.Do([&] {
        while (!dio->done()) device_->Poll();
      });
    });
    (void)dio->Wait();
    looks.join();
    ExpectRead(dio.get(), 8);
  }
}

// Nothing of the rings keeps the device open: it is to be had again at once,
// though their threads live on.
TEST_F(OwnRingTest, AClosedDeviceIsFreeAtOnce) {
  const LoopDevice loop(path_);
  if (!loop.ok()) GTEST_SKIP() << "no loop devices here";
  Thread other;
  for (int i = 0; i < 20; ++i) {
    device_ = Open(loop.path());
    const auto read = [&] {
      const auto dio = SubmitReads(8, Waiter::kSubmitter);
      ExpectRead(dio.get(), 8);
    };
    other.Do(read);
    read();
    device_.reset();
    ASSERT_EQ(0u, OpenRings());
    // Without the patience that OpenBlockDevice has.
    const int fd = open(loop.path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC);
    ASSERT_GE(fd, 0) << std::strerror(errno);
    close(fd);
  }
}

}  // namespace
}  // namespace diofs
