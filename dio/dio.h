#ifndef DIOFS_DIO_DIO_H_
#define DIOFS_DIO_DIO_H_

#include <sys/uio.h>

#include <atomic>
#include <cstdint>

#include "dio/bio.h"
#include "dio/block_mapper.h"
#include "dio/result.h"

namespace diofs {

class BlockDevice;
class IoRing;
class Plug;

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
};

// One direct-I/O request in flight. Owned by whoever started it, who must
// Wait() before it goes away; its bios and its submission hold references, and
// the last one to go completes it, on any thread.
//
//   Dio dio(device);
//   Plug plug(device);
//   dio.Submit(request, &plug);
//   plug.Finish();
//   Result result = dio.Wait();
class Dio {
 public:
  explicit Dio(BlockDevice* device) : device_(device) {}
  Dio(const Dio&) = delete;
  Dio& operator=(const Dio&) = delete;
  ~Dio();

  // Maps and queues `request`; its bios leave with the plug. Called once. The
  // memory stays untouched by the caller until Wait() has returned. What goes
  // wrong here is told by Wait():
  //   EINVAL   misaligned, or an offset and length no file can have
  //   ENOTBLK  a write met a hole the mapper did not fill; what lies before it
  //            was written (the caller finishes in another way)
  //   EIO      the mapper's answer contradicts itself
  //   ESTALE   the device was opened before a fork
  void Submit(const DioRequest& request, Plug* plug);

  // Blocks until all is done; called once Submit and the plug's Finish have
  // returned, on any thread. Bytes moved, cut at the end of the file for a
  // read, or the first error that occurred. May be called again.
  Result Wait();
  bool done() const { return refs_.load(std::memory_order_acquire) == 0; }

 private:
  friend class Bio;
  friend class DioSubmit;
  friend class BlockDevice;
  friend class UringDevice;

  // A bio is on its way; called before it can complete.
  void Ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void Unref();
  void BioDone(int64_t result, uint32_t expected);
  void SetError(int error);

  BlockDevice* const device_;
  // 1 from Submit until everything is queued, and 1 for each bio. Nothing of
  // this object is touched after the decrement that reaches 0.
  std::atomic<int32_t> refs_{0};
  // The first errno; kept.
  std::atomic<int> error_{0};
  // Bytes asked for, after the cut at file_size; known when Submit returns.
  uint64_t bytes_ = 0;
  // The ring that carries its bios; null until the first leaves through one.
  IoRing* ring_ = nullptr;
  bool async_ = false;
};

}  // namespace diofs

#endif  // DIOFS_DIO_DIO_H_
