#ifndef DIOFS_DIO_BLOCK_DEVICE_H_
#define DIOFS_DIO_BLOCK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dio/bio.h"
#include "dio/flush_epoch.h"
#include "dio/fork_guard.h"
#include "dio/geometry.h"
#include "dio/io_stats.h"
#include "dio/result.h"

namespace diofs {

// A block device, whatever carries its requests: the one place through which
// every byte passes on its way to and from the medium. Thread-safe.
//
// A backend implements the Do… methods; counting, the shared flush and the
// checks of range and alignment are done once, here.
class BlockDevice {
 public:
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;
  virtual ~BlockDevice() = default;

  const Geometry& geometry() const { return geometry_; }
  uint64_t size_bytes() const { return geometry_.device_bytes; }
  // The path it was opened by; for messages.
  const std::string& name() const { return name_; }
  IoStats& stats() { return stats_; }
  // True in a child forked after the device was opened: the device is the
  // parent's. Every call then fails with ESTALE, and the destructor touches
  // nothing the parent uses.
  bool stale() const { return fork_guard_.Crossed(); }

  // Issues `count` bios. Each one's End() runs exactly once, inside Submit or
  // later, on any thread that submits or waits. A bio outside the device or
  // misaligned ends with EINVAL and never reaches the backend.
  void Submit(Bio* const* bios, size_t count);

  // Returns when `dio` has completed. Any thread may call it, also one that did
  // not submit; the thread may complete others' bios while it waits.
  virtual void Wait(Dio* dio) = 0;
  // As Wait without blocking: reaps what is there.
  virtual void Poll() {}

  // One contiguous transfer of aligned memory, for metadata; waits.
  Result Read(uint64_t offset, void* memory, size_t bytes, IoClass io_class);
  Result Write(uint64_t offset, const void* memory, size_t bytes,
               IoClass io_class);

  // Makes every write that completed before the call durable. Concurrent calls
  // share one flush of the device; nothing written since the last one costs
  // nothing. A flush that failed is sticky: every later one fails too.
  Result Flush();

  // Tells the device that [offset, offset + bytes) holds nothing. A hint: its
  // content is undefined afterwards. EOPNOTSUPP where there is no discard.
  Result Discard(uint64_t offset, uint64_t bytes);

  // "uring", "sync", …; for logs and diofs info.
  virtual const char* backend_name() const = 0;

 protected:
  BlockDevice(std::string name, const Geometry& geometry);

  virtual void DoSubmit(Bio* const* bios, size_t count) = 0;
  virtual Result DoFlush() = 0;
  virtual Result DoDiscard(uint64_t offset, uint64_t bytes) = 0;

  // A backend calls it when a write has completed, before it ends the bio: a
  // flush that follows an observed completion must cover it.
  void NoteWriteCompleted() { flush_epoch_.MarkDirty(); }

 private:
  Result Transfer(IoDirection direction, uint64_t offset, void* memory,
                  size_t bytes, IoClass io_class);

  const std::string name_;
  const Geometry geometry_;
  const ForkGuard fork_guard_;
  IoStats stats_;
  FlushEpoch flush_epoch_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_BLOCK_DEVICE_H_
