#ifndef DIOFS_TESTS_QUEUE_DEVICE_H_
#define DIOFS_TESTS_QUEUE_DEVICE_H_

#include <sched.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "dio/block_device.h"
#include "dio/dio.h"
#include "tests/gauges.h"

namespace diofs {

// A device that moves nothing and holds every bio until the test completes it,
// in whatever order, on whatever thread. Thread-safe.
class QueueDevice final : public BlockDevice {
 public:
  explicit QueueDevice(const Geometry& geometry, size_t max_bios = kMaxBios)
      : BlockDevice("queue", geometry, max_bios) {}
  ~QueueDevice() override { ExpectNothingHeld(this); }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    while (!dio->done()) sched_yield();
  }
  // The rest of what the test completed short.
  int64_t DoMove(Bio* bio) override {
    return bio->limit_bytes - bio->done_bytes;
  }
  const char* backend_name() const override { return "queue"; }

  // Bios per Submit, so far.
  std::vector<size_t> batches() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return batches_;
  }
  size_t queued() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return bios_.size();
  }
  // Completes the bio at `index`: all of it, or with -errno.
  void End(size_t index, int64_t error = 0) {
    Bio* const bio = Take(index);
    Complete(bio, error == 0 ? bio->bytes() : error);
  }
  // Takes the bio at `index` out of the queue; the caller completes it.
  Bio* Take(size_t index) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Bio* const bio = bios_[index];
    bios_.erase(bios_.begin() + static_cast<std::ptrdiff_t>(index));
    return bio;
  }
  // As Take(0), if there is one.
  std::optional<Bio*> TakeAny() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bios_.empty()) return std::nullopt;
    Bio* const bio = bios_.front();
    bios_.pop_front();
    return bio;
  }
  void CompleteAll() {
    while (const std::optional<Bio*> bio = TakeAny()) {
      Complete(*bio, (*bio)->bytes());
    }
  }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    batches_.push_back(count);
    bios_.insert(bios_.end(), bios, bios + count);
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  mutable std::mutex mutex_;
  std::deque<Bio*> bios_;
  std::vector<size_t> batches_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_QUEUE_DEVICE_H_
