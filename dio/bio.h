#ifndef DIOFS_DIO_BIO_H_
#define DIOFS_DIO_BIO_H_

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "dio/io_stats.h"
#include "dio/thread_shard.h"

namespace diofs {

class BioPool;
class BlockDevice;
class Dio;

enum class IoDirection : uint8_t { kRead, kWrite };

// What a bio is made for.
struct BioHead {
  Dio* dio = nullptr;
  IoDirection direction = IoDirection::kRead;
  IoClass io_class = 0;
  // As sqe->ioprio: IOPRIO_PRIO_VALUE(class, level), 0 for the thread's own.
  uint16_t ioprio = 0;
  // A write that is durable when it completes (for its own bytes only).
  bool fua = false;
  // Bytes: where it starts in the file and on the device.
  uint64_t file_offset = 0;
  uint64_t device_offset = 0;
  // What the device takes in one request.
  uint32_t max_bytes = 0;
  uint32_t max_segments = 0;
};

// Bytes that could not be read.
struct BadRange {
  uint64_t file_offset;
  uint64_t device_offset;
  uint64_t bytes;
};

// One contiguous run of a file and of the device, and the memory it moves to or
// from: what the device sees as one request. Filled by DioSubmit on one thread;
// owned by the device from Submit until End, which runs exactly once, on any
// thread, and returns the bio to its pool.
class Bio {
 public:
  // Room for 64 segments of 4 KiB (a 256 KiB request scattered page by page)
  // and for the zero pages around a partial block.
  static constexpr uint32_t kMaxSegments = 66;
  // A device may stand in front of another one (a tracer); no deeper.
  static constexpr uint32_t kMaxDepth = 2;

  // Starts over as an empty request.
  void Reset(const BioHead& head);

  // Adds `length` bytes of memory for the section that starts at those offsets.
  // Memory adjacent to the last segment extends it. Returns the bytes taken:
  // less than `length` where the byte limit cuts; 0 where the section does not
  // follow what is there, in the file or on the device, or no segment is left.
  uint32_t TryAppend(uint64_t file_offset, uint64_t device_offset, void* memory,
                     uint32_t length);

  // A completion of bytes() or -errno. Tells the Dio; the bio must not be
  // touched afterwards.
  void End(int64_t result);

  Dio* dio() const { return head_.dio; }
  IoDirection direction() const { return head_.direction; }
  IoClass io_class() const { return head_.io_class; }
  uint16_t ioprio() const { return head_.ioprio; }
  bool fua() const { return head_.fua; }
  uint64_t file_offset() const { return head_.file_offset; }
  uint64_t device_offset() const { return head_.device_offset; }
  uint64_t device_end() const { return head_.device_offset + bytes_; }
  uint32_t bytes() const { return bytes_; }
  const iovec* segments() const { return segments_.data(); }
  uint32_t segment_count() const { return segment_count_; }

  // ---- For the device that holds it --------------------------------------

  // The bytes still to be moved: [done_bytes, limit_bytes) of the bio. All of
  // it, unless a completion was short or a bad block is being looked for.
  uint32_t done_bytes = 0;
  uint32_t limit_bytes = 0;
  // A write with fua() that is being carried out as such: durable when it
  // completes. Not so once part of it was moved in another way.
  bool written_through = false;
  // Fills `remainder` with the memory of that range; returns its segments.
  int FillRemainder();
  // The scratch iovec from which a remainder is moved.
  std::array<iovec, kMaxSegments> remainder;

  // The devices it passes through, the innermost last. False: too many.
  bool Push(BlockDevice* device);
  // Leaves the innermost; the next one out, or null.
  BlockDevice* Pop();
  // The innermost it is with; null where it is with none.
  BlockDevice* top() const {
    return depth_ == 0 ? nullptr : devices_[depth_ - 1];
  }

 private:
  friend class BioPool;
  friend class Dio;

  BioHead head_;
  BioPool* pool_ = nullptr;
  Bio* next_ = nullptr;  // in the pool's or the Dio's list
  uint32_t bytes_ = 0;
  uint32_t segment_count_ = 0;
  uint32_t depth_ = 0;
  std::array<BlockDevice*, kMaxDepth> devices_{};
  std::array<iovec, kMaxSegments> segments_;
};

// The bios of one device: made when first needed, up to a fixed number, then
// only recycled. When all are out, or there is no memory for more, whoever
// needs one has the device complete some (BlockDevice::GetBio). Owned by the
// device; thread-safe.
class BioPool {
 public:
  explicit BioPool(size_t capacity);
  ~BioPool();
  BioPool(const BioPool&) = delete;
  BioPool& operator=(const BioPool&) = delete;

  // Null when all are out.
  Bio* TryGet();
  void Put(Bio* bio);
  // Is it the one that is handed out where there is no other? Whoever has it
  // brings it back without waiting for anything but its transfer.
  bool IsReserve(const Bio* bio) const { return bio == reserve_; }
  // Bios handed out and not yet returned; each pins memory of a caller. 0 when
  // nothing is in flight.
  size_t in_use() const;
  size_t capacity() const { return capacity_; }

 private:
  // One free bio that a thread finds again without a lock; null where there is
  // none.
  struct alignas(kCacheLineBytes) Shard {
    std::atomic<Bio*> free{nullptr};
  };
  Bio* TakeFromShards();
  size_t FreeInShards() const;

  const size_t capacity_;
  Bio* const reserve_;  // made first, so that progress needs no memory
  std::array<Shard, kThreadShards> shards_;
  mutable std::mutex mutex_;  // guards all below
  bool reserve_free_ = true;
  size_t made_ = 1;
  Bio* first_free_ = nullptr;
  size_t free_count_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_DIO_BIO_H_
