#ifndef DIOFS_ENV_JOURNAL_FRAME_H_
#define DIOFS_ENV_JOURNAL_FRAME_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "env/format.h"

namespace diofs {

// The header of one frame of the journal: whole operations that take effect
// together, or a piece of a snapshot. A plain value.
struct FrameHeader {
  // In `flags`.
  static constexpr uint32_t kSnapshot = 1;     // a piece of the snapshot
  static constexpr uint32_t kSnapshotEnd = 2;  // and the last one

  uint32_t flags = 0;
  uint64_t nonce = 0;  // of the region
  uint64_t sequence = 0;
  // The transactions it carries; first_lsn == last_lsn + 1 for none. A piece of
  // a snapshot says 1 and the last one that the snapshot contains.
  uint64_t first_lsn = 1;
  uint64_t last_lsn = 0;
  // The highest sequence known durable when the frame was written.
  uint64_t durable_sequence = 0;
  uint32_t payload_bytes = 0;
  uint32_t op_count = 0;
  uint32_t chain = 0;  // checksum of the frame before
  uint32_t crc = 0;

  bool snapshot() const { return (flags & kSnapshot) != 0; }
  // With header and padding.
  uint64_t frame_bytes() const;

  // Writes header, payload and padding to the frame_bytes() at `to`; sets
  // payload_bytes first and crc.
  void EncodeFrame(std::string_view payload, char* to);

  // Reads the header at `from` (kFrameHeaderBytes long). False where there is
  // none: another magic, unknown flags, numbers that no writer puts together.
  // The checksum is not looked at.
  static bool Decode(const char* from, FrameHeader* header);
  // Of the header and payload at `frame`, as the header must state it.
  uint32_t ComputeCrc(const char* frame) const;
};

// Bytes a frame with such a payload takes: a multiple of kBlockBytes.
uint64_t FrameBytes(uint64_t payload_bytes);

// What the first frame of a region has in place of the checksum of the frame
// before.
uint32_t FirstChain(uint64_t nonce);

// Counts the operations that `payload` consists of, looking at no body. False
// where it is not a sequence of whole operations.
bool CountOperations(std::string_view payload, uint32_t* count);

}  // namespace diofs

#endif  // DIOFS_ENV_JOURNAL_FRAME_H_
