#ifndef DIOFS_DIO_DISCARDER_H_
#define DIOFS_DIO_DISCARDER_H_

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "dio/block_device.h"
#include "dio/fork_guard.h"

namespace diofs {

// Bytes of a device.
struct DeviceRange {
  uint64_t offset;
  uint64_t bytes;
};

// Discards in the background what has become free, on a thread of its own:
// neighbours merged, the largest range first, no faster than a device is to be
// bothered with. Owned by whoever gives out the device's blocks, who hands it
// ranges that nobody reads or writes any more and gets each one back, to give
// out again. Thread-safe.
//
// A discard is a hint: one that fails is over like any other, and a device that
// has none gets no more of them.
class Discarder {
 public:
  struct Options {
    // On average; 0: without a bound.
    uint64_t bytes_per_second = 256 << 20;
    // Smaller ranges wait so long, all together, for neighbours to join them.
    uint64_t gather_bytes = 1 << 20;
    uint64_t gather_ms = 1000;
    // A larger range goes to the device in pieces of this, so that nobody who
    // needs it back waits long.
    uint64_t piece_bytes = 16 << 20;
  };
  // A range is the owner's again. On the discarder's thread, no lock held.
  using DoneFn = std::function<void(const DeviceRange& range)>;

  Discarder(BlockDevice* device, const Options& options, DoneFn done);
  Discarder(const Discarder&) = delete;
  Discarder& operator=(const Discarder&) = delete;
  // Ends the discard that is going on; what is still waiting is dropped without
  // a call, for its owner goes away.
  ~Discarder();

  // Takes a range; returns at once.
  void Add(const DeviceRange& range);
  // Gives back what is still waiting, without a discard, and returns when no
  // discard is going on: for an owner who needs the room now.
  std::vector<DeviceRange> TakeBack();
  // Returns when nothing is waiting or going on. Does not wait for neighbours.
  void Drain();
  uint64_t pending_bytes() const;

 private:
  // What the thread shares with its callers; in a forked child, where the
  // thread does not live, nobody's.
  struct State {
    mutable std::mutex mutex;
    std::condition_variable changed;
    // Guarded by mutex.
    std::map<uint64_t, uint64_t> ranges;  // bytes, by offset
    uint64_t bytes = 0;                   // in ranges
    bool busy = false;
    int hurried = 0;  // callers in Drain
    // Small ranges have waited long enough from here on; set while there are
    // any.
    std::optional<std::chrono::steady_clock::time_point> deadline;
    bool stopping = false;
    std::thread thread;
  };
  using Lock = std::unique_lock<std::mutex>;

  void Run();
  // Waits for something to do, and takes it out of the ranges; false at the
  // end.
  bool TakePiece(Lock* lock, DeviceRange* piece);
  // Keeps to bytes_per_second after a piece of `bytes`.
  void Pause(Lock* lock, uint64_t bytes);

  BlockDevice* const device_;
  const Options options_;
  const DoneFn done_;
  const ForkGuard fork_guard_;
  std::unique_ptr<State> state_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_DISCARDER_H_
