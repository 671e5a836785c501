#ifndef DIOFS_DIO_DIO_H_
#define DIOFS_DIO_DIO_H_

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dio/bio.h"
#include "dio/block_mapper.h"
#include "dio/result.h"

namespace diofs {

class BlockDevice;
class Dio;
class IoRing;
class Plug;

// May a write have blocks allocated?
enum class WriteMode : uint8_t {
  // Everywhere: the mapper is asked with create.
  kAllocate,
  // Behind the last block of the file only. A hole inside it ends the write
  // there: Wait() returns what lies before, and fallback() is true.
  kSkipHoles,
  // Nowhere, and no conversion of unwritten blocks: EAGAIN where that, or a
  // write behind the end of the file, would be needed. For callers that hold
  // no lock under which metadata may change.
  kOverwriteOnly,
};

// When is a write durable?
enum class Durability : uint8_t {
  kNone,   // after a later flush of the device
  kFlush,  // when Wait() returns: it shares a flush with its neighbours
  // As kFlush, but a pure overwrite on a device that can writes through instead
  // of flushing. Durable are then its own bytes, and nothing written before.
  kFua,
};

// Which thread may wait for a request?
enum class Waiter : uint8_t {
  kAnyThread,
  // The one that submits, soon, and before it waits for another thread or for
  // anything but this device. Reads are cheaper so, where the device has rings:
  // nobody is interrupted when one completes. But nothing completes, and done()
  // stays false, until that thread waits for such a read, polls the device or
  // ends; Wait() and the destructor elsewhere last until then.
  kSubmitter,
};

// The end of a request, as its observer hears of it.
struct DioEnd {
  IoDirection direction;
  uint64_t offset;  // bytes, in the file
  uint64_t bytes;   // moved from there on without a gap; 0 after an error
  int error;        // positive errno, or 0
  // Of every mapping that had one, in the order of the file.
  const uint64_t* reservations;
  size_t reservation_count;
};

// Whoever must know of a request's end. Outlives the request. Called on the
// thread that waits, never on one that reaps for others. Throws nothing.
class DioObserver {
 public:
  virtual ~DioObserver() = default;
  // Exactly once for every request that was submitted, also where nothing was
  // moved, and before anybody is told the result: reservations are committed
  // (unwritten blocks become written, the size grows) or released here. What it
  // returns becomes the result; end.bytes or end.error where it has nothing to
  // add. Never in a forked child, whose copy of a request is not the request.
  virtual Result EndIo(const DioEnd& end) = 0;
  // Exactly once where Submit said kQueued, never otherwise; after EndIo. Not
  // the place to destroy the Dio.
  virtual void Complete(Dio* /*dio*/, const Result& /*result*/) {}
};

// What to move: a byte range of a file and the memory for it.
struct DioRequest {
  IoDirection direction = IoDirection::kRead;
  IoClass io_class = 0;
  // Offset, and each segment's length, are multiples of the device's
  // offset_align_bytes, each segment's address one of memory_align_bytes;
  // otherwise EINVAL and nothing moves.
  uint64_t offset = 0;
  const iovec* segments = nullptr;
  int segment_count = 0;
  // The file's size in bytes, sampled once by the caller. A read ends there. A
  // write that ends at or behind it zeroes the rest of its last block.
  uint64_t file_size = 0;
  const BlockMapper* mapper = nullptr;
  // Size of the mapper's blocks; a power of two, at least the logical block.
  uint32_t block_bytes = 4096;
  // The submitter does not wait at once, so even a single bio goes through the
  // ring.
  bool async = false;
  Waiter waiter = Waiter::kAnyThread;
  WriteMode write_mode = WriteMode::kAllocate;
  Durability durability = Durability::kNone;
  // As sqe->ioprio; 0 for the thread's own. Taken note of by rings alone.
  uint16_t ioprio = 0;
  DioObserver* observer = nullptr;
};

// One direct-I/O request in flight. Owned by whoever started it, who must
// Wait() before it goes away; its bios and its submission hold references, and
// the last one to go completes it, on any thread. Used by one thread at a time.
//
//   Dio dio(device);
//   Plug plug(device);
//   dio.Submit(request, &plug);
//   plug.Finish();
//   Result result = dio.Wait();
class Dio {
 public:
  enum class Submission : uint8_t {
    kDone,    // nothing is in flight: Wait() tells the result at once
    kQueued,  // bios are plugged or in flight
  };

