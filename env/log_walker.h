#ifndef DIOFS_ENV_LOG_WALKER_H_
#define DIOFS_ENV_LOG_WALKER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/result.h"
#include "env/extent_map.h"
#include "env/log_frame.h"
#include "env/log_layout.h"

namespace diofs {

// Walks the frames of a log file, trusting nothing of what it reads. Lives on
// the stack of a reader or of a recovery; not thread-safe.
class LogWalker {
 public:
  // What it walks on: immutable, as far as the walk goes.
  struct Stream {
    BlockDevice* device = nullptr;
    std::shared_ptr<const ExtentMap> map;
    std::vector<LogSegment> segments;  // in order
    IoClass io_class = 0;
    uint16_t ioprio = 0;
    // Reads are this long where nothing else bounds them.
    uint64_t window_bytes = 1 << 20;
  };
  struct Frame {
    LogFrameHeader header;
    uint64_t position = 0;     // in the stream
    std::string_view payload;  // valid until the walker is called again
  };

  // Begins at `from`, which lies in the last segment that begins at or before
  // from.logical.
  LogWalker(Stream stream, const LogPosition& from);

  // Gives the frame behind position() and moves behind it. Where none follows,
  // *found is false and end_reason() says what is there instead. The result is
  // an error only where no memory is to be had: a block that cannot be read is
  // a frame that is not there.
  Result Next(Frame* frame, bool* found);

  // Looks behind position(), where a frame is missing, for one of the same
  // generation that was written after the missing one was durable. *upto is
  // what it names durable.
  Result FindProof(bool* found, uint64_t* upto);

  const LogPosition& position() const { return position_; }
  // Of the segment that the frame before position() belongs to.
  uint64_t generation() const { return segment().generation; }
  // Why no frame was found; unreadable() where a block of it was.
  const std::string& end_reason() const { return end_reason_; }
  bool unreadable() const { return unreadable_; }

 private:
  // Points *bytes at `count` bytes of the stream. False, with end_reason(),
  // where the device does not give them.
  Result View(uint64_t position, uint64_t count, const char** bytes);
  Result ReadWindow(uint64_t begin, uint64_t end);
  // Is the frame behind position() at `position`?
  Result TryFrame(uint64_t position, Frame* frame, bool* found);
  // A whole frame of this generation at `position`, whatever it continues.
  Result TryAnyFrame(uint64_t position, Frame* frame, bool* found);
  // Positions at which a frame may follow, other than position() itself.
  Result FindElsewhere(Frame* frame, bool* found);
  void EnterSegments();
  const LogSegment& segment() const { return stream_.segments[segment_]; }
  // Where the run of device blocks that holds `position` ends in the stream.
  uint64_t RunEnd(uint64_t position) const;

  const Stream stream_;
  const uint64_t stream_bytes_;
  size_t segment_ = 0;
  LogPosition position_;
  std::string end_reason_;
  bool unreadable_ = false;
  // Holds the stream's bytes [window_begin_, window_end_).
  AlignedBuffer window_;
  uint64_t window_begin_ = 0;
  uint64_t window_end_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_WALKER_H_
