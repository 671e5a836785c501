#ifndef DIOFS_DIO_IO_RING_H_
#define DIOFS_DIO_IO_RING_H_

#include <liburing.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "dio/bio.h"
#include "dio/fork_guard.h"
#include "dio/result.h"

namespace diofs {

// One io_uring, shared by any number of threads. Submission is serialised by a
// mutex; one thread at a time reaps, dispatches every completion to its bio by
// user_data, wakes those whose requests are done, and hands the role on when
// its own is. Owned by a RingPool. Thread-safe.
//
// It uses none of SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN and SQPOLL: with
// the first two a foreign waiter gets EEXIST or never returns, with the third
// it waits for the submitter's next system call, and the fourth takes a core.
class IoRing {
 public:
  // Runs for each completed bio, on the reaping thread: finishes a short or
  // retryable completion and ends the bio.
  using CompleteFn = std::function<void(Bio* bio, int result)>;

  // Registers the buffer arena, as much of it as RLIMIT_MEMLOCK allows, or
  // shares what `sibling` (may be null) has registered. note() tells what was
  // not to be had.
  static Result Create(int fd, unsigned entries, const IoRing* sibling,
                       std::unique_ptr<IoRing>* ring);
  ~IoRing();

  // Before the first submission.
  void set_complete(CompleteFn complete) { complete_ = std::move(complete); }
  // In one line, what is not as good as it could be; empty where nothing is.
  const std::string& note() const { return note_; }

  // Queues and submits all `count` bios; reaps when the ring is full. Bios the
  // kernel does not take go to `complete` with -EAGAIN, and the ring takes no
  // more from then on. Returns the number of io_uring_enter calls it took.
  unsigned Submit(Bio* const* bios, size_t count);
  // Discards a range of the block device and waits for it. EOPNOTSUPP or EINVAL
  // where kernel or device cannot do it this way.
  Result Discard(uint64_t offset, uint64_t bytes);

  // Reaps, or sleeps while another thread reaps, until `done()` holds, which a
  // completion on this ring brings about.
  void WaitUntil(const std::function<bool()>& done);
  // Completes what is ready without blocking.
  void Reap();

  // Bios submitted and not yet completed.
  unsigned in_flight() const {
    return in_flight_.load(std::memory_order_acquire);
  }
  // False once the kernel has refused a submission for good.
  bool usable() const { return !broken_.load(std::memory_order_relaxed); }
  // True where the bio lies in registered memory.
  bool IsFixed(const Bio& bio) const;

 private:
  // A thread that sleeps in WaitUntil; on its stack.
  struct Waiter;

  explicit IoRing(int fd) : fd_(fd) {}
  void RegisterFile();
  void RegisterBuffers(const IoRing* sibling);
  void Prepare(io_uring_sqe* sqe, Bio* bio) const;
  // Names the device in an entry that is otherwise prepared.
  void SetFile(io_uring_sqe* sqe) const;
  // Submits `count` entries of the queue, filled by `prepare(i, sqe)`, with the
  // submission lock held. Returns how many the kernel took.
  template <typename PrepareFn>
  unsigned SubmitQueued(unsigned count, unsigned* enters,
                        const PrepareFn& prepare);
  // Hands `count` queued entries to the kernel. Returns how many it took.
  unsigned Enter(unsigned count, unsigned* enters);
  // Dispatches one batch of what has completed; with `block` waits for at least
  // one completion. Returns their number. The caller is the reaper.
  unsigned ReapAsReaper(bool block);
  // Wakes the waiters who are done and, with `hand_on`, the first one in any
  // case: the caller's time as reaper has ended. reap_mutex_ is held.
  void WakeWaiters(bool hand_on);

  const int fd_;
  CompleteFn complete_;
  const ForkGuard fork_guard_;
  io_uring ring_;
  bool made_ = false;
  bool fixed_file_ = false;
  // The registered memory: [fixed_base_, fixed_base_ + fixed_bytes_).
  const char* fixed_base_ = nullptr;
  size_t fixed_bytes_ = 0;
  std::string note_;
  // More in flight could overflow the completion queue.
  unsigned max_in_flight_ = 0;
  std::mutex submit_mutex_;  // guards the submission queue; rank 1
  std::mutex reap_mutex_;    // guards reaping_, waiters_; rank 2; never held in
                             // the kernel
  bool reaping_ = false;
  Waiter* waiters_ = nullptr;
  std::atomic<bool> broken_{false};
  std::atomic<unsigned> in_flight_{0};
};

// Rings for one device, made on demand up to kMaxRings: enough that threads
// rarely share one, few enough for RLIMIT_MEMLOCK. Thread-safe.
class RingPool {
 public:
  static constexpr unsigned kMaxRings = 16;
  // With those that have been retired.
  static constexpr unsigned kMaxRingsMade = 64;
  static constexpr unsigned kEntries = 128;

  RingPool(int fd, IoRing::CompleteFn complete)
      : fd_(fd), complete_(std::move(complete)) {}

  // Takes a ring that was made elsewhere; before any Pick.
  void Adopt(std::unique_ptr<IoRing> ring);
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
