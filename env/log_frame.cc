#include "env/log_frame.h"

#include <algorithm>
#include <array>

#include "dio/align.h"
#include "env/coding.h"
#include "env/crc32c.h"

namespace diofs {
namespace {

static_assert(4 + 4 + 3 * 8 + 4 + 4 == kLogFrameHeaderBytes);
static_assert(kLogFrameHeaderBytes % kLogFrameAlignBytes == 0);
constexpr size_t kCrcAt = kLogFrameHeaderBytes - 4;

}  // namespace

uint64_t LogFrameBytes(uint64_t payload_bytes) {
  return AlignUp(kLogFrameHeaderBytes + payload_bytes, kLogFrameAlignBytes);
}

uint32_t LogChain(uint64_t generation) {
  std::array<char, sizeof(generation)> bytes;
  EncodeFixed(bytes.data(), generation);
  return Crc32c(bytes.data(), bytes.size());
}

void LogFrameHeader::Encode(char* frame) {
  EncodeFixed(frame, kLogFrameMagic);
  EncodeFixed(frame + 4, payload_bytes);
  EncodeFixed(frame + 8, generation);
  EncodeFixed(frame + 16, logical);
  EncodeFixed(frame + 24, durable_upto);
  EncodeFixed(frame + 32, chain);
  char* const payload_end = frame + kLogFrameHeaderBytes + payload_bytes;
  std::fill(payload_end, frame + LogFrameBytes(payload_bytes), '\0');
  crc = ComputeCrc(frame);
  EncodeFixed(frame + kCrcAt, crc);
}

bool LogFrameHeader::Decode(const char* from, LogFrameHeader* header) {
  if (DecodeFixed<uint32_t>(from) != kLogFrameMagic) return false;
  header->payload_bytes = DecodeFixed<uint32_t>(from + 4);
  header->generation = DecodeFixed<uint64_t>(from + 8);
  header->logical = DecodeFixed<uint64_t>(from + 16);
  header->durable_upto = DecodeFixed<uint64_t>(from + 24);
  header->chain = DecodeFixed<uint32_t>(from + 32);
  header->crc = DecodeFixed<uint32_t>(from + kCrcAt);
  return header->payload_bytes != 0 &&
         header->payload_bytes <= kMaxLogPayload &&
         header->logical <= kMaxLogBytes &&
         header->durable_upto <= header->logical;
}

uint32_t LogFrameHeader::ComputeCrc(const char* frame) const {
  constexpr std::array<char, 4> kZeros{};
  uint32_t crc_so_far = Crc32c(frame, kCrcAt);
  crc_so_far = Crc32cExtend(crc_so_far, kZeros.data(), kZeros.size());
  return Crc32cExtend(crc_so_far, frame + kLogFrameHeaderBytes, payload_bytes);
}

}  // namespace diofs
