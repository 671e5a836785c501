#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <mutex>
#include <thread>
#include <vector>

#include "dio/discarder.h"
#include "tests/child_process.h"
#include "tests/deny_syscall.h"
#include "tests/sim_device.h"

namespace diofs {
namespace {

constexpr uint64_t kAnHourMs = 3'600'000;
constexpr uint64_t kMiB = 1 << 20;

class DiscarderTest : public testing::Test {
 protected:
  DiscarderTest() : device_(SimDevice::MakeGeometry(64 * kMiB)) {
    options_.bytes_per_second = 0;
  }

  std::unique_ptr<Discarder> Make() {
    return std::make_unique<Discarder>(
        &device_, options_, [this](const DeviceRange& range) {
          const std::lock_guard<std::mutex> lock(mutex_);
          done_.push_back(range);
        });
  }

  std::vector<DeviceRange> Done() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }
  uint64_t DoneBytes() {
    uint64_t bytes = 0;
    for (const DeviceRange& range : Done()) bytes += range.bytes;
    return bytes;
  }

  SimDevice device_;
  Discarder::Options options_;
  std::mutex mutex_;
  std::vector<DeviceRange> done_;
};

TEST_F(DiscarderTest, NeighboursBecomeOneDiscard) {
  // Nothing is large enough to go at once.
  options_.gather_bytes = 64 * kMiB;
  options_.gather_ms = kAnHourMs;
  const auto discarder = Make();
  for (const uint64_t i : {3, 1, 5, 2, 4}) discarder->Add({i * kMiB, kMiB});
  discarder->Add({40 * kMiB, 4096});
  EXPECT_EQ(5 * kMiB + 4096, discarder->pending_bytes());
  EXPECT_EQ(0u, device_.discards());
  discarder->Drain();
  const std::vector<SimEvent> events = device_.Events();
  ASSERT_EQ(2u, events.size());
  // The largest first.
  EXPECT_EQ(kMiB, events[0].offset);
  EXPECT_EQ(5 * kMiB, events[0].bytes);
  EXPECT_EQ(40 * kMiB, events[1].offset);
  EXPECT_EQ(4096u, events[1].bytes);
  ASSERT_EQ(2u, Done().size());
  EXPECT_EQ(5 * kMiB, Done()[0].bytes);
  EXPECT_EQ(0u, discarder->pending_bytes());
}

TEST_F(DiscarderTest, ALargeRangeGoesAtOnceAndInPieces) {
  options_.gather_ms = kAnHourMs;
  options_.piece_bytes = 2 * kMiB;
  const auto discarder = Make();
  discarder->Add({0, 5 * kMiB});
  while (DoneBytes() < 4 * kMiB) std::this_thread::yield();
  const std::vector<DeviceRange> done = Done();
  EXPECT_EQ(0u, done[0].offset);
  EXPECT_EQ(2 * kMiB, done[0].bytes);
  EXPECT_EQ(2 * kMiB, done[1].offset);
  discarder->Drain();
  EXPECT_EQ(5 * kMiB, DoneBytes());
  EXPECT_EQ(3u, device_.discards());
}

// The default: a MiB goes at once, and less waits until neighbours have made it
// one.
TEST_F(DiscarderTest, LessThanAMiBWaitsForNeighbours) {
  options_.gather_ms = kAnHourMs;
  const auto discarder = Make();
  discarder->Add({8 * kMiB, kMiB / 2});
  discarder->Add({8 * kMiB + kMiB / 2 + 4096, kMiB / 2 - 4096});
  // Others come and go meanwhile.
  for (uint64_t i = 1; i <= 8; ++i) {
    discarder->Add({(16 + 2 * i) * kMiB, kMiB});
    while (DoneBytes() < i * kMiB) std::this_thread::yield();
  }
  EXPECT_EQ(kMiB - 4096, discarder->pending_bytes());
  // What was missing between the two.
  discarder->Add({8 * kMiB + kMiB / 2, 4096});
  while (DoneBytes() < 9 * kMiB) std::this_thread::yield();
  const std::vector<SimEvent> events = device_.Events();
  ASSERT_EQ(9u, events.size());
  EXPECT_EQ(8 * kMiB, events.back().offset);
  EXPECT_EQ(kMiB, events.back().bytes);
}

TEST_F(DiscarderTest, SmallRangesGoInTheEnd) {
  options_.gather_ms = 1;
  const auto discarder = Make();
  discarder->Add({8192, 4096});
  while (DoneBytes() < 4096) std::this_thread::yield();
  EXPECT_EQ(1u, device_.discards());
}

TEST_F(DiscarderTest, WhatIsTakenBackIsNotDiscarded) {
  options_.gather_bytes = 64 * kMiB;
  options_.gather_ms = kAnHourMs;
  const auto discarder = Make();
  discarder->Add({kMiB, kMiB});
  discarder->Add({8 * kMiB, kMiB});
  const std::vector<DeviceRange> back = discarder->TakeBack();
  ASSERT_EQ(2u, back.size());
  EXPECT_EQ(kMiB, back[0].offset);
  EXPECT_EQ(8 * kMiB, back[1].offset);
  EXPECT_TRUE(discarder->TakeBack().empty());
  discarder->Drain();
  EXPECT_EQ(0u, device_.discards());
  EXPECT_TRUE(Done().empty());
}

// Taken back or discarded, every byte exactly once; and after TakeBack nothing
// is under way.
TEST_F(DiscarderTest, EveryRangeComesBackOnce) {
  options_.gather_ms = 0;
  options_.gather_bytes = 0;
  options_.piece_bytes = 4096;
  const auto discarder = Make();
  uint64_t back_bytes = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    discarder->Add({i * 16384, 12288});
    if (i % 7 != 0) continue;
    for (const DeviceRange& range : discarder->TakeBack()) {
      back_bytes += range.bytes;
    }
    EXPECT_EQ((i + 1) * 12288, back_bytes + DoneBytes());
  }
  discarder->Drain();
  EXPECT_EQ(1000u * 12288, back_bytes + DoneBytes());
}

