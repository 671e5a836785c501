#ifndef DIOFS_ENV_LOG_LAYOUT_H_
#define DIOFS_ENV_LOG_LAYOUT_H_

#include <cstdint>

namespace diofs {

// One life of a log's stream: which bytes of the file its frames carry, and
// where in the stream they begin. It ends where the next one begins.
struct LogSegment {
  uint64_t logical = 0;     // offset in the file of its first byte
  uint64_t position = 0;    // of its first frame in the stream; whole blocks
  uint64_t generation = 0;  // random; names its frames and no others
  bool operator==(const LogSegment& other) const {
    return logical == other.logical && position == other.position &&
           generation == other.generation;
  }
};

// A place between two frames of a log.
struct LogPosition {
  uint64_t logical = 0;   // offset in the file of the next byte
  uint64_t position = 0;  // where the frame before ends in the stream
  uint32_t chain = 0;     // what the next frame names as the one before
  bool operator==(const LogPosition& other) const {
    return logical == other.logical && position == other.position &&
           chain == other.chain;
  }
};

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_LAYOUT_H_
