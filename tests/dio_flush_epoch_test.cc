#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "dio/flush_epoch.h"

namespace diofs {
namespace {

// A flush that a test holds up and lets go.
class Gate {
 public:
  Result Flush() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++entered_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return allowed_ > 0; });
    --allowed_;
    return Result::Ok();
  }
  void WaitUntilEntered(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return entered_ >= count; });
  }
  void Allow(int count) {
    const std::lock_guard<std::mutex> lock(mutex_);
    allowed_ += count;
    changed_.notify_all();
  }
  int entered() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return entered_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int entered_ = 0;
  int allowed_ = 0;
};

TEST(FlushEpoch, CleanCostsNothing) {
  FlushEpoch epoch;
  int flushes = 0;
  const auto flush = [&] {
    ++flushes;
    return Result::Ok();
  };
  EXPECT_TRUE(epoch.Flush(flush).ok());
  EXPECT_EQ(0, flushes);
  epoch.MarkDirty();
  EXPECT_TRUE(epoch.Flush(flush).ok());
  EXPECT_TRUE(epoch.Flush(flush).ok());
  EXPECT_EQ(1, flushes);
}

TEST(FlushEpoch, AFailureIsSticky) {
  FlushEpoch epoch;
  epoch.MarkDirty();
  EXPECT_EQ(EIO, epoch.Flush([] { return Result::Error(EIO, "x"); }).error());
  bool called = false;
  const auto good = [&] {
    called = true;
    return Result::Ok();
  };
  // Not even when there is nothing to do, and never by trying again.
  EXPECT_EQ(EIO, epoch.Flush(good).error());
  epoch.MarkDirty();
  EXPECT_EQ(EIO, epoch.Flush(good).error());
  EXPECT_FALSE(called);
}

// A write that completes while a flush runs may not be covered by it.
TEST(FlushEpoch, AWriteDuringAFlushNeedsAnother) {
  FlushEpoch epoch;
  Gate gate;
  const auto flush = [&] { return gate.Flush(); };
  epoch.MarkDirty();
  std::thread first([&] { EXPECT_TRUE(epoch.Flush(flush).ok()); });
  gate.WaitUntilEntered(1);
  epoch.MarkDirty();
  std::atomic<bool> second_done{false};
  std::thread second([&] {
    EXPECT_TRUE(epoch.Flush(flush).ok());
    second_done = true;
  });
  gate.Allow(1);
  first.join();
  gate.WaitUntilEntered(2);
  EXPECT_FALSE(second_done);
  gate.Allow(1);
  second.join();
  EXPECT_EQ(2, gate.entered());
}

// Nothing new was written, yet what the caller wrote is not durable before the
// flush that runs has finished.
TEST(FlushEpoch, ACleanCallerWaitsForTheRunningFlush) {
  FlushEpoch epoch;
  std::atomic<bool> calling{false};
  std::atomic<bool> returned{false};
  std::thread second;
  epoch.MarkDirty();
  const Result result = epoch.Flush([&] {
    second = std::thread([&] {
      calling = true;
      const auto never = [] { return Result::Error(EIO, "a second flush"); };
      EXPECT_TRUE(epoch.Flush(never).ok());
      returned = true;
    });
    while (!calling) std::this_thread::yield();
    // A chance to come back too early.
    for (int i = 0; i < 200 && !returned; ++i) std::this_thread::yield();
    EXPECT_FALSE(returned);
    return Result::Ok();
  });
  EXPECT_TRUE(result.ok());
  second.join();
}

TEST(FlushEpoch, ConcurrentCallersShare) {
  FlushEpoch epoch;
  Gate gate;
  const auto flush = [&] { return gate.Flush(); };
  epoch.MarkDirty();
  std::thread first([&] { EXPECT_TRUE(epoch.Flush(flush).ok()); });
  gate.WaitUntilEntered(1);
  epoch.MarkDirty();
  std::vector<std::thread> callers;
  callers.reserve(8);
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([&] { EXPECT_TRUE(epoch.Flush(flush).ok()); });
  }
  gate.Allow(9);
  first.join();
  for (std::thread& caller : callers) caller.join();
  // One for the first and one for all others, however late they came.
  EXPECT_EQ(2, gate.entered());
}

// What a caller wrote is always covered by a flush that started afterwards.
TEST(FlushEpoch, EveryCallersWriteIsCovered) {
  FlushEpoch epoch;
  std::atomic<uint64_t> written{0};
  std::atomic<uint64_t> durable{0};
  const auto flush = [&] {
    const uint64_t covered = written.load();
    uint64_t before = durable.load();
    while (before < covered &&
           !durable.compare_exchange_weak(before, covered)) {
    }
    return Result::Ok();
  };
  std::vector<std::thread> writers;
  writers.reserve(4);
  for (int t = 0; t < 4; ++t) {
    writers.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        const uint64_t mine = ++written;
        epoch.MarkDirty();
        ASSERT_TRUE(epoch.Flush(flush).ok());
        ASSERT_GE(durable.load(), mine);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

}  // namespace
}  // namespace diofs
