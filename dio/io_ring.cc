#include "dio/io_ring.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "dio/dio.h"

namespace diofs {
namespace {

// How often a submission the kernel has no room for is tried again.
constexpr unsigned kMaxSubmitRetries = 100;
constexpr unsigned kReapBatch = 64;

// NODROP: completions are never lost. SUBMIT_STABLE: the iovec may change once
// submitted. RW_CUR_POS came with IORING_OP_READ (5.6).
constexpr unsigned kNeededFeatures =
    IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_RW_CUR_POS;

void Prepare(io_uring_sqe* sqe, int fd, Bio* bio) {
  const iovec* const segments = bio->segments();
  const uint32_t count = bio->segment_count();
  const uint64_t offset = bio->device_offset();
  if (bio->direction() == IoDirection::kRead) {
    if (count == 1) {
      io_uring_prep_read(sqe, fd, segments->iov_base, bio->bytes(), offset);
    } else {
      io_uring_prep_readv(sqe, fd, segments, count, offset);
    }
  } else {
    if (count == 1) {
      io_uring_prep_write(sqe, fd, segments->iov_base, bio->bytes(), offset);
    } else {
      io_uring_prep_writev(sqe, fd, segments, count, offset);
    }
  }
  io_uring_sqe_set_data(sqe, bio);
}

}  // namespace

Result IoRing::Create(int fd, unsigned entries, CompleteFn complete,
                      std::unique_ptr<IoRing>* ring) {
  std::unique_ptr<IoRing> made(new IoRing(fd, std::move(complete)));
  io_uring_params params = {};
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
  *ring = std::move(made);
  return Result::Ok();
}

IoRing::~IoRing() {
  // In a forked child the queues are not mapped. Their descriptor is left to
  // exec or exit.
  if (made_ && !fork_guard_.Crossed()) io_uring_queue_exit(&ring_);
}

unsigned IoRing::Submit(Bio* const* bios, size_t count) {
  unsigned enters = 0;
  size_t next = 0;
  {
    const std::lock_guard<std::mutex> lock(submit_mutex_);
    while (next < count && usable()) {
      // All that was queued before has been submitted, so completions come and
      // make room.
      WaitUntil([this] { return in_flight() < max_in_flight_; });
      const auto room = static_cast<unsigned>(
          std::min<size_t>({count - next, max_in_flight_ - in_flight(),
                            io_uring_sq_space_left(&ring_)}));
      Queue(bios + next, room);
      // Before the kernel can complete one. The reaper's load of it orders what
      // this thread did with the bios before what is done with them there: the
      // road through the kernel is none that the memory model knows.
      in_flight_.fetch_add(room, std::memory_order_release);
      const unsigned taken = Enter(room, &enters);
      in_flight_.fetch_sub(room - taken, std::memory_order_release);
      next += taken;
    }
  }
  for (; next < count; ++next) complete_(bios[next], -EAGAIN);
  return enters;
}

void IoRing::Queue(Bio* const* bios, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    Prepare(io_uring_get_sqe(&ring_), fd_, bios[i]);
  }
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

void IoRing::WaitUntil(const std::function<bool()>& done) {
  std::unique_lock<std::mutex> lock(reap_mutex_);
  // A completion by another reaper is followed by its notification under the
  // mutex, so it cannot fall between the check and the sleep.
  while (!done()) {
    if (reaping_) {
      reaped_condition_.Wait(&lock);
      continue;
    }
    reaping_ = true;
    lock.unlock();
    ReapAsReaper(true);
    lock.lock();
    // Given up after every batch: this thread takes the role again unless it
    // is done, and those that are done wake up.
    reaping_ = false;
    reaped_condition_.NotifyAll();
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
    count = ReapAsReaper(false);
    reaped += count;
  } while (count == kReapBatch && reaped < max_in_flight_);
  lock.lock();
  reaping_ = false;
  reaped_condition_.NotifyAll();
}

unsigned IoRing::ReapAsReaper(bool block) {
  if (block) {
    io_uring_cqe* cqe = nullptr;
    const int result = io_uring_wait_cqe(&ring_, &cqe);
    // EINTR, or waiting does not work: the caller's loop comes back, and what
    // the kernel posts is seen in the queue without its help.
    if (result < 0 && result != -EINTR) sched_yield();
  }
  std::array<io_uring_cqe*, kReapBatch> cqes;
  std::array<std::pair<Bio*, int>, kReapBatch> completions;
  const unsigned count =
      io_uring_peek_batch_cqe(&ring_, cqes.data(), kReapBatch);
  for (unsigned i = 0; i < count; ++i) {
    completions[i] = {static_cast<Bio*>(io_uring_cqe_get_data(cqes[i])),
                      cqes[i]->res};
  }
  io_uring_cq_advance(&ring_, count);
  // Pairs with the release in Submit.
  in_flight_.load(std::memory_order_acquire);
  for (unsigned i = 0; i < count; ++i) {
    complete_(completions[i].first, completions[i].second);
  }
  in_flight_.fetch_sub(count, std::memory_order_release);
  return count;
}

IoRing* RingPool::Pick() {
  const std::lock_guard<std::mutex> lock(mutex_);
  IoRing* best = nullptr;
  for (const auto& ring : rings_) {
    if (!ring->usable()) continue;
    if (best == nullptr || ring->in_flight() < best->in_flight()) {
      best = ring.get();
    }
  }
  if (best != nullptr && best->in_flight() == 0) return best;
  if (!exhausted_ && rings_.size() < kMaxRings) {
    std::unique_ptr<IoRing> ring;
    if (IoRing::Create(fd_, kEntries, complete_, &ring).ok()) {
      rings_.push_back(std::move(ring));
      return rings_.back().get();
    }
    exhausted_ = true;
  }
  return best;
}

void RingPool::ReapAll() {
  // Rings are only ever added, up to kMaxRings; so their addresses stay.
  std::array<IoRing*, kMaxRings> rings;
  size_t count = 0;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& ring : rings_) rings[count++] = ring.get();
  }
  for (size_t i = 0; i < count; ++i) rings[i]->Reap();
}

}  // namespace diofs
