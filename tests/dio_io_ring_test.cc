#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dio/annotate.h"
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
    EXPECT_EQ(0u, pool_.in_use());
  }

  void SetUp() override {
    const std::string path = dir_.File("image");
    // With content: a hole would be read without the device.
    std::ofstream(path) << std::string(kImageBytes, 'i');
    fd_ = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
    ASSERT_GE(fd_, 0);
    std::unique_ptr<IoRing> ring;
    const Result result =
        IoRing::Create(fd_, 8, IoRing::Kind::kShared, nullptr, &ring);
    if (!result.ok()) GTEST_SKIP() << result.ToString();
  }

  std::unique_ptr<IoRing> MakeRing(unsigned entries, IoRing::CompleteFn fn,
                                   int fd) {
    std::unique_ptr<IoRing> ring;
    const Result result =
        IoRing::Create(fd, entries, IoRing::Kind::kShared, nullptr, &ring);
    EXPECT_TRUE(result.ok()) << result.ToString();
    ring->set_complete(std::move(fn));
    return ring;
  }

  // Reads of one block each; all into the same memory.
  std::vector<Bio*> Reads(size_t count) {
    std::vector<Bio*> bios;
    for (size_t i = 0; i < count; ++i) {
      bios.push_back(pool_.TryGet());
      Fill(bios.back(), 0, i * kBlock % kImageBytes);
    }
    return bios;
  }

  void Fill(Bio* bio, size_t owner, uint64_t offset) {
    BioHead head;
    head.io_class = static_cast<IoClass>(owner);
    head.device_offset = offset;
    head.max_bytes = kBlock;
    head.max_segments = 1;
    bio->Reset(head);
    bio->TryAppend(0, offset, memory_.data(), kBlock);
  }

  TempDir dir_;
  int fd_ = -1;
  IoRing* ring_ = nullptr;  // for completions
  BioPool pool_{1000};
  AlignedBuffer memory_;
};

TEST_F(IoRingTest, OneEnterForABatch) {
  std::atomic<int> completed{0};
  const auto ring = MakeRing(
      64,
      [&](Bio* bio, int result) {
        EXPECT_EQ(int(kBlock), result);
        pool_.Put(bio);
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
        pool_.Put(bio);
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
        pool_.Put(bio);
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
        pool_.Put(bio);
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
        pool_.Put(bio);
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
          bios[i] = pool_.TryGet();
          Fill(bios[i], t, round * kBlock % kImageBytes);
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
        pool_.Put(bio);
        completed[owner] = true;
      },
      fd_);
  const std::vector<Bio*> bios = Reads(2);
  for (size_t i = 0; i < 2; ++i) {
    Fill(bios[i], i, i * kBlock);
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

// The role of the reaper is offered to a sleeper who has no use for it any
// more: it hands the offer on, for nobody else will.
TEST_F(IoRingTest, AnOfferThatComesTooLateIsHandedOn) {
  std::atomic<int> asleep{0};
  std::atomic<bool> completed[2] = {};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        const size_t owner = bio->io_class();
        while (owner == 0 && asleep < 2) std::this_thread::yield();
        pool_.Put(bio);
        completed[owner] = true;
      },
      fd_);
  const std::vector<Bio*> bios = Reads(2);
  Fill(bios[1], 1, kBlock);
  std::atomic<bool> reaping{false};
  // Not done in the reaper's eyes, and done when it looks again itself.
  std::thread late([&] {
    while (!reaping) std::this_thread::yield();
    const std::thread::id self = std::this_thread::get_id();
    int looks = 0;
    ring->WaitUntil([&] {
      if (std::this_thread::get_id() != self) return false;
      if (++looks == 1) ++asleep;
      return looks > 1;
    });
  });
  std::thread heir([&] {
    // Behind the other one in the queue.
    while (asleep < 1) std::this_thread::yield();
    bool looked = false;
    ring->WaitUntil([&] {
      if (!std::exchange(looked, true)) ++asleep;
      return completed[1].load();
    });
  });
  ring->Submit(bios.data(), 1);
  ring->WaitUntil([&] {
    reaping = true;
    return completed[0].load();
  });
  late.join();
  ring->Submit(&bios[1], 1);
  heir.join();
  EXPECT_TRUE(completed[1]);
}

