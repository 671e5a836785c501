#ifndef DIOFS_DIO_FORK_GUARD_H_
#define DIOFS_DIO_FORK_GUARD_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace diofs {

// Tells whether a fork() lies between now and the guard's construction. What
// was opened before it belongs to the parent: its rings, its threads and its
// locks did not come along. A value inside whatever must not cross a fork;
// thread-safe.
//
// What a child opens itself works as in any process, so that a daemon may fork
// first and open its volume afterwards.
class ForkGuard {
 public:
  ForkGuard();
  // True in a child that was forked after construction.
  bool Crossed() const;

 private:
  const uint64_t generation_;
};

// Makes fork() wait until nobody holds `mutex`, so that the child finds what it
// guards whole: for a pool that parent and child both go on using. To be called
// while the program is loaded, for a mutex of static storage; a leaf lock, held
// for moments. False where there are kMaxForkMutexes already.
inline constexpr int kMaxForkMutexes = 8;
bool RegisterForkMutex(std::mutex* mutex);

// A condition variable that may be destroyed in a forked child: the parent's
// waiters were copied into it, and an ordinary one would wait for them for
// ever.
class ForkSafeCondition {
 public:
  ForkSafeCondition() : condition_(new std::condition_variable) {}
  ForkSafeCondition(const ForkSafeCondition&) = delete;
  ForkSafeCondition& operator=(const ForkSafeCondition&) = delete;
  ~ForkSafeCondition() {
    if (!fork_guard_.Crossed()) delete condition_;
  }

  void Wait(std::unique_lock<std::mutex>* lock) { condition_->wait(*lock); }
  void NotifyAll() { condition_->notify_all(); }

 private:
  const ForkGuard fork_guard_;
  std::condition_variable* const condition_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_FORK_GUARD_H_
