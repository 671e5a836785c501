#include "dio/flush_epoch.h"

#include "dio/out_of_memory.h"

namespace diofs {

Result FlushEpoch::Flush(const std::function<Result()>& flush) {
  std::unique_lock<std::mutex> lock(mutex_);
  // Clean: whatever the caller wrote is covered by the last flush that started,
  // which may still be running. Dirty: only by the next one.
  const uint64_t epoch =
      dirty_.load(std::memory_order_acquire) ? started_ + 1 : started_;
  while (error_.ok() && finished_ < epoch) {
    if (flushing_) {
      finished_condition_.Wait(&lock);
      continue;
    }
    flushing_ = true;
    ++started_;
    // Before the flush: a write that completes while it runs needs another.
    dirty_.exchange(false, std::memory_order_acq_rel);
    lock.unlock();
    Result result = CatchBadAlloc(flush);
    lock.lock();
    flushing_ = false;
    finished_ = started_;
    if (!result.ok()) error_ = std::move(result);
    finished_condition_.NotifyAll();
  }
  return error_;
}

}  // namespace diofs
