#ifndef DIOFS_ENV_STAGING_H_
#define DIOFS_ENV_STAGING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>

#include "dio/fork_guard.h"
#include "dio/result.h"
#include "env/staging_file.h"

namespace diofs {

// What has been promised to survive the process and is not on the device yet,
// in memory that does: a ring of records in the order in which things happened,
//
//   ring   |  ...  | op | data | data | op | data |  ...  |
//                  ^ head                         ^ tail
//
// A record counts from the store of the tail behind it on, so that a process
// may die between any two instructions and leaves whole records, without a gap.
// The next mount carries them out again; what has reached the device meanwhile
// does not mind.
//
// Whoever stages keeps a Hold, which names the first of his records that still
// matter; the head follows the oldest of all holds when room is needed. Where
// there is none, staging says so and the caller goes to the device: nobody ever
// waits here. Thread-safe.
class Staging {
 public:
  // What one user has staged and still needs. Not thread-safe; used under its
  // owner's lock. Without a staging (null) nothing is ever staged.
  class Hold {
   public:
    explicit Hold(Staging* staging);
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold();

    // False where there is no room, or no staging any more: the record is not
    // there.
    bool Stage(StagedType type, uint64_t number, uint64_t offset,
               std::string_view body);
    // Behind all that was staged so far; for Release.
    uint64_t mark() const { return end_; }
    // What was staged before `mark` is no longer needed.
    void Release(uint64_t mark);
    // Is something older than `position` still needed?
    bool OlderThan(uint64_t position) const;

   private:
    friend class Staging;
    Staging* const staging_;
    // Guarded by the staging's mutex.
    uint64_t from_ = UINT64_MAX;
    uint64_t end_ = 0;
  };

  explicit Staging(std::unique_ptr<StagingFile> file);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // From now on what is staged counts.
  void Start();
  // The journal ends, or is about to end, at `base`. In order.
  void NoteBase(const StagedBase& base);
  // More than half is in use: what is older than old() should reach the device.
  bool crowded() const { return crowded_.load(std::memory_order_relaxed); }
  uint64_t old() const;
  // Nothing more is staged. Is anything that `except` does not hold still
  // needed?
  bool Close(const Hold& except);
  // All that was staged is on the device.
  void SetDone();

  const StagingFile& file() const { return *file_; }

 private:
  bool Append(const StagedRecord& record, Hold* hold);
  void Release(Hold* hold, uint64_t mark);
  // mutex_ is held.
  void AdvanceHead();

  const std::unique_ptr<StagingFile> file_;
  const ForkGuard fork_guard_;
  std::atomic<bool> crowded_{false};
  mutable std::mutex mutex_;  // a leaf
  // Guarded by mutex_.
  uint64_t head_ = 0;
  uint64_t tail_ = 0;
  uint64_t look_at_ = 0;  // the tail at which to look for holds again
  uint64_t bases_ = 0;
  bool closed_ = false;
  std::set<const Hold*> holds_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_STAGING_H_
