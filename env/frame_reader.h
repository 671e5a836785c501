#ifndef DIOFS_ENV_FRAME_READER_H_
#define DIOFS_ENV_FRAME_READER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/result.h"
#include "env/journal_frame.h"
#include "env/region_header.h"

namespace diofs {

// Walks the frames of one journal region, trusting nothing of what it reads.
// Lives on the stack of a recovery; not thread-safe.
class FrameReader {
 public:
  struct Frame {
    FrameHeader header;
    uint64_t offset = 0;       // bytes from the start of the region
    std::string_view payload;  // valid until the reader is called again
  };
  // A place between two frames.
  struct Position {
    uint64_t offset = kRegionHeaderBytes;  // of the next frame, in the region
    uint64_t sequence = 0;                 // of the next frame
    uint32_t chain = 0;                    // checksum of the frame before
    uint64_t last_lsn = 0;                 // of the frame before
  };

  FrameReader(BlockDevice* device, uint64_t region_offset,
              uint64_t region_bytes, const RegionHeader& header);

  // Gives the frame at position() and moves behind it. Where none follows,
  // *found is false and end_reason() says what is there instead. EUCLEAN for a
  // whole frame of this chain that contradicts the ones before.
  Result Next(Frame* frame, bool* found);

  // What it takes to prove that the frame missing at position() was there.
  enum class Proof : uint8_t {
    kDurable,  // a frame that names it durable
    kWritten,  // any later one
  };
  // Looks for it, from position() to the end of the region.
  Result FindProof(Proof proof, Frame* frame, bool* found);

  const Position& position() const { return position_; }
  const std::string& end_reason() const { return end_reason_; }

 private:
  // Reads are at least this long, for most frames are short.
  static constexpr uint64_t kWindowBytes = 1 << 20;

  // Points *bytes at `count` bytes of the region, which has them.
  Result View(uint64_t offset, uint64_t count, const char** bytes);
  // *problem is null for a header of this region whose frame fits into it.
  Result ReadHeader(uint64_t offset, FrameHeader* header, const char** problem);
  // Completes `frame`, whose header and offset are set.
  Result ReadBody(Frame* frame, const char** problem);
  const char* Contradiction(const FrameHeader& header) const;

  BlockDevice* const device_;
  const uint64_t region_offset_;
  const uint64_t region_bytes_;
  const RegionHeader region_;
  Position position_;
  std::string end_reason_;
  // Holds the region's bytes [window_begin_, window_end_).
  AlignedBuffer window_;
  uint64_t window_begin_ = 0;
  uint64_t window_end_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_ENV_FRAME_READER_H_
