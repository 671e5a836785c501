#ifndef DIOFS_DIO_IO_RING_H_
#define DIOFS_DIO_IO_RING_H_

#include <liburing.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "dio/bio.h"
#include "dio/fork_guard.h"
#include "dio/result.h"

namespace diofs {

// One io_uring, shared by any number of threads. Submission is serialised by a
// mutex; one thread at a time reaps, dispatches every completion to its bio by
// user_data and hands the role on when its own request is done. Owned by a
// RingPool. Thread-safe.
//
// It uses none of SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN and SQPOLL: with
// the first two a foreign waiter gets EEXIST or never returns, with the third
// it waits for the submitter's next system call, and the fourth takes a core.
class IoRing {
 public:
  // Runs for each completed bio, on the reaping thread: finishes a short or
  // retryable completion and ends the bio.
  using CompleteFn = std::function<void(Bio* bio, int result)>;

  static Result Create(int fd, unsigned entries, CompleteFn complete,
                       std::unique_ptr<IoRing>* ring);
  ~IoRing();

  // Queues and submits all `count` bios; reaps when the ring is full. Bios the
  // kernel does not take go to `complete` with -EAGAIN, and the ring takes no
  // more from then on. Returns the number of io_uring_enter calls it took.
  unsigned Submit(Bio* const* bios, size_t count);

  // Reaps, or sleeps while another thread reaps, until `done()` holds.
  void WaitUntil(const std::function<bool()>& done);
  // Completes what is ready without blocking.
  void Reap();

  // Bios submitted and not yet completed.
  unsigned in_flight() const {
    return in_flight_.load(std::memory_order_acquire);
  }
  // False once the kernel has refused a submission for good.
  bool usable() const { return !broken_.load(std::memory_order_relaxed); }

 private:
  IoRing(int fd, CompleteFn complete)
      : fd_(fd), complete_(std::move(complete)) {}
  // Fills the submission queue; the caller has made room.
  void Queue(Bio* const* bios, unsigned count);
  // Hands `count` queued bios to the kernel. Returns how many it took.
  unsigned Enter(unsigned count, unsigned* enters);
  // Dispatches one batch of what has completed; with `block` waits for at least
  // one completion. Returns their number. The caller is the reaper.
  unsigned ReapAsReaper(bool block);

  const int fd_;
  const CompleteFn complete_;
  const ForkGuard fork_guard_;
  io_uring ring_;
  bool made_ = false;
  // More in flight could overflow the completion queue.
  unsigned max_in_flight_ = 0;
  std::mutex submit_mutex_;  // guards the submission queue; rank 1
  std::mutex reap_mutex_;  // guards reaping_; rank 2; never held in the kernel
  ForkSafeCondition reaped_condition_;
  bool reaping_ = false;
  std::atomic<bool> broken_{false};
  std::atomic<unsigned> in_flight_{0};
};

// Rings for one device, made on demand up to kMaxRings: enough that threads
// rarely share one, few enough for RLIMIT_MEMLOCK. Thread-safe.
class RingPool {
 public:
  static constexpr unsigned kMaxRings = 16;
  static constexpr unsigned kEntries = 128;

  RingPool(int fd, IoRing::CompleteFn complete)
      : fd_(fd), complete_(std::move(complete)) {}

  // An idle ring, a new one, or the least loaded; null where there is none to
  // be had.
  IoRing* Pick();
  // Completes what is ready on every ring.
  void ReapAll();

 private:
  const int fd_;
  const IoRing::CompleteFn complete_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<IoRing>> rings_;  // guarded by mutex_
  bool exhausted_ = false;  // guarded by mutex_: no more rings to be had
};

}  // namespace diofs

#endif  // DIOFS_DIO_IO_RING_H_
