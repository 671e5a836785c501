#ifndef DIOFS_TESTS_SIM_DEVICE_H_
#define DIOFS_TESTS_SIM_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
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
  uint64_t sequence;  // from 1, over all operations
  uint64_t offset;    // in bytes; 0 for a flush
  uint64_t bytes;
  uint32_t segments;
  IoClass io_class;
};

// A block device in memory, which starts as poison (0xA5 xor the low byte of
// the LBA), so that a byte nobody wrote is visible as such. Writes lie in a
// volatile cache until a flush; a test can ask what a power cut would leave.
// Bios complete inside Submit. Owned by the test; thread-safe.
class SimDevice final : public BlockDevice {
 public:
  // A geometry with the given block sizes, discard, and a write cache.
  static Geometry MakeGeometry(uint64_t device_bytes,
                               uint32_t logical_block_bytes = 512,
                               uint32_t physical_block_bytes = 4096);
  // The byte at `offset` of a fresh device.
  static char Poison(uint64_t offset, uint32_t logical_block_bytes);

  // A fresh device, full of poison.
  explicit SimDevice(const Geometry& geometry);
  // Starts from `image` (of geometry.device_bytes), all of it durable.
  SimDevice(std::string image, const Geometry& geometry);

  // A mount that fails takes its device along: the last chance to look at it.
  std::function<void(const SimDevice&)> on_destroy;
  ~SimDevice() override {
    if (on_destroy) on_destroy(*this);
  }

  void Wait(Dio* dio) override;
  const char* backend_name() const override { return "sim"; }

  // The `nth` operation of this kind from now (1: the next) fails with `error`
  // and changes nothing; with `forever` all that follow do so too. Replaces
  // what was planned for this kind.
  void FailNth(SimOp op, uint64_t nth, int error, bool forever = false);
  void ClearFaults();

  // Operations that arrived, failed ones included.
  uint64_t reads() const { return Arrived(SimOp::kRead); }
  uint64_t writes() const { return Arrived(SimOp::kWrite); }
  uint64_t flushes() const { return Arrived(SimOp::kFlush); }
  uint64_t discards() const { return Arrived(SimOp::kDiscard); }
  // All that succeeded but reads, in order.
  std::vector<SimEvent> Events() const;
  void ClearEvents();

  // What a reader sees.
  std::string Image() const;
  // What is safe: the state at the last flush.
  std::string DurableImage() const;
  // What a power cut now may leave: for each logical block, independently, any
  // of the contents it had since the last flush.
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
              IoClass io_class);
  int64_t Move(const Bio& bio);
  // Remembers the durable content of the blocks before they change, and the
  // new one after.
  void KeepOld(uint64_t offset, uint64_t bytes);
  void KeepNew(uint64_t offset, uint64_t bytes);

  mutable std::mutex mutex_;  // guards all below
  std::string image_;
  std::map<uint64_t, Versions> unflushed_;  // by byte offset of the block
  std::array<uint64_t, 4> arrived_{};       // by SimOp
  std::array<Fault, 4> faults_;
  std::vector<SimEvent> events_;
  uint64_t sequence_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_SIM_DEVICE_H_
