#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>
#include <vector>

#include "dio/buffer_pool.h"
#include "dio/io_ring.h"
#include "tests/temp_dir.h"

namespace diofs {
namespace {

constexpr uint64_t kImageBytes = 4 << 20;
constexpr uint64_t kBlock = 4096;

// Skips where the kernel or the container has no io_uring.
class IoRingTest : public testing::Test {
 protected:
  IoRingTest() : memory_(BufferPool::Get(kBlock)) {}
  ~IoRingTest() override {
    if (fd_ >= 0) close(fd_);
    EXPECT_EQ(0u, BioPool::in_use());
  }

  void SetUp() override {
    const std::string path = dir_.File("image");
    // With content: a hole would be read without the device.
    std::ofstream(path) << std::string(kImageBytes, 'i');
    fd_ = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    ASSERT_GE(fd_, 0);
    std::unique_ptr<IoRing> ring;
    const Result result = IoRing::Create(
        fd_, 8, [](Bio*, int) {}, &ring);
    if (!result.ok()) GTEST_SKIP() << result.ToString();
  }

  std::unique_ptr<IoRing> MakeRing(unsigned entries, IoRing::CompleteFn fn,
                                   int fd) {
    std::unique_ptr<IoRing> ring;
    const Result result = IoRing::Create(fd, entries, std::move(fn), &ring);
    EXPECT_TRUE(result.ok()) << result.ToString();
    return ring;
  }

  // Reads of one block each; all into the same memory.
  std::vector<Bio*> Reads(size_t count) {
    std::vector<Bio*> bios;
    for (size_t i = 0; i < count; ++i) {
      Bio* const bio = BioPool::Get();
      bio->Reset(nullptr, IoDirection::kRead, 0, (i * kBlock) % kImageBytes,
                 kBlock, 1);
      bio->Append(memory_.data(), kBlock);
      bios.push_back(bio);
    }
    return bios;
  }

  TempDir dir_;
  int fd_ = -1;
  AlignedBuffer memory_;
};

TEST_F(IoRingTest, OneEnterForABatch) {
  std::atomic<int> completed{0};
  const auto ring = MakeRing(
      64,
      [&](Bio* bio, int result) {
        EXPECT_EQ(int(kBlock), result);
        BioPool::Put(bio);
        ++completed;
      },
      fd_);
  const std::vector<Bio*> bios = Reads(32);
  EXPECT_EQ(1u, ring->Submit(bios.data(), bios.size()));
  ring->WaitUntil([&] { return completed == 32; });
  EXPECT_EQ(0u, ring->in_flight());
}

// More than the ring holds: Submit reaps, and the completion queue can never
// overflow.
TEST_F(IoRingTest, AFullRingIsReapedBySubmit) {
  std::atomic<unsigned> completed{0};
  std::atomic<unsigned> peak{0};
  IoRing* ring_pointer = nullptr;
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        peak = std::max(peak.load(), ring_pointer->in_flight());
        BioPool::Put(bio);
        ++completed;
      },
      fd_);
  ring_pointer = ring.get();
  const std::vector<Bio*> bios = Reads(500);
  EXPECT_GE(ring->Submit(bios.data(), bios.size()), 500u / 16);
  ring->WaitUntil([&] { return completed == 500; });
  EXPECT_LE(peak, 16u);
}

TEST_F(IoRingTest, ErrorsReachTheBio) {
  std::atomic<int> error{0};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int result) {
        error = result;
        BioPool::Put(bio);
      },
      /*fd=*/-1);
  const std::vector<Bio*> bios = Reads(1);
  ring->Submit(bios.data(), 1);
  ring->WaitUntil([&] { return error != 0; });
  EXPECT_EQ(-EBADF, error);
}

TEST_F(IoRingTest, ReapDoesNotBlock) {
  std::atomic<int> completed{0};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        BioPool::Put(bio);
        ++completed;
      },
      fd_);
  ring->Reap();
  const std::vector<Bio*> bios = Reads(4);
  ring->Submit(bios.data(), bios.size());
  while (completed < 4) ring->Reap();
  EXPECT_EQ(0u, ring->in_flight());
}