// Who reaps in passing leaves the role to a sleeper.
TEST_F(IoRingTest, ReapLeavesTheRoleToASleeper) {
  std::atomic<bool> asleep{false};
  std::atomic<bool> reaping{false};
  std::atomic<bool> completed[2] = {};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        const size_t owner = bio->io_class();
        reaping = true;
        while (!asleep) std::this_thread::yield();
        // Nothing for a second one to do meanwhile.
        if (owner == 0) ring_->Reap();
        pool_.Put(bio);
        completed[owner] = true;
      },
      fd_);
  ring_ = ring.get();
  const std::vector<Bio*> bios = Reads(2);
  Fill(bios[1], 1, kBlock);
  std::thread sleeper([&] {
    while (!reaping) std::this_thread::yield();
    ring->WaitUntil([&] {
      asleep = true;
      return completed[1].load();
    });
  });
  ring->Submit(bios.data(), 1);
  while (!completed[0]) ring->Reap();
  ring->Submit(&bios[1], 1);
  sleeper.join();
  EXPECT_TRUE(completed[1]);
}

// Only block devices know the command; and a ring that has failed none.
TEST_F(IoRingTest, DiscardIsRefusedWhereThereIsNone) {
  const auto ring = MakeRing(
      8, [](Bio*, int) {}, fd_);
  const int error = ring->Discard(0, kBlock).error();
  EXPECT_TRUE(error == EOPNOTSUPP || error == EINVAL) << error;
  EXPECT_EQ(0u, ring->in_flight());
}

// A thread submits and is busy in user space; another one waits. It must not
// need the submitter's help.
TEST_F(IoRingTest, AForeignWaiterNeedsNoHelpFromTheSubmitter) {
  std::atomic<int> completed{0};
  const auto ring = MakeRing(
      8,
      [&](Bio* bio, int) {
        pool_.Put(bio);
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

// A pipe is read, so that nothing has completed when the thread that submits
// leaves the kernel; and it does not come back before the other one has what
// it waits for.
TEST_F(IoRingTest, ASubmitterThatNeverEntersTheKernelAgainHoldsUpNobody) {
  int ends[2];
  ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
  std::atomic<int> completed{0};
  auto ring = MakeRing(
      8,
      [&](Bio* bio, int result) {
        EXPECT_EQ(static_cast<int>(kBlock), result);
        pool_.Put(bio);
        ++completed;
      },
      ends[0]);
  for (int round = 1; round <= 20; ++round) {
    const std::string sent(kBlock, static_cast<char>('a' + round));
    std::atomic<bool> submitted{false};
    std::atomic<bool> told{false};
    std::thread submitter([&] {
      const std::vector<Bio*> bios = Reads(1);
      ring->Submit(bios.data(), bios.size());
      submitted = true;
      // Only against a hang; no part of the loop is a system call.
      const auto hang =
          std::chrono::steady_clock::now() + std::chrono::minutes(1);
      while (!told) {
        if (std::chrono::steady_clock::now() < hang) continue;
        std::fputs("the completion waits for its submitter\n", stderr);
        std::abort();
      }
    });
    while (!submitted) std::this_thread::yield();
    EXPECT_EQ(1u, ring->in_flight());
    EXPECT_EQ(static_cast<ssize_t>(kBlock),
              write(ends[1], sent.data(), kBlock));
    ring->WaitUntil([&] { return completed == round; });
    told = true;
    submitter.join();
    const iovec received = {memory_.data(), kBlock};
    AnnotateReadCompleted(&received, 1);
    EXPECT_EQ(0, sent.compare(0, kBlock, memory_.data(), kBlock));
  }
  ring.reset();
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace diofs
