#ifndef DIOFS_DIO_GEOMETRY_H_
#define DIOFS_DIO_GEOMETRY_H_

#include <sys/uio.h>

#include <cstdint>
#include <string>

#include "dio/result.h"

namespace diofs {

// What a device can do and what it demands, as a checked value. Probed at every
// mount (never stored: an image moves between hosts); immutable afterwards.
struct Geometry {
  // The unit of addressing. Reads and writes are multiples of it.
  uint32_t logical_block_bytes = 512;
  // The unit the medium writes without reading first.
  uint32_t physical_block_bytes = 4096;
  // Alignment of memory handed to the device, and of offset and length; from
  // statx(STATX_DIOALIGN), else the logical block size. They differ: zram takes
  // memory at 512 and offsets at 4096.
  uint32_t memory_align_bytes = 512;
  uint32_t offset_align_bytes = 512;
  // One bio carries at most this many bytes and segments. min(max_sectors_kb,
  // max_segments x 4 KiB, 512 KiB): above 512 KiB io_uring hands the request to
  // a worker thread.
  uint32_t max_bio_bytes = 512 * 1024;
  uint32_t max_bio_segments = 64;
  uint64_t device_bytes = 0;
  bool is_block_device = false;
  // A volatile write cache: what was written is durable only after a flush.
  bool write_cache = true;
  bool fua = false;
  bool discard = false;
  // Requests can be issued without blocking; without it io_uring punts each one
  // to a worker thread and plain preadv2 is the faster road.
  bool nowait = false;
  // 0 where the medium turns.
  bool rotational = false;

  // Reads the geometry of the device or image open at `fd` (for a partition,
  // from its disk). An unreadable queue attribute leaves the cautious default.
  static Result Probe(int fd, Geometry* geometry);

  // EINVAL with the reason for a value no device may have: a block size that is
  // no power of two in 512..64 KiB, an alignment above the block size, no room
  // for one block in a bio, a device smaller than one block.
  Result Validate() const;

  // True where offset, lengths and memory of a request are aligned, each by its
  // own measure. Empty segments do not count.
  bool Admits(uint64_t offset, const iovec* segments, int count) const;

  // What a bio that starts at byte `offset` may carry: the limit, cut so that a
  // longer transfer is split between two physical blocks, not inside one.
  uint32_t MaxBioBytesAt(uint64_t offset) const;

  // "4.0 GiB block device, 512/4096-byte blocks, write cache, no FUA, …"
  std::string ToString() const;
};

}  // namespace diofs

#endif  // DIOFS_DIO_GEOMETRY_H_
