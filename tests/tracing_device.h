#ifndef DIOFS_TESTS_TRACING_DEVICE_H_
#define DIOFS_TESTS_TRACING_DEVICE_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "dio/block_device.h"
#include "dio/dio.h"
#include "tests/gauges.h"

namespace diofs {

// One bio as it was submitted.
struct TracedBio {
  IoDirection direction;
  IoClass io_class;
  uint16_t ioprio;
  bool fua;
  uint64_t file_offset;
  uint64_t device_offset;
  uint32_t bytes;
  uint32_t segments;
  size_t batch;  // from 0: the Submit it came with
};

// Stands in front of any device, writes down what passes, and makes chosen bios
// and flushes fail, or bios come back short. Owned by the test; thread-safe.
class TracingDevice final : public BlockDevice {
 public:
  explicit TracingDevice(std::unique_ptr<BlockDevice> inner,
                         size_t max_bios = kMaxBios)
      : BlockDevice("traced", inner->geometry(), max_bios),
        inner_(std::move(inner)) {}
  ~TracingDevice() override { ExpectNothingHeld(this); }

  BlockDevice* inner() { return inner_.get(); }

  // The `nth` bio from now (1: the next), over both directions, ends with
  // -error and is not carried out.
  void FailNth(uint64_t nth, int error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    plans_[trace_.size() + nth - 1] = -error;
  }
  // The `nth` bio from now moves only its first `bytes` (>= 1) at first.
  void ShortenNth(uint64_t nth, uint32_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    plans_[trace_.size() + nth - 1] = bytes;
  }
  // Reads of these bytes end with -error and move nothing, as those of a disk's
  // bad sector; also when they are tried again.
  void SetUnreadable(uint64_t offset, uint64_t bytes, int error = ENODATA) {
    const std::lock_guard<std::mutex> lock(mutex_);
    unreadable_[offset] = {bytes, error};
  }
  // What is moved by hand, as the rest of a short bio is, ends with -error from
  // now on; 0: no longer.
  void FailMoves(int error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    move_error_ = error;
  }
  // The `nth` flush from now fails with `error` and is not passed on.
  void FailFlush(uint64_t nth, int error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    flush_plans_[flushes_ + nth] = error;
  }
  // Runs when a flush has been carried out, or has failed, before anybody knows
  // of it. Set while nobody uses the device.
  std::function<void()> after_flush;

  // All bios so far, in the order of submission.
  std::vector<TracedBio> trace() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return trace_;
  }
  size_t batches() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }
  void ClearTrace() {
    const std::lock_guard<std::mutex> lock(mutex_);
    trace_.clear();
    plans_.clear();
    batches_ = 0;
  }

  void Wait(Dio* dio, uint32_t wait_nr) override { inner_->Wait(dio, wait_nr); }
  void Poll() override { inner_->Poll(); }
  int64_t DoMove(Bio* bio) override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (move_error_ != 0) return -move_error_;
      const int error = ReadError(*bio);
      if (error != 0) return -error;
    }
    return inner_->MoveNow(bio);
  }
  bool CanFua() const override { return inner_->CanFua(); }
  const char* backend_name() const override { return inner_->backend_name(); }

 private:
  // What is planned for a bio: 0 nothing, < 0 an error, > 0 bytes at first.
  int64_t Note(const Bio& bio) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto plan = plans_.find(trace_.size());
    trace_.push_back({bio.direction(), bio.io_class(), bio.ioprio(), bio.fua(),
                      bio.file_offset(), bio.device_offset(), bio.bytes(),
                      bio.segment_count(), batches_});
    return plan == plans_.end() ? -ReadError(bio) : plan->second;
  }

  // Of what is left to be read of `bio`; 0: it can be read. mutex_ is held.
  int ReadError(const Bio& bio) const {
    if (bio.direction() == IoDirection::kWrite) return 0;
    const uint64_t begin = bio.device_offset() + bio.done_bytes;
    const uint64_t end = bio.device_offset() + bio.limit_bytes;
    for (const auto& [offset, bad] : unreadable_) {
      if (offset < end && begin < offset + bad.bytes) return bad.error;
    }
    return 0;
  }

  void DoSubmit(Bio* const* bios, size_t count) override {
    std::vector<int64_t> plans(count);
    for (size_t i = 0; i < count; ++i) plans[i] = Note(*bios[i]);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++batches_;
    }
    // The caller's array is its own again once the last bio has ended.
    const std::vector<Bio*> copy(bios, bios + count);
    size_t first = 0;
    for (size_t i = 0; i < count; ++i) {
      if (plans[i] == 0) continue;
      inner_->Submit(copy.data() + first, i - first);
      first = i + 1;
      Complete(copy[i], plans[i] < 0 ? plans[i] : MoveFirst(copy[i], plans[i]));
    }
    inner_->Submit(copy.data() + first, count - first);
  }

  int64_t MoveFirst(Bio* bio, int64_t bytes) {
    const uint32_t limit = bio->limit_bytes;
    // Direct I/O moves whole blocks; the report says less.
    const uint32_t block = geometry().logical_block_bytes;
    const auto whole = static_cast<uint32_t>((bytes + block - 1) / block);
    bio->limit_bytes = std::min(whole * block, limit);
    const int64_t moved = inner_->MoveNow(bio);
    bio->limit_bytes = limit;
    return moved < 0 ? moved : std::min<int64_t>(moved, bytes);
  }

  Result DoFlush() override {
    const int error = NextFlushError();
    Result result = error == 0 ? inner_->Flush() : Result::Error(error);
    if (after_flush) after_flush();
    return result;
  }
  int NextFlushError() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto plan = flush_plans_.find(++flushes_);
    return plan == flush_plans_.end() ? 0 : plan->second;
  }
  Result DoDiscard(uint64_t offset, uint64_t bytes) override {
    return inner_->Discard(offset, bytes);
  }

  struct Unreadable {
    uint64_t bytes;
    int error;
  };

  const CheckedDevice inner_;
  mutable std::mutex mutex_;  // guards all below
  std::vector<TracedBio> trace_;
  std::map<uint64_t, int64_t> plans_;          // by index in trace_
  std::map<uint64_t, Unreadable> unreadable_;  // by offset
  std::map<uint64_t, int> flush_plans_;        // by number, from 1
  uint64_t flushes_ = 0;
  int move_error_ = 0;
  size_t batches_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_TRACING_DEVICE_H_