// At any moment no more than the rate allows, but for the first piece.
TEST_F(DiscarderTest, TheRateIsABound) {
  options_.bytes_per_second = 64 * kMiB;
  options_.piece_bytes = kMiB;
  const auto start = std::chrono::steady_clock::now();
  const auto discarder = Make();
  discarder->Add({0, 16 * kMiB});
  while (true) {
    const uint64_t bytes = DoneBytes();
    const std::chrono::duration<double> elapsed =
        std::chrono::steady_clock::now() - start;
    ASSERT_LE(static_cast<double>(bytes),
              elapsed.count() * 64 * kMiB + 2.0 * kMiB);
    if (bytes == 16 * kMiB) break;
    std::this_thread::yield();
  }
}

// A hint: what goes wrong with it is no reason to keep the blocks.
TEST_F(DiscarderTest, FailedDiscardsAreOver) {
  device_.FailNth(SimOp::kDiscard, 1, EIO);
  const auto discarder = Make();
  discarder->Add({0, kMiB});
  discarder->Drain();
  discarder->Add({4 * kMiB, kMiB});
  discarder->Drain();
  EXPECT_EQ(2u, Done().size());
  EXPECT_EQ(2u, device_.discards());
}

TEST_F(DiscarderTest, ADeviceWithoutDiscardIsLeftAlone) {
  device_.FailNth(SimOp::kDiscard, 1, EOPNOTSUPP);
  const auto discarder = Make();
  for (uint64_t i = 0; i < 3; ++i) {
    discarder->Add({4 * i * kMiB, kMiB});
    discarder->Drain();
  }
  EXPECT_EQ(3u, Done().size());
  EXPECT_EQ(1u, device_.discards());
}

TEST_F(DiscarderTest, TheDestructorDropsWhatIsWaiting) {
  options_.gather_bytes = 64 * kMiB;
  options_.gather_ms = kAnHourMs;
  auto discarder = Make();
  discarder->Add({0, kMiB});
  discarder.reset();
  EXPECT_TRUE(Done().empty());
}

// Where no thread can be had blocks wait until somebody takes them back; no
// space is lost, and nobody waits for ever.
TEST_F(DiscarderTest, WithoutAThreadWhatWaitsCanBeTakenBack) {
  ChildProcess child([&](const ChildProcess::Parent&) {
    if (!DenySyscall(SYS_clone3, EAGAIN) || !DenySyscall(SYS_clone, EAGAIN)) {
      return false;
    }
    const auto discarder = Make();
    discarder->Add({0, kMiB});
    discarder->Drain();
    if (discarder->pending_bytes() != kMiB || !Done().empty()) return false;
    const std::vector<DeviceRange> back = discarder->TakeBack();
    return back.size() == 1 && back[0].bytes == kMiB &&
           discarder->pending_bytes() == 0;
  });
  EXPECT_EQ(0, child.Wait());
}

// What is just being discarded may not be given out meanwhile.
TEST_F(DiscarderTest, TakeBackWaitsForTheDiscardUnderWay) {
  options_.gather_bytes = 0;
  options_.gather_ms = 0;
  std::atomic<bool> told{false};
  std::atomic<bool> go{false};
  std::atomic<bool> back{false};
  Discarder discarder(&device_, options_, [&](const DeviceRange&) {
    told = true;
    while (!go) std::this_thread::yield();
  });
  discarder.Add({0, 4096});
  while (!told) std::this_thread::yield();
  std::thread taker([&] {
    EXPECT_TRUE(discarder.TakeBack().empty());
    EXPECT_TRUE(go);
    back = true;
  });
  // Long enough for the thread to have come to its wait, mostly.
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(back);
  go = true;
  taker.join();
}

TEST_F(DiscarderTest, AForkedChildMayDestroyIt) {
  auto discarder = Make();
  discarder->Add({0, 4096});
  ChildProcess child([&](const ChildProcess::Parent&) {
    discarder.reset();
    return true;
  });
  EXPECT_EQ(0, child.Wait());
  discarder->Drain();
  EXPECT_EQ(4096u, DoneBytes());
}

}  // namespace
}  // namespace diofs
