#ifndef DIOFS_DIO_RING_POOL_H_
#define DIOFS_DIO_RING_POOL_H_

#include <memory>
#include <mutex>
#include <vector>

#include "dio/io_ring.h"

namespace diofs {

// The rings of one device, made on demand. Thread-safe.
class RingPool {
 public:
  // Shared ones: enough that threads rarely share, few enough for
  // RLIMIT_MEMLOCK.
  static constexpr unsigned kMaxRings = 16;
  // With those that have been retired.
  static constexpr unsigned kMaxRingsMade = 64;
  // Each is a descriptor and some 20 KiB; threads beyond share.
  static constexpr unsigned kMaxOwnRings = 64;
  static constexpr unsigned kEntries = 128;

  RingPool(int fd, IoRing::CompleteFn complete);
  // Nothing is in flight.
  ~RingPool();

  // Takes a shared ring that was made elsewhere; before any Pick.
  void Adopt(std::unique_ptr<IoRing> ring);
  // A shared ring: an idle one, a new one, or the least loaded; null where
  // there is none to be had.
  IoRing* Pick();
  // The calling thread's own ring, which ends with the thread; null where there
  // is none to be had.
  IoRing* Own();
  // False for another thread's own ring, which may be gone already.
  bool MayUse(const IoRing* ring);
  // Completes what is ready on every shared ring, and on the caller's own.
  void ReapAll();

 private:
  // Of all threads; each holds a weak reference and gives back its ring.
  struct OwnRings;
  class ThreadRings;

  Result Make(IoRing::Kind kind, const IoRing* sibling,
              std::unique_ptr<IoRing>* ring) const;
  // This thread's ring; null where it has none yet.
  IoRing* FindOwn() const;
  IoRing* MakeOwn();

  const int fd_;
  const IoRing::CompleteFn complete_;
  std::mutex mutex_;                            // a leaf
  std::vector<std::unique_ptr<IoRing>> rings_;  // guarded by mutex_
  bool exhausted_ = false;  // guarded by mutex_: no more rings to be had
  const std::shared_ptr<OwnRings> own_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_RING_POOL_H_
