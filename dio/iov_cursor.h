#ifndef DIOFS_DIO_IOV_CURSOR_H_
#define DIOFS_DIO_IOV_CURSOR_H_

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace diofs {

// Walks the caller's iovecs from front to back, in pieces of any length. A
// value of the submitting thread; the iovecs stay the caller's.
class IovCursor {
 public:
  IovCursor(const iovec* segments, int count)
      : next_(segments), end_(count > 0 ? segments + count : segments) {}

  // The next contiguous piece, of at most `max_bytes`; its length is 0 only
  // where the iovecs (or max_bytes) are used up.
  iovec Next(uint64_t max_bytes) {
    while (next_ != end_ && used_ == next_->iov_len) {
      ++next_;
      used_ = 0;
    }
    if (next_ == end_) return iovec{nullptr, 0};
    const auto length = static_cast<size_t>(
        std::min<uint64_t>(next_->iov_len - used_, max_bytes));
    const iovec piece = {static_cast<char*>(next_->iov_base) + used_, length};
    used_ += length;
    return piece;
  }

 private:
  const iovec* next_;
  const iovec* end_;
  size_t used_ = 0;  // bytes of *next_ already handed out; <= its length
};

}  // namespace diofs

#endif  // DIOFS_DIO_IOV_CURSOR_H_
