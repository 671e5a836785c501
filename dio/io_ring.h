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

#include "dio/bio.h"
#include "dio/fork_guard.h"
#include "dio/result.h"

namespace diofs {

// One io_uring. Owned by a RingPool. Thread-safe.
//
// A shared ring is any thread's. Submission is serialised by a mutex; one
// thread at a time reaps, dispatches every completion to its bio by user_data,
// wakes those whose requests are done, and hands the role on when its own is.
// It uses none of SINGLE_ISSUER, DEFER_TASKRUN, COOP_TASKRUN and SQPOLL: with
// the first two a foreign waiter gets EEXIST or never returns, with the third
// it waits for the submitter's next system call, and the fourth takes a core.
//
// An own ring is used by the thread that made it and by no other, which may
// only destroy it when nothing is in flight. So it has the first three: a
// completion interrupts nobody, and one wake-up serves for many.
class IoRing {
 public:
  enum class Kind : uint8_t { kShared, kOwn };

  // Runs for each completed bio, on the reaping thread: finishes a short or
  // retryable completion and ends the bio.
  using CompleteFn = std::function<void(Bio* bio, int result)>;

  // Shares what `sibling` (may be null) has registered, or registers the buffer
  // arena, as much of it as RLIMIT_MEMLOCK allows; an own ring does without.
  // note() tells what was not to be had.
  static Result Create(int fd, unsigned entries, Kind kind,
                       const IoRing* sibling, std::unique_ptr<IoRing>* ring);
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
  // completion on this ring brings about. On an own ring it sleeps in the
  // kernel until `wait_nr` of them are there, or all that are in flight.
  void WaitUntil(const std::function<bool()>& done, unsigned wait_nr = 1);
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

  IoRing(int fd, Kind kind) : fd_(fd), kind_(kind) {}
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
  // Waits until `wait_nr` completions are there, and dispatches one batch of
  // what is. Returns their number. The caller is the reaper.
  unsigned ReapAsReaper(unsigned wait_nr);
  // Wakes the waiters who are done and, with `hand_on`, the first one in any
  // case: the caller's time as reaper has ended. reap_mutex_ is held.
  void WakeWaiters(bool hand_on);

  const int fd_;
  const Kind kind_;
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

}  // namespace diofs

#endif  // DIOFS_DIO_IO_RING_H_
