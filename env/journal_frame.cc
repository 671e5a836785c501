#include "env/journal_frame.h"

#include <algorithm>

#include "dio/align.h"
#include "env/coding.h"
#include "env/crc32c.h"

namespace diofs {
namespace {

static_assert(4 + 4 + 5 * 8 + 4 * 4 == kFrameHeaderBytes);
static_assert(kFrameCrcOffset + 4 == kFrameHeaderBytes);

bool Plausible(const FrameHeader& header) {
  constexpr uint32_t kKnown =
      FrameHeader::kSnapshot | FrameHeader::kSnapshotEnd;
  if ((header.flags & ~kKnown) != 0) return false;
  if (!header.snapshot() && (header.flags & FrameHeader::kSnapshotEnd) != 0) {
    return false;
  }
  // first_lsn - 1 <= last_lsn; neither side can wrap around.
  if (header.first_lsn == 0 || header.last_lsn == UINT64_MAX ||
      header.first_lsn > header.last_lsn + 1) {
    return false;
  }
  return header.sequence != 0 && header.sequence != UINT64_MAX &&
         header.durable_sequence < header.sequence;
}

}  // namespace

uint64_t FrameBytes(uint64_t payload_bytes) {
  return AlignUp(kFrameHeaderBytes + payload_bytes, kBlockBytes);
}

uint64_t FrameHeader::frame_bytes() const { return FrameBytes(payload_bytes); }

void FrameHeader::EncodeFrame(std::string_view payload, char* to) {
  payload_bytes = static_cast<uint32_t>(payload.size());
  std::string out;
  out.reserve(kFrameHeaderBytes);
  PutFixed32(&out, kFrameMagic);
  PutFixed32(&out, flags);
  PutFixed64(&out, nonce);
  PutFixed64(&out, sequence);
  PutFixed64(&out, first_lsn);
  PutFixed64(&out, last_lsn);
  PutFixed64(&out, durable_sequence);
  PutFixed32(&out, payload_bytes);
  PutFixed32(&out, op_count);
  PutFixed32(&out, chain);
  PutFixed32(&out, 0);  // the checksum, once all is there
  char* const payload_at = std::copy(out.begin(), out.end(), to);
  char* const padding_at =
      std::copy(payload.begin(), payload.end(), payload_at);
  std::fill(padding_at, to + frame_bytes(), '\0');
  crc = ComputeCrc(to);
  EncodeFixed(to + kFrameCrcOffset, crc);
}

bool FrameHeader::Decode(const char* from, FrameHeader* header) {
  BoundedReader reader(std::string_view(from, kFrameHeaderBytes));
  if (reader.Fixed32() != kFrameMagic) return false;
  header->flags = reader.Fixed32();
  header->nonce = reader.Fixed64();
  header->sequence = reader.Fixed64();
  header->first_lsn = reader.Fixed64();
  header->last_lsn = reader.Fixed64();
  header->durable_sequence = reader.Fixed64();
  header->payload_bytes = reader.Fixed32();
  header->op_count = reader.Fixed32();
  header->chain = reader.Fixed32();
  header->crc = reader.Fixed32();
  return Plausible(*header);
}

uint32_t FrameHeader::ComputeCrc(const char* frame) const {
  static constexpr char kZero[4] = {};
  uint32_t sum = Crc32c(frame, kFrameCrcOffset);
  sum = Crc32cExtend(sum, kZero, sizeof(kZero));
  return Crc32cExtend(sum, frame + kFrameHeaderBytes, payload_bytes);
}

uint32_t FirstChain(uint64_t nonce) {
  char bytes[sizeof(nonce)];
  EncodeFixed(bytes, nonce);
  return Crc32c(bytes, sizeof(bytes));
}

bool CountOperations(std::string_view payload, uint32_t* count) {
  *count = 0;
  while (!payload.empty()) {
    if (payload.size() < kOpHeaderBytes) return false;
    const auto body_bytes = DecodeFixed<uint32_t>(payload.data() + 4);
    if (payload.size() - kOpHeaderBytes < body_bytes) return false;
    payload.remove_prefix(kOpHeaderBytes + body_bytes);
    ++*count;
  }
  return true;
}

}  // namespace diofs
