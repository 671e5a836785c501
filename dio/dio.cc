#include "dio/dio.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <string>
#include <utility>

#include "dio/align.h"
#include "dio/block_device.h"
#include "dio/dio_submit.h"
#include "dio/final_status.h"
#include "dio/out_of_memory.h"
#include "dio/plug.h"

namespace diofs {
namespace {

// How the block layer tells that a part of the medium cannot be read: EIO of
// any device, ENODATA of a disk's bad sector, EILSEQ of a checksum that it
// keeps.
bool IsBadBlock(int64_t result) {
  return result == -EIO || result == -ENODATA || result == -EILSEQ;
}

}  // namespace

// The memory belongs to the device until the last bio has ended, and the
// observer waits for its call, whether or not anybody asks for the result.
Dio::~Dio() {
  if (submitted_ && !finished_) (void)Wait();
}

Dio::Submission Dio::Submit(const DioRequest& request, Plug* plug) {
  submitted_ = true;
  direction_ = request.direction;
  async_ = request.async;
  waiter_ = request.waiter;
  offset_ = request.offset;
  file_size_ = request.file_size;
  block_bytes_ = request.block_bytes;
  observer_ = request.observer;
  if (device_->stale()) {
    submit_error_ = ESTALE;
    return Submission::kDone;
  }
  refs_.store(1, std::memory_order_relaxed);
  DioSubmit(this, request, plug).Walk();
  const bool whole = submit_error_ == 0 && !fallback_;
  if (Unref()) return Submission::kDone;
  if (!whole) {
    // Half a request is nobody's to wait for later.
    plug->Finish();
    device_->Wait(this, bios_in_flight());
    return Submission::kDone;
  }
  queued_ = true;
  return Submission::kQueued;
}

Result Dio::Wait(uint32_t wait_nr) {
  if (finished_ || !submitted_) return result_;
  if (device_->stale()) {
    return Result::Error(ESTALE, "opened before a fork").With(device_->name());
  }
  if (!done()) device_->Wait(this, wait_nr);
  Finish();
  return result_;
}

void Dio::BioDone(Bio* bio, int64_t result) {
  const uint32_t expected = bio->bytes();
  // A block of it is bad, or the request was too much for the device: found out
  // on the thread that waits, for that takes time. Bios that wait for that must
  // not be those which others wait for.
  if (direction_ == IoDirection::kRead && IsBadBlock(result) &&
      device_->bios_in_use() <= device_->max_bios() / 2 &&
      !bio->pool_->IsReserve(bio)) {
    NoteError(&read_error_, static_cast<int>(-result));
    bio->next_ = failed_reads_.load(std::memory_order_relaxed);
    while (!failed_reads_.compare_exchange_weak(bio->next_, bio,
                                                std::memory_order_relaxed)) {
    }
    (void)Unref();
    return;
  }
  if (result == -EFAULT) {
    NoteError(&source_error_, EFAULT);
    const uint64_t at = bio->file_offset();
    uint64_t first = source_fault_at_.load(std::memory_order_relaxed);
    while (at < first && !source_fault_at_.compare_exchange_weak(
                             first, at, std::memory_order_relaxed)) {
    }
  } else if (result < 0) {
    NoteError(&io_error_, static_cast<int>(-result));
  } else if (result != expected) {
    // Backends finish what is short; one that does not has lost bytes.
    NoteError(&io_error_, EIO);
  }
  if (bio->fua() && !bio->written_through) {
    not_through_.store(true, std::memory_order_relaxed);
  }
  // Back to the pool first: once the last reference is gone, the owner may go
  // on to check that nothing is in use.
  bio->pool_->Put(bio);
  (void)Unref();
}

void Dio::NoteError(std::atomic<int>* kind, int error) {
  int none = 0;
  kind->compare_exchange_strong(none, error, std::memory_order_relaxed);
}

// Releases what this reference's holder did (its error among it) to whoever
// sees 0.
bool Dio::Unref() { return refs_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

void Dio::MakeRoomForReservation() {
  const size_t room = reservations_.size();
  if (reservation_count_ < room) return;
  if (reservation_count_ == room) {
    more_reservations_.assign(reservations_.begin(), reservations_.end());
  }
  more_reservations_.resize(reservation_count_ + 1);
}

void Dio::AddReservation(uint64_t reservation) {
  device_->stats().reservations.fetch_add(1, std::memory_order_relaxed);
  uint64_t* const list = more_reservations_.empty() ? reservations_.data()
                                                    : more_reservations_.data();
  list[reservation_count_++] = reservation;
}

void Dio::Finish() {
  finished_ = true;
  ReadAroundErrors();
  if ((needs_flush_ || not_through_.load(std::memory_order_relaxed)) &&
      submit_error_ == 0 && io_error_.load(std::memory_order_relaxed) == 0) {
    const Result flushed = CatchBadAlloc([this] { return device_->Flush(); });
    if (!flushed.ok()) NoteError(&io_error_, flushed.error());
  }
  result_ = Conclude();
  if (reservation_count_ > 0) {
    device_->stats().reservations.fetch_sub(
        static_cast<int64_t>(reservation_count_), std::memory_order_relaxed);
  }
  if (queued_ && observer_ != nullptr) observer_->Complete(this, result_);
}

// Reads the bios that ended with EIO once more, in smaller pieces: what is
// readable is read, and of what is not, it is known where it lies.
void Dio::ReadAroundErrors() {
  Bio* bio = failed_reads_.load(std::memory_order_relaxed);
  bool all_found = true;
  while (bio != nullptr) {
    Bio* const next = bio->next_;
    try {
      device_->ReadAround(bio, &bad_);
    } catch (const std::bad_alloc&) {
      all_found = false;
    }
    bio->pool_->Put(bio);
    bio = next;
  }
  if (all_found && bad_.empty()) return;
  // Where more went wrong, these are not all that is missing.
  if (!all_found || submit_error_ != 0 ||
      source_error_.load(std::memory_order_relaxed) != 0 ||
      io_error_.load(std::memory_order_relaxed) != 0) {
    bad_.clear();
  }
  NoteError(&io_error_, read_error_.load(std::memory_order_relaxed));
}

Result Dio::Conclude() {
  DioOutcome outcome;
  outcome.direction = direction_;
  outcome.offset = offset_;
  outcome.file_size = file_size_;
  outcome.submit_error = submit_error_;
  outcome.source_error = source_error_.load(std::memory_order_relaxed);
  outcome.io_error = io_error_.load(std::memory_order_relaxed);
  outcome.transferred = bytes_;
  if (outcome.source_error != 0) {
    // Only what lies before the memory that was not there. A bio may start
    // before the request, with the zeros in front of it.
    uint64_t at = source_fault_at_.load(std::memory_order_relaxed);
    // The rest of a new block has not been zeroed: none of it counts.
    if (direction_ == IoDirection::kWrite) at = AlignDown(at, block_bytes_);
    outcome.transferred = at > offset_ ? std::min(bytes_, at - offset_) : 0;
  }
  const int64_t status = FinalStatus(outcome);
  DioEnd end = {};
  end.direction = direction_;
  end.offset = offset_;
  end.bytes = status < 0 ? 0 : static_cast<uint64_t>(status);
  end.error = status < 0 ? static_cast<int>(-status) : 0;
  end.reservations = more_reservations_.empty() ? reservations_.data()
                                                : more_reservations_.data();
  end.reservation_count = reservation_count_;
  if (observer_ != nullptr) return observer_->EndIo(end);
  if (end.error == 0) return Result::Bytes(end.bytes);
  return Result::Error(end.error, DescribeError());
}

std::string Dio::DescribeError() const {
  try {
    if (bad_.empty()) return device_->name();
    return device_->name() + ": unreadable block at " +
           std::to_string(bad_.front().device_offset);
  } catch (const std::bad_alloc&) {
    return std::string();
  }
}

}  // namespace diofs
