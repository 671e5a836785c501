#ifndef DIOFS_DIO_BIO_H_
#define DIOFS_DIO_BIO_H_

#include <sys/uio.h>

#include <array>
#include <cstdint>

#include "dio/io_stats.h"

namespace diofs {

class Dio;

enum class IoDirection : uint8_t { kRead, kWrite };

// One contiguous run of the device and the memory it moves to or from: what the
// device sees as one request. Filled by DioSubmit on one thread; owned by the
// device from Submit until End, which runs exactly once, on any thread, and
// returns the bio to its pool.
class Bio {
 public:
  // Room for 64 segments of 4 KiB (a 256 KiB request scattered page by page)
  // and for the zero pages around a partial block.
  static constexpr uint32_t kMaxSegments = 66;

  // Starts over as an empty request at byte `device_offset`, part of `dio`.
  void Reset(Dio* dio, IoDirection direction, IoClass io_class,
             uint64_t device_offset, uint32_t max_bytes, uint32_t max_segments);

  // Adds `length` bytes of memory for the device range that follows what is
  // there. Memory adjacent to the last segment extends it. Returns the bytes
  // taken: less than `length` where the byte limit cuts, 0 where no segment is
  // left.
  uint32_t Append(void* memory, uint32_t length);

  // A completion of `result` bytes or -errno. Tells the Dio; the bio must not
  // be touched afterwards.
  void End(int64_t result);

  Dio* dio() const { return dio_; }
  IoDirection direction() const { return direction_; }
  IoClass io_class() const { return io_class_; }
  uint64_t device_offset() const { return device_offset_; }
  uint64_t device_end() const { return device_offset_ + bytes_; }
  uint32_t bytes() const { return bytes_; }
  const iovec* segments() const { return segments_.data(); }
  uint32_t segment_count() const { return segment_count_; }

  // Bytes a short completion has already moved; the backend goes on from there.
  uint32_t done_bytes = 0;
  // Retries of EAGAIN, EINTR and the like so far.
  uint32_t retries = 0;
  // The scratch iovec a backend resubmits a remainder from.
  std::array<iovec, kMaxSegments> remainder;

 private:
  friend class BioPool;

  Dio* dio_ = nullptr;
  Bio* next_free_ = nullptr;
  uint64_t device_offset_ = 0;
  uint32_t bytes_ = 0;
  uint32_t max_bytes_ = 0;
  uint32_t max_segments_ = 0;
  uint32_t segment_count_ = 0;
  IoDirection direction_ = IoDirection::kRead;
  IoClass io_class_ = 0;
  std::array<iovec, kMaxSegments> segments_;
};

// Where bios come from: a free list per process that grows to the peak number
// in flight and is never given back. Thread-safe.
class BioPool {
 public:
  static Bio* Get();
  static void Put(Bio* bio);
  // Bios handed out and not yet returned; 0 when nothing is in flight.
  static uint64_t in_use();
};

}  // namespace diofs

#endif  // DIOFS_DIO_BIO_H_
