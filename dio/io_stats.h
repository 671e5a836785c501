#ifndef DIOFS_DIO_IO_STATS_H_
#define DIOFS_DIO_IO_STATS_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace diofs {

// Who caused a request. dio/ only counts by it; env/ gives the numbers a
// meaning (journal, WAL, SST, …).
using IoClass = uint8_t;
inline constexpr IoClass kIoClasses = 16;

// What reached the device, by class: requests and bytes as issued, padding
// included. Relaxed counters, written by any thread.
struct IoCounters {
  std::atomic<uint64_t> reads{0};
  std::atomic<uint64_t> read_bytes{0};
  std::atomic<uint64_t> writes{0};
  std::atomic<uint64_t> write_bytes{0};
};

struct IoStats {
  std::array<IoCounters, kIoClasses> by_class;
  std::atomic<uint64_t> flushes{0};
  std::atomic<uint64_t> discards{0};
  std::atomic<uint64_t> discard_bytes{0};
  // Batches handed to the kernel through a ring: io_uring_enter calls that
  // submitted something.
  std::atomic<uint64_t> ring_submits{0};
  // Bytes copied through a bounce buffer because memory, offset or length was
  // not aligned.
  std::atomic<uint64_t> bounced_bytes{0};
};

}  // namespace diofs

#endif  // DIOFS_DIO_IO_STATS_H_
