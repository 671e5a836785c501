#ifndef DIOFS_DIO_BLOCK_DEVICE_H_
#define DIOFS_DIO_BLOCK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "dio/bio.h"
#include "dio/dio.h"
#include "dio/flush_epoch.h"
#include "dio/fork_guard.h"
#include "dio/geometry.h"
#include "dio/inflight_writes.h"
#include "dio/io_stats.h"
#include "dio/result.h"

namespace diofs {

class Plug;

// A block device, whatever carries its requests: the one place through which
// every byte passes on its way to and from the medium. Thread-safe.
//
// A backend implements the Do… methods and Wait, and reports each
// bio's end to Complete. What all of them must do alike is done once, here:
// checks of range and alignment, counting, the rest of short transfers, order
// among writes of one block, the shared flush.
class BlockDevice {
 public:
  // Bios at once, over all threads; see BioPool.
  static constexpr size_t kMaxBios = 2048;

  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;
  virtual ~BlockDevice() = default;

  const Geometry& geometry() const { return geometry_; }
  uint64_t size_bytes() const { return geometry_.device_bytes; }
  // The path it was opened by; for messages.
  const std::string& name() const { return name_; }
  IoStats& stats() { return stats_; }
  // Bios out, each of which pins memory of a caller, and writes in flight; both
  // 0 when nothing is going on.
  size_t bios_in_use() const { return bios_.in_use(); }
  size_t max_bios() const { return bios_.capacity(); }
  size_t writes_in_flight() const { return inflight_writes_.count(); }
  // True in a child forked after the device was opened: the device is the
  // parent's. Every call then fails with ESTALE, and the destructor touches
  // nothing the parent uses.
  bool stale() const { return fork_guard_.Crossed(); }

  // Issues `count` bios. Each one ends exactly once, inside Submit or later, on
  // any thread that submits or waits. A bio outside the device or misaligned
  // ends with EINVAL and never reaches the backend. A write waits here until no
  // other one of its 4096-byte blocks is in flight.
  void Submit(Bio* const* bios, size_t count);

  // Returns when `dio` has completed. Any thread may call it, also one that did
  // not submit; the thread may complete others' bios while it waits. `wait_nr`
  // as Dio::Wait has it; a backend need not care.
  virtual void Wait(Dio* dio, uint32_t wait_nr) = 0;
  // As Wait without blocking: completes what is ready, whoever started it (but
  // see Waiter).
  virtual void Poll() {}

  // One contiguous transfer of aligned memory, for metadata; waits.
  Result Read(uint64_t offset, void* memory, size_t bytes, IoClass io_class);
  Result Write(uint64_t offset, const void* memory, size_t bytes,
               IoClass io_class, Durability durability = Durability::kNone);

  // Makes every write that completed before the call durable. Concurrent calls
  // share one flush of the device; nothing written since the last one costs
  // nothing. A flush that failed is sticky: every later one fails too.
  Result Flush();

  // While set, Flush does nothing: for data that may be lost.
  void ForgoFlushes(bool forgo) { forgo_flushes_ = forgo; }

  // Tells the device that [offset, offset + bytes) holds nothing. A hint: its
  // content is undefined afterwards. EOPNOTSUPP where there is no discard.
  // Nothing of the range may be in flight.
  Result Discard(uint64_t offset, uint64_t bytes);

  // True where a bio's fua flag is honoured.
  virtual bool CanFua() const { return geometry_.fua; }
  // "uring", "sync", …; for logs and diofs info.
  virtual const char* backend_name() const = 0;

  // ---- For Dio, DioSubmit and devices in front of this one -----------------

  // A bio, after completing some where all are out. `plug` is the calling
  // thread's; what it holds is submitted first. (A thread that holds back bios
  // of this device in a second plug may wait for itself.)
  Bio* GetBio(Plug* plug);
  void PutBio(Bio* bio) { bios_.Put(bio); }
  // Moves what is left of `bio` on the calling thread, never writing through;
  // bytes or -errno.
  int64_t MoveNow(Bio* bio);
  // A bio that the device ended with `result`: bytes moved, or -errno. Moves
  // the rest of a short one here and now, with a bound on retries, and passes
  // the bio on to whoever stands in front of this device, or ends it.
  void Complete(Bio* bio, int64_t result);
  // `bio`, a read, met a bad block. Reads it again in pieces, halved down to a
  // logical block, and adds what cannot be read to *bad. Past kMaxBadBlocks of
  // them the rest counts as bad too: each may take a device seconds.
  void ReadAround(Bio* bio, std::vector<BadRange>* bad);

 protected:
  BlockDevice(std::string name, const Geometry& geometry,
              size_t max_bios = kMaxBios);

  virtual void DoSubmit(Bio* const* bios, size_t count) = 0;
  // MoveNow, without what all backends must know of it.
  virtual int64_t DoMove(Bio* bio) = 0;
  virtual Result DoFlush() = 0;
  virtual Result DoDiscard(uint64_t offset, uint64_t bytes) = 0;

 private:
  static constexpr uint32_t kMaxRetries = 100;
  static constexpr size_t kMaxBadBlocks = 16;

  bool Accept(Bio* bio);
  void AwaitSameBlocks(Bio* bio);
  int64_t MoveRest(Bio* bio, int64_t result);
  static void PassOn(Bio* bio, int64_t result);
  Result Transfer(IoDirection direction, uint64_t offset, void* memory,
                  size_t bytes, IoClass io_class, Durability durability);

  const std::string name_;
  const Geometry geometry_;
  const ForkGuard fork_guard_;
  IoStats stats_;
  FlushEpoch flush_epoch_;
  std::atomic<bool> forgo_flushes_{false};
  BioPool bios_;
  InflightWrites inflight_writes_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_BLOCK_DEVICE_H_
