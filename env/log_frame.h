#ifndef DIOFS_ENV_LOG_FRAME_H_
#define DIOFS_ENV_LOG_FRAME_H_

#include <cstddef>
#include <cstdint>

#include "env/format.h"

namespace diofs {

// The header of one frame of a log file: bytes of the file, and what proves
// that they belong there. A plain value.
struct LogFrameHeader {
  uint32_t payload_bytes = 0;  // 1 to kMaxLogPayload
  uint64_t generation = 0;     // of the segment
  // Offset in the file of the first byte it carries.
  uint64_t logical = 0;
  // Everything below was durable when the frame was written.
  uint64_t durable_upto = 0;
  uint32_t chain = 0;  // checksum of the frame before
  uint32_t crc = 0;    // of the header, this field as zero, and the payload

  // Offset in the file behind its last byte.
  uint64_t end() const { return logical + payload_bytes; }

  // Writes the header in front of the payload, which lies at `frame` +
  // kLogFrameHeaderBytes, and zeros behind it up to LogFrameBytes; sets crc.
  void Encode(char* frame);

  // Reads the header at `from` (kLogFrameHeaderBytes long). False where there
  // is none: another magic, or numbers that no writer puts together. The
  // checksum is not looked at.
  static bool Decode(const char* from, LogFrameHeader* header);
  // Of the header and payload at `frame`, as the header must state it.
  uint32_t ComputeCrc(const char* frame) const;
};

// Bytes of the stream that a frame with such a payload takes.
uint64_t LogFrameBytes(uint64_t payload_bytes);

// What the first frame of a segment has in place of the checksum of the frame
// before.
uint32_t LogChain(uint64_t generation);

}  // namespace diofs

#endif  // DIOFS_ENV_LOG_FRAME_H_