  explicit Dio(BlockDevice* device) : device_(device) {}
  Dio(const Dio&) = delete;
  Dio& operator=(const Dio&) = delete;
  ~Dio();

  // Maps and queues `request`; its bios leave with the plug, or earlier where
  // it is full. Called once. The memory stays untouched by the caller until
  // Wait() has returned. What goes wrong here is told by Wait():
  //   EINVAL   misaligned, or an offset and length no file can have
  //   EIO      the mapper's answer contradicts itself
  //   EAGAIN   not possible by overwriting alone (kOverwriteOnly)
  //   ENOMEM   no memory
  //   ESTALE   the device was opened before a fork
  // A request that went wrong half-way has nothing in flight on return.
  Submission Submit(const DioRequest& request, Plug* plug);

  // Blocks until all is done; called once Submit and the plug's Finish have
  // returned, on any thread (but see Waiter). Bytes moved, cut at
  // the end of the file for a read, or the first error that occurred. May be
  // called again.
  //
  // `wait_nr` is how many bios, its own and those of later requests of this
  // thread, are worth one wake-up: who waits for all of a batch need not be
  // woken for each.
  Result Wait(uint32_t wait_nr = 1);
  bool done() const { return bios_in_flight() == 0; }
  // Once it is submitted.
  uint32_t bios_in_flight() const {
    return static_cast<uint32_t>(refs_.load(std::memory_order_acquire));
  }

  // After Wait: a write met a hole it may not fill (or the mapper did not), and
  // moved only what lies before. The caller finishes in another way.
  bool fallback() const { return fallback_; }
  // After Wait: the bad blocks for which a read has failed. The other bytes
  // have been read; unless this is empty, for then something else went wrong.
  const std::vector<BadRange>& unreadable() const { return bad_; }

  // The ring that carries its bios; null while none has left through one.
  IoRing* ring() const { return ring_.load(std::memory_order_acquire); }
  void set_ring(IoRing* ring) { ring_.store(ring, std::memory_order_release); }
  bool async() const { return async_; }
  Waiter waiter() const { return waiter_; }
  IoDirection direction() const { return direction_; }

 private:
  friend class Bio;
  friend class DioSubmit;
  friend class BlockDevice;

  // A bio is on its way; called before it can complete.
  void Ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  // True where it was the last reference.
  bool Unref();
  void BioDone(Bio* bio, int64_t result);
  void NoteError(std::atomic<int>* kind, int error);
  // So that what the mapper answers can be noted.
  void MakeRoomForReservation();
  void AddReservation(uint64_t reservation);
  // On the waiting thread, once, when nothing is in flight any more.
  void Finish();
  void ReadAroundErrors();
  Result Conclude();
  std::string DescribeError() const;

  BlockDevice* const device_;
  // 1 from Submit until everything is queued, and 1 for each bio. Nothing of
  // this object is touched after the decrement that reaches 0.
  std::atomic<int32_t> refs_{0};

  // ---- Fixed when Submit returns ------------------------------------------
  IoDirection direction_ = IoDirection::kRead;
  bool async_ = false;
  Waiter waiter_ = Waiter::kAnyThread;
  bool submitted_ = false;
  bool queued_ = false;
  bool fallback_ = false;
  bool needs_flush_ = false;
  int submit_error_ = 0;
  uint64_t offset_ = 0;
  uint64_t file_size_ = 0;
  uint32_t block_bytes_ = 0;
  uint64_t bytes_ = 0;  // queued, or zeroed where a hole was read
  DioObserver* observer_ = nullptr;
  // The first ones lie here, so that ordinary requests allocate nothing.
  std::array<uint64_t, 4> reservations_{};
  size_t reservation_count_ = 0;
  std::vector<uint64_t> more_reservations_;  // all, where they are more
  std::atomic<IoRing*> ring_{nullptr};

  // ---- Written as bios end, by any thread ----------------------------------
  // The first errno of each kind; kept.
  std::atomic<int> io_error_{0};
  std::atomic<int> source_error_{0};
  // A write that was to go through did not, or not all of it.
  std::atomic<bool> not_through_{false};
  // File offset of the first bio whose memory was not there.
  std::atomic<uint64_t> source_fault_at_{UINT64_MAX};
  // Reads of a bad block, which are worth a closer look, and their errno.
  std::atomic<int> read_error_{0};
  std::atomic<Bio*> failed_reads_{nullptr};

  // ---- Of the thread that waits ---------------------------------------------
  bool finished_ = false;
  std::vector<BadRange> bad_;
  Result result_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_DIO_H_
