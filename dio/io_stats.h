#ifndef DIOFS_DIO_IO_STATS_H_
#define DIOFS_DIO_IO_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "dio/thread_shard.h"

namespace diofs {

// Who caused a request. dio/ only counts by it; env/ gives the numbers a
// meaning (journal, WAL, SST, …).
using IoClass = uint8_t;
inline constexpr IoClass kIoClasses = 16;

// What reached the device, by class: requests and bytes as issued, padding
// included.
struct IoCounters {
  ShardedCounter reads;
  ShardedCounter read_bytes;
  ShardedCounter writes;
  ShardedCounter write_bytes;
};

// Written by any thread, without order among them.
struct IoStats {
  std::array<IoCounters, kIoClasses> by_class;
  // Writes that were durable when they completed.
  std::atomic<uint64_t> fua_writes{0};
  // Zeros written around partial blocks: write_bytes less these were asked for.
  std::atomic<uint64_t> padding_bytes{0};
  std::atomic<uint64_t> flushes{0};
  std::atomic<uint64_t> discards{0};
  std::atomic<uint64_t> discard_bytes{0};
  // Batches handed to the kernel through a ring: io_uring_enter calls that
  // submitted something.
  std::atomic<uint64_t> ring_submits{0};
  // Requests that named a registered buffer.
  std::atomic<uint64_t> fixed_buffer_ios{0};
  // Bytes copied through a bounce buffer because memory, offset or length was
  // not aligned.
  std::atomic<uint64_t> bounced_bytes{0};
  // Requests that had to wait because a write of one of their blocks was in
  // flight.
  std::atomic<uint64_t> write_conflicts{0};

  // Gauges: what is held just now; 0 when nothing is in flight.
  std::atomic<int64_t> bounces{0};       // bounce buffers
  std::atomic<int64_t> reservations{0};  // of mappers, not yet ended
};

}  // namespace diofs

#endif  // DIOFS_DIO_IO_STATS_H_
