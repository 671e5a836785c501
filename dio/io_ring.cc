#include "dio/io_ring.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "dio/buffer_pool.h"

namespace diofs {
namespace {

// How often a submission the kernel has no room for is tried again.
constexpr unsigned kMaxSubmitRetries = 100;
constexpr unsigned kReapBatch = 64;

// NODROP: completions are never lost. SUBMIT_STABLE: the iovec may change once
// submitted. RW_CUR_POS came with IORING_OP_READ (5.6).
constexpr unsigned kNeededFeatures =
    IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS;

// Linux 6.1. TASKRUN_FLAG tells a look at the queue that there is something to
// fetch from the kernel.
constexpr unsigned kOwnRingFlags =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;

// Newer than liburing 2.3's header; from linux/io_uring.h and linux/blkdev.h.
// IORING_REGISTER_CLONE_BUFFERS, Linux 6.12.
constexpr unsigned kRegisterCloneBuffers = 30;
struct CloneBuffers {
  uint32_t source_fd;
  uint32_t flags;
  uint32_t source_offset;
  uint32_t target_offset;
  uint32_t count;  // 0: all
  uint32_t padding[3];
};
static_assert(sizeof(CloneBuffers) == 32);
// BLOCK_URING_CMD_DISCARD, Linux 6.12: _IO(0x12, 0).
constexpr uint32_t kBlockUringCmdDiscard = 0x12 << 8;

// user_data of what is no bio: a RingCall with the lowest bit set.
constexpr uintptr_t kCallTag = 1;
struct RingCall {
  int result = 0;
  std::atomic<bool> done{false};
};

std::string MebiBytes(size_t bytes) {
  return std::to_string(bytes >> 20) + " MiB";
}

}  // namespace

struct IoRing::Waiter {
  const std::function<bool()>* done;
  Waiter* next = nullptr;
  bool woken = false;
  std::condition_variable wake = {};
};

Result IoRing::Create(int fd, unsigned entries, Kind kind,
                      const IoRing* sibling, std::unique_ptr<IoRing>* ring) {
  std::unique_ptr<IoRing> made(new IoRing(fd, kind));
  io_uring_params params = {};
  if (kind == Kind::kOwn) params.flags = kOwnRingFlags;
  int error = io_uring_queue_init_params(entries, &made->ring_, &params);
  if (error < 0) return Result::Error(-error, "io_uring_setup");
  made->made_ = true;
  if ((params.features & kNeededFeatures) != kNeededFeatures) {
    return Result::Error(ENOSYS, "io_uring of a kernel before 5.6");
  }
  // A forked child must not be able to touch the queues.
  error = io_uring_ring_dontfork(&made->ring_);
  if (error < 0) return Result::Error(-error, "io_uring_ring_dontfork");
  made->max_in_flight_ = params.cq_entries;
  // Only its owner could end that again, and the owner may live longer than the
  // device.
  if (kind == Kind::kShared) made->RegisterFile();
  made->RegisterBuffers(sibling);
  *ring = std::move(made);
  return Result::Ok();
}

IoRing::~IoRing() {
  // In a forked child the queues are not mapped. Their descriptor is left to
  // exec or exit.
  if (!made_ || fork_guard_.Crossed()) return;
  // Now, not when the kernel gets round to it: the device's claim is to end
  // when its descriptor is closed.
  if (fixed_file_) (void)io_uring_unregister_files(&ring_);
  io_uring_queue_exit(&ring_);
}

// Saves the kernel looking up the file with each request.
void IoRing::RegisterFile() {
  fixed_file_ = io_uring_register_files(&ring_, &fd_, 1) == 0;
}

void IoRing::RegisterBuffers(const IoRing* sibling) {
  const BufferArena& arena = BufferPool::arena();
  if (sibling != nullptr && sibling->fixed_bytes_ > 0) {
    // Pinned and charged once, however many rings there are.
    CloneBuffers clone = {};
    clone.source_fd = static_cast<uint32_t>(sibling->ring_.ring_fd);
    if (syscall(__NR_io_uring_register, ring_.ring_fd, kRegisterCloneBuffers,
                &clone, 1) == 0) {
      fixed_base_ = sibling->fixed_base_;
      fixed_bytes_ = sibling->fixed_bytes_;
      return;
    }
  }
  // There are many of them, and a thread's first read is to be no slow one.
  if (kind_ == Kind::kOwn) return;
  int error = 0;
  for (size_t bytes = arena.bytes(); bytes >= BufferArena::kMaxBytes;
       bytes /= 2) {
    const iovec region = {arena.base(), bytes};
    error = -io_uring_register_buffers(&ring_, &region, 1);
    if (error == 0) {
      fixed_base_ = arena.base();
      fixed_bytes_ = bytes;
      break;
    }
  }
  if (fixed_bytes_ == arena.bytes()) return;
  note_ = "io_uring has " +
          (fixed_bytes_ > 0 ? MebiBytes(fixed_bytes_) + " of " : "none of ") +
          MebiBytes(arena.bytes()) + " of buffers registered" +
          (error == 0 ? "" : " (" + Result::Error(error).ToString() + ")") +
          "; raise RLIMIT_MEMLOCK";
}

bool IoRing::IsFixed(const Bio& bio) const {
  if (bio.segment_count() != 1) return false;
  const auto distance = reinterpret_cast<uintptr_t>(bio.segments()->iov_base) -
                        reinterpret_cast<uintptr_t>(fixed_base_);
  return distance < fixed_bytes_ && bio.bytes() <= fixed_bytes_ - distance;
}

void IoRing::Prepare(io_uring_sqe* sqe, Bio* bio) const {
  // [write][how the memory is named]
  constexpr io_uring_op kOps[2][3] = {
      {IORING_OP_READ_FIXED, IORING_OP_READ, IORING_OP_READV},
      {IORING_OP_WRITE_FIXED, IORING_OP_WRITE, IORING_OP_WRITEV}};
  const bool write = bio->direction() == IoDirection::kWrite;
  const iovec* const segments = bio->segments();
  const bool one = bio->segment_count() == 1;
  const int op = kOps[write][IsFixed(*bio) ? 0 : one ? 1 : 2];
  if (one) {
    io_uring_prep_rw(op, sqe, -1, segments->iov_base, bio->bytes(),
                     bio->device_offset());
  } else {
    io_uring_prep_rw(op, sqe, -1, segments, bio->segment_count(),
                     bio->device_offset());
  }
  if (write && bio->fua()) sqe->rw_flags = RWF_DSYNC;
  sqe->ioprio = bio->ioprio();
  SetFile(sqe);
  io_uring_sqe_set_data(sqe, bio);
}

void IoRing::SetFile(io_uring_sqe* sqe) const {
  sqe->fd = fixed_file_ ? 0 : fd_;
  if (fixed_file_) sqe->flags |= IOSQE_FIXED_FILE;
}

template <typename PrepareFn>
unsigned IoRing::SubmitQueued(unsigned count, unsigned* enters,
                              const PrepareFn& prepare) {
  // All that was queued before has been submitted, so completions come and make
  // room.
  if (in_flight() >= max_in_flight_) {
    WaitUntil([this] { return in_flight() < max_in_flight_; });
  }
  count = std::min(
      {count, max_in_flight_ - in_flight(), io_uring_sq_space_left(&ring_)});
  for (unsigned i = 0; i < count; ++i) prepare(i, io_uring_get_sqe(&ring_));
  // Before the kernel can complete one. The reaper's load of it orders what
  // this thread did with the bios before what is done with them there: the road
  // through the kernel is none that the memory model knows.
  in_flight_.fetch_add(count, std::memory_order_release);
  const unsigned taken = Enter(count, enters);
  in_flight_.fetch_sub(count - taken, std::memory_order_release);
  return taken;
}

unsigned IoRing::Submit(Bio* const* bios, size_t count) {
  unsigned enters = 0;
  size_t next = 0;
  {
    const std::lock_guard<std::mutex> lock(submit_mutex_);
    while (next < count && usable()) {
      next += SubmitQueued(
          static_cast<unsigned>(count - next), &enters,
          [&](unsigned i, io_uring_sqe* sqe) { Prepare(sqe, bios[next + i]); });
    }
  }
  for (; next < count; ++next) complete_(bios[next], -EAGAIN);
  return enters;
}

Result IoRing::Discard(uint64_t offset, uint64_t bytes) {
  RingCall call;
  {
    const std::lock_guard<std::mutex> lock(submit_mutex_);
    unsigned enters = 0;
    const auto prepare = [&](unsigned, io_uring_sqe* sqe) {
      io_uring_prep_rw(IORING_OP_URING_CMD, sqe, -1, nullptr, 0, 0);
      SetFile(sqe);
      sqe->cmd_op = kBlockUringCmdDiscard;
      sqe->addr = offset;
      sqe->addr3 = bytes;
      sqe->user_data = reinterpret_cast<uintptr_t>(&call) | kCallTag;
    };
    if (!usable() || SubmitQueued(1, &enters, prepare) == 0) {
      return Result::Error(EOPNOTSUPP);
    }
  }
  WaitUntil([&] { return call.done.load(std::memory_order_acquire); });
  return call.result < 0 ? Result::Error(-call.result) : Result::Ok();
}

unsigned IoRing::Enter(unsigned count, unsigned* enters) {
  unsigned taken = 0;
  unsigned retries = 0;
  while (taken < count) {
    const int result = io_uring_submit(&ring_);
    if (result > 0) {
      taken += static_cast<unsigned>(result);
      ++*enters;
      continue;
    }
    if (result == -EINTR) continue;
    const bool busy = result == 0 || result == -EAGAIN || result == -EBUSY;
    if (!busy || ++retries > kMaxSubmitRetries) {
      // What is still queued must never reach the kernel: its bios end
      // elsewhere. Nobody submits to this ring again.
      broken_.store(true, std::memory_order_relaxed);
      break;
    }
    Reap();
    sched_yield();
  }
  return taken;
}

void IoRing::WaitUntil(const std::function<bool()>& done, unsigned wait_nr) {
  std::unique_lock<std::mutex> lock(reap_mutex_);
  while (!done()) {
    if (reaping_) {
      // A completion is followed by a look at the waiters under the mutex, so
      // it cannot fall between the check and the sleep.
      Waiter self{&done};
      Waiter** last = &waiters_;
      while (*last != nullptr) last = &(*last)->next;
      *last = &self;
      self.wake.wait(lock, [&] { return self.woken; });
      continue;
    }
    reaping_ = true;
    while (!done()) {
      // A shared ring's next completion may be what another thread waits for.
      const unsigned wanted =
          kind_ == Kind::kShared ? 1 : std::min(wait_nr, in_flight());
      lock.unlock();
      const unsigned reaped = ReapAsReaper(std::max(wanted, 1U));
      wait_nr -= std::min(wait_nr, reaped);
      lock.lock();
      WakeWaiters(false);
    }
    reaping_ = false;
  }
  // Also where the role was offered to this thread and it had no use for it.
  if (!reaping_) WakeWaiters(true);
}

void IoRing::WakeWaiters(bool hand_on) {
  for (Waiter** next = &waiters_; *next != nullptr;) {
    Waiter* const waiter = *next;
    const bool heir = hand_on && std::exchange(hand_on, false);
    if (!heir && !(*waiter->done)()) {
      next = &waiter->next;
      continue;
    }
    *next = waiter->next;
    waiter->woken = true;
    waiter->wake.notify_one();
  }
}

void IoRing::Reap() {
  std::unique_lock<std::mutex> lock(reap_mutex_);
  if (reaping_) return;
  reaping_ = true;
  lock.unlock();
  // Not for ever: other threads may submit as fast as this one reaps.
  unsigned reaped = 0;
  unsigned count = 0;
  do {
    count = ReapAsReaper(0);
    reaped += count;
  } while (count == kReapBatch && reaped < max_in_flight_);
  lock.lock();
  reaping_ = false;
  WakeWaiters(true);
}

unsigned IoRing::ReapAsReaper(unsigned wait_nr) {
  if (wait_nr > 0) {
    io_uring_cqe* cqe = nullptr;
    const int result = io_uring_wait_cqe_nr(&ring_, &cqe, wait_nr);
    // EINTR, or waiting does not work: the caller's loop comes back, and what
    // the kernel posts to a shared ring is seen without its help.
    if (result < 0 && result != -EINTR) sched_yield();
  }
  std::array<io_uring_cqe*, kReapBatch> cqes;
  std::array<std::pair<uint64_t, int>, kReapBatch> completions;
  const unsigned count =
      io_uring_peek_batch_cqe(&ring_, cqes.data(), kReapBatch);
  for (unsigned i = 0; i < count; ++i) {
    completions[i] = {cqes[i]->user_data, cqes[i]->res};
  }
  io_uring_cq_advance(&ring_, count);
  // Pairs with the release in SubmitQueued.
  in_flight_.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    const auto [user_data, result] = completions[i];
    if ((user_data & kCallTag) == 0) {
      complete_(reinterpret_cast<Bio*>(user_data), result);
      continue;
    }
    auto* const call = reinterpret_cast<RingCall*>(user_data - kCallTag);
    call->result = result;
    call->done.store(true, std::memory_order_release);
  }
  in_flight_.fetch_sub(count, std::memory_order_release);
  return count;
}

}  // namespace diofs