// Threads submit to one ring and wait for their own bios only; whoever reaps
// completes the others', and none of them sleeps for ever.
TEST_F(IoRingTest, TheReaperRoleIsHandedOn) {
  constexpr size_t kThreads = 6;
  std::atomic<unsigned> completed[kThreads] = {};
  const auto ring = MakeRing(
      32,
      [&](Bio* bio, int) {
        const size_t owner = bio->io_class();
        BioPool::Put(bio);
        ++completed[owner];
      },
      fd_);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      unsigned submitted = 0;
      for (int round = 0; round < 100; ++round) {
        Bio* bios[3];
        const unsigned count = 1 + (round + t) % 3;
        for (unsigned i = 0; i < count; ++i) {
          bios[i] = BioPool::Get();
          bios[i]->Reset(nullptr, IoDirection::kRead, static_cast<IoClass>(t),
                         (round * kBlock) % kImageBytes, kBlock, 1);
          bios[i]->Append(memory_.data(), kBlock);
        }
        submitted += count;
        ring->Submit(bios, count);
        ring->WaitUntil([&] { return completed[t] == submitted; });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(0u, ring->in_flight());
}

// One thread reaps while another goes to sleep; when the first one is done the
// other must wake up, be it done as well or the next reaper.
TEST_F(IoRingTest, TheSleeperIsWoken) {
  std::atomic<bool> reaping{false};
  std::atomic<bool> sleeper_checked{false};
  std::atomic<bool> completed[2] = {};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        reaping = true;
        // Its check fell into this reaper's turn, so it sleeps now.
        while (!sleeper_checked) std::this_thread::yield();
        const size_t owner = bio->io_class();
        BioPool::Put(bio);
        completed[owner] = true;
      },
      fd_);
  const std::vector<Bio*> bios = Reads(2);
  for (size_t i = 0; i < 2; ++i) {
    bios[i]->Reset(nullptr, IoDirection::kRead, static_cast<IoClass>(i),
                   i * kBlock, kBlock, 1);
    bios[i]->Append(memory_.data(), kBlock);
  }
  std::thread sleeper([&] {
    while (!reaping) std::this_thread::yield();
    ring->WaitUntil([&] {
      sleeper_checked = true;
      return completed[1].load();
    });
  });
  ring->Submit(bios.data(), bios.size());
  ring->WaitUntil([&] { return completed[0].load(); });
  sleeper.join();
  EXPECT_TRUE(completed[1]);
}

// A thread submits and is busy in user space; another one waits. It must not
// need the submitter's help.
TEST_F(IoRingTest, AForeignWaiterNeedsNoHelpFromTheSubmitter) {
  std::atomic<int> completed{0};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        BioPool::Put(bio);
        ++completed;
      },
      fd_);
  std::atomic<int> submitted{0};
  std::atomic<bool> stop{false};
  std::thread submitter([&] {
    for (int round = 0; round < 50; ++round) {
      const std::vector<Bio*> bios = Reads(2);
      ring->Submit(bios.data(), bios.size());
      submitted += 2;
      while (completed < submitted && !stop) {
      }
    }
  });
  for (int round = 1; round <= 50; ++round) {
    while (submitted < 2 * round) std::this_thread::yield();
    ring->WaitUntil([&] { return completed >= 2 * round; });
  }
  stop = true;
  submitter.join();
}

TEST_F(IoRingTest, PoolPrefersAnIdleRing) {
  RingPool pool(fd_, [](Bio* bio, int) { BioPool::Put(bio); });
  IoRing* const first = pool.Pick();
  ASSERT_NE(nullptr, first);
  EXPECT_EQ(first, pool.Pick());
  const std::vector<Bio*> bios = Reads(2);
  first->Submit(bios.data(), bios.size());
  IoRing* const second = pool.Pick();
  EXPECT_NE(first, second);
  while (first->in_flight() > 0) pool.ReapAll();
  EXPECT_EQ(first, pool.Pick());
}

}  // namespace
}  // namespace diofs
