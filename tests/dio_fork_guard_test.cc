#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "dio/bio.h"
#include "dio/buffer_pool.h"
#include "dio/fork_guard.h"
#include "tests/child_process.h"

namespace diofs {
namespace {

TEST(ForkGuard, TellsWhatIsTheParents) {
  const ForkGuard before;
  EXPECT_FALSE(before.Crossed());
  ChildProcess child([&](const ChildProcess::Parent&) {
    const ForkGuard inside;
    ChildProcess grandchild([&](const ChildProcess::Parent&) {
      return before.Crossed() && inside.Crossed() && !ForkGuard().Crossed();
    });
    return before.Crossed() && !inside.Crossed() && grandchild.Wait() == 0;
  });
  EXPECT_EQ(0, child.Wait());
  EXPECT_FALSE(before.Crossed());
}

// The parent's threads wait on it; the child's copy must still go away.
TEST(ForkGuard, ConditionsCanBeDestroyedInTheChild) {
  std::mutex mutex;
  auto condition = std::make_unique<ForkSafeCondition>();
  bool waiting = false;
  bool stop = false;
  std::thread waiter([&] {
    std::unique_lock<std::mutex> lock(mutex);
    waiting = true;
    while (!stop) condition->Wait(&lock);
  });
  // Once the mutex is to be had again the waiter is inside Wait.
  while (true) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (waiting) break;
  }
  ChildProcess child([&](const ChildProcess::Parent&) {
    condition.reset();
    return true;
  });
  EXPECT_EQ(0, child.Wait());
  {
    const std::lock_guard<std::mutex> lock(mutex);
    stop = true;
    condition->NotifyAll();
  }
  waiter.join();
}

// Threads hammer the pools while the process forks: the child must find them
// unlocked and whole.
TEST(ForkGuard, ThePoolWorksInTheChild) {
  {
    // Two of each, so that nobody needs the allocator below: that of ASan does
    // not survive a fork among threads.
    const AlignedBuffer one = BufferPool::Get(4096);
    const AlignedBuffer two = BufferPool::Get(4096);
  }
  std::atomic<bool> stop{false};
  std::thread user([&] {
    while (!stop) {
      AlignedBuffer buffer = BufferPool::Get(4096);
    }
  });
  for (int i = 0; i < 50; ++i) {
    ChildProcess child([&](const ChildProcess::Parent&) {
      for (int n = 0; n < 10; ++n) {
        AlignedBuffer buffer = BufferPool::Get(4096);
        if (!buffer) return false;
      }
      return true;
    });
    ASSERT_EQ(0, child.Wait());
  }
  stop = true;
  user.join();
}

// In a child, which nobody else's list is spoilt by. What it has registered is
// let go of on both sides of its own fork.
TEST(ForkGuard, ThereIsAnEndToTheMutexes) {
  ChildProcess child([&](const ChildProcess::Parent&) {
    static std::mutex mutexes[kMaxForkMutexes];
    int registered = 0;
    while (registered < kMaxForkMutexes &&
           RegisterForkMutex(&mutexes[registered])) {
      ++registered;
    }
    static std::mutex one_more;
    // The pool has its own there already.
    if (registered == 0 || registered == kMaxForkMutexes ||
        RegisterForkMutex(&one_more)) {
      return false;
    }
    const auto all_free = [&] {
      return std::all_of(mutexes, mutexes + registered, [](std::mutex& mutex) {
        const std::unique_lock<std::mutex> lock(mutex, std::try_to_lock);
        return lock.owns_lock();
      });
    };
    ChildProcess grandchild(
        [&](const ChildProcess::Parent&) { return all_free(); });
    return grandchild.Wait() == 0 && all_free();
  });
  EXPECT_EQ(0, child.Wait());
}

}  // namespace
}  // namespace diofs
