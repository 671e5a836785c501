#ifndef DIOFS_DIO_FLUSH_EPOCH_H_
#define DIOFS_DIO_FLUSH_EPOCH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "dio/fork_guard.h"
#include "dio/result.h"

namespace diofs {

// Concurrent syncs share one device flush that started after each caller's
// writes completed. Owned by a BlockDevice. Thread-safe.
//
//   caller A  ──write──┐Flush()          ┌ returns with epoch 1
//                      └ epoch 1 ════════┘
//   caller B      ──write──┐Flush()  waits │ epoch 2 ════════┐ returns
//   caller C         ──write──┐Flush()  waits ───────────────┘ shares epoch 2
class FlushEpoch {
 public:
  // A write has completed: the next flush has something to do.
  void MarkDirty() { dirty_.store(true, std::memory_order_release); }

  // What another process wrote before is not known here: who relies on it being
  // durable writes something first, as a mount does.
  //
  // Returns when a flush that started after this call has finished, or at once
  // when nothing was written since the last one. `flush` runs on the calling
  // thread or on a concurrent caller's. The first failure is returned to its
  // callers and to every later one.
  Result Flush(const std::function<Result()>& flush);

 private:
  std::atomic<bool> dirty_{false};
  std::mutex mutex_;
  ForkSafeCondition finished_condition_;
  // Guarded by mutex_, never held while flushing. Epochs count from 1.
  uint64_t started_ = 0;
  uint64_t finished_ = 0;
  bool flushing_ = false;
  Result error_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_FLUSH_EPOCH_H_
