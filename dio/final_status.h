#ifndef DIOFS_DIO_FINAL_STATUS_H_
#define DIOFS_DIO_FINAL_STATUS_H_

#include <cerrno>
#include <cstdint>

#include "dio/bio.h"

namespace diofs {

// What is known of a request when its last bio has ended.
struct DioOutcome {
  IoDirection direction = IoDirection::kRead;
  uint64_t offset = 0;     // bytes, in the file
  uint64_t file_size = 0;  // bytes, sampled once at submission
  // Positive errnos, 0 for none; each the first of its kind.
  int submit_error = 0;  // of the walk: misaligned, the mapper's, …
  int source_error = 0;  // the caller's memory is not there (EFAULT)
  int io_error = 0;      // the device's, a failed flush among them
  // Bytes moved from `offset` on without a gap.
  uint64_t transferred = 0;
};

// Bytes, or a negative errno. The walk's error counts most, then the memory's,
// then the device's. Memory that ends in the middle is a short success (what
// was moved was moved), and so is the end of the file for a read: a read of
// 8192 bytes at 4096 in a file of 5000 bytes moves 904.
constexpr int64_t FinalStatus(const DioOutcome& outcome) {
  if (outcome.submit_error != 0) return -outcome.submit_error;
  uint64_t bytes = outcome.transferred;
  if (outcome.source_error != 0 &&
      (outcome.source_error != EFAULT || bytes == 0)) {
    return -outcome.source_error;
  }
  if (outcome.io_error != 0) return -outcome.io_error;
  if (outcome.direction == IoDirection::kRead) {
    const uint64_t inside = outcome.offset < outcome.file_size
                                ? outcome.file_size - outcome.offset
                                : 0;
    if (bytes > inside) bytes = inside;
  }
  return static_cast<int64_t>(bytes);
}

}  // namespace diofs

#endif  // DIOFS_DIO_FINAL_STATUS_H_
