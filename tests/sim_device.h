#ifndef DIOFS_TESTS_SIM_DEVICE_H_
#define DIOFS_TESTS_SIM_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "dio/block_device.h"

namespace diofs {

// What a test can make fail, and what SimDevice writes down.
enum class SimOp : uint8_t { kRead, kWrite, kFlush, kDiscard };

// One request as the device saw it.
struct SimEvent {
  SimOp op;
  uint64_t sequence;  // from 1, over all operations of its list
  uint64_t offset;    // in bytes; 0 for a flush
  uint64_t bytes;
  uint32_t segments;
  IoClass io_class;
  bool fua;
  uint16_t ioprio;
};

// How a SimDevice carries out what it is given. Chances are in 1/1000.
struct SimBehavior {
  // Bios stay pending until somebody waits or polls; otherwise they complete
  // inside Submit.
  bool delayed = false;
  // Of what is pending any may complete next, else the oldest.
  bool reordered = false;
  // Poll completes nothing: what is pending stays so until it is waited for.
  bool unpolled = false;
  // A transfer moves less than it was asked for, down to no whole block.
  uint32_t short_chance = 0;
  // A transfer ends with EAGAIN, EINTR or ECANCELED, having moved nothing.
  uint32_t transient_chance = 0;
  uint64_t seed = 1;
};

// A block device in memory, which starts as poison (0xA5 xor the low byte of
// the LBA), so that a byte nobody wrote is visible as such. Writes lie in a
// volatile cache until a flush, unless they are written through (FUA); a test
// can ask what a power cut would leave. Owned by the test; thread-safe.
class SimDevice final : public BlockDevice {
 public:
  // A geometry with the given block sizes, discard, and a write cache.
  static Geometry MakeGeometry(uint64_t device_bytes,
                               uint32_t logical_block_bytes = 512,
                               uint32_t physical_block_bytes = 4096);
  // The byte at `offset` of a fresh device.
  static char Poison(uint64_t offset, uint32_t logical_block_bytes);

  // A fresh device, full of poison.
  explicit SimDevice(const Geometry& geometry, size_t max_bios = kMaxBios);
  // Starts from `image` (of geometry.device_bytes), all of it durable.
  SimDevice(std::string image, const Geometry& geometry,
            size_t max_bios = kMaxBios);

  // Runs while a flush is under way, which covers nothing of what it does.
  std::function<void()> on_flush;
  // Runs before a write is carried out, in the thread that does.
  std::function<void()> on_write;
  // A mount that fails takes its device along: the last chance to look at it.
  std::function<void(const SimDevice&)> on_destroy;
  ~SimDevice() override;

  void Wait(Dio* dio, uint32_t wait_nr) override;
  void Poll() override;
  int64_t DoMove(Bio* bio) override;
  const char* backend_name() const override { return "sim"; }

  // The `nth` operation of this kind from now (1: the next) fails with `error`
  // and changes nothing; with `forever` all that follow do so too. Replaces
  // what was planned for this kind.
  void FailNth(SimOp op, uint64_t nth, int error, bool forever = false);
  void ClearFaults();
  // Reads of these bytes fail with ENODATA, as those of a disk's bad sector.
  void SetUnreadable(uint64_t offset, uint64_t bytes);
  void Behave(const SimBehavior& behavior);
  // Bios pending, now and at most so far.
  size_t pending() const;
  size_t most_pending() const;

  // Operations that arrived, failed ones included.
  uint64_t reads() const { return Arrived(SimOp::kRead); }
  uint64_t writes() const { return Arrived(SimOp::kWrite); }
  uint64_t flushes() const { return Arrived(SimOp::kFlush); }
  uint64_t discards() const { return Arrived(SimOp::kDiscard); }
  // All that succeeded but reads, in the order of completion.
  std::vector<SimEvent> Events() const;
  // What was moved, reads too, in the order in which it was: of a bio that is
  // moved in pieces, each.
  std::vector<SimEvent> Moves() const;
  // The bios given to it, reads too, in the order of submission.
  std::vector<SimEvent> Submissions() const;
  void ClearEvents();

  // What a reader sees.
  std::string Image() const;
  // What is safe: the state at the last flush, and what was written through.
  std::string DurableImage() const;
  // What a power cut now may leave: for each logical block, independently, any
  // of the contents it had since the last flush, or would have if what is
  // pending had been carried out.
  std::string CrashImage(std::mt19937_64* rng) const;
  // Writes not covered by a flush.
  bool HasUnflushedWrites() const;

 private:
  struct Fault {
    uint64_t at = 0;  // count of arrivals that fails; 0: none
    int error = 0;
    bool forever = false;
  };
  // The contents a block had since the last flush, the durable one first.
  using Versions = std::vector<std::string>;

  void DoSubmit(Bio* const* bios, size_t count) override;
  Result DoFlush() override;
  Result DoDiscard(uint64_t offset, uint64_t bytes) override;

  // Counts an arrival; the errno it fails with, or 0.
  int Arrive(SimOp op);
  uint64_t Arrived(SimOp op) const;
  void Record(SimOp op, uint64_t offset, uint64_t bytes, uint32_t segments,
              IoClass io_class, bool fua);
  int64_t Move(Bio* bio);
  // Takes the next bio to complete out of pending_; null where none is.
  Bio* TakePending();
  bool Chance(uint32_t per_mille);
  // Remembers the durable content of the blocks before they change, and the
  // new one after.
  void KeepOld(uint64_t offset, uint64_t bytes);
  void KeepNew(uint64_t offset, uint64_t bytes);
  void MakeDurable(uint64_t offset, uint64_t bytes);

  mutable std::mutex mutex_;  // guards all below
  std::string image_;
  std::map<uint64_t, Versions> unflushed_;  // by byte offset of the block
  std::array<uint64_t, 4> arrived_{};       // by SimOp
  std::array<Fault, 4> faults_;
  std::vector<SimEvent> events_;
  std::vector<SimEvent> moves_;
  std::vector<SimEvent> submissions_;
  std::deque<Bio*> pending_;
  size_t most_pending_ = 0;
  SimBehavior behavior_;
  std::mt19937_64 rng_;
  std::map<uint64_t, uint64_t> unreadable_;  // bytes, by offset
  uint64_t sequence_ = 0;
  uint64_t submission_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_SIM_DEVICE_H_
