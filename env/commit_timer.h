#ifndef DIOFS_ENV_COMMIT_TIMER_H_
#define DIOFS_ENV_COMMIT_TIMER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "dio/fork_guard.h"

namespace diofs {

// Commits what nobody has asked to be committed, some time after it came: a
// power cut then takes no more than that, and what has been freed becomes
// reusable. Owned by a volume. Thread-safe. Its thread is started by the first
// Arm.
class CommitTimer {
 public:
  // `commit` runs on the timer's thread, no lock held.
  CommitTimer(std::chrono::milliseconds interval, std::function<void()> commit);
  CommitTimer(const CommitTimer&) = delete;
  CommitTimer& operator=(const CommitTimer&) = delete;
  ~CommitTimer();

  // There is something to commit: in an `interval` from the first call since
  // the last commit began.
  void Arm();
  // Returns when no commit is going on; there are no more of them.
  void Stop();

 private:
  // What the thread shares with its callers; in a forked child, where the
  // thread does not live, nobody's.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    // Guarded by mutex.
    std::chrono::steady_clock::time_point deadline;
    bool stopping = false;
    std::thread thread;
  };
  using Lock = std::unique_lock<std::mutex>;

  void Run();

  const std::chrono::milliseconds interval_;
  const std::function<void()> commit_;
  const ForkGuard fork_guard_;
  // A deadline stands. Changed with State::mutex held.
  std::atomic<bool> armed_{false};
  std::unique_ptr<State> state_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_COMMIT_TIMER_H_
