#include "env/region_header.h"

#include <cerrno>

#include "dio/align.h"
#include "env/coding.h"
#include "env/crc32c.h"

namespace diofs {
namespace {

static_assert(8 + 4 + 4 + 16 + 8 + 8 + 4 + 4 + 8 + 8 ==
              kRegionHeaderFieldBytes);
static_assert(kRegionHeaderFieldBytes <= kRegionHeaderBytes);
static_assert(kRegionHeaderBytes == kBlockBytes);

// Null for values that this format allows.
const char* ValueProblem(const RegionHeader& header, uint64_t region_bytes) {
  if (header.nonce == 0) return "nonce 0";
  // Counted up from 1: a number no volume can reach would wrap around in the
  // arithmetic below and above.
  if (header.first_sequence == 0 || header.first_sequence >= kMaxSequence) {
    return "sequence out of range";
  }
  if ((header.flags & ~RegionHeader::kTombstone) != 0) return "unknown flags";
  if (header.tombstone() != (header.successor_nonce != 0)) return "successor";
  if (!IsAligned(header.snapshot_bytes, kBlockBytes) ||
      header.snapshot_bytes > region_bytes - kRegionHeaderBytes) {
    return "size of the snapshot";
  }
  if (header.snapshot_frames == 0 ||
      header.snapshot_frames > header.snapshot_bytes / kBlockBytes) {
    return "count of snapshot frames";
  }
  return nullptr;
}

}  // namespace

std::string RegionHeader::Encode() const {
  std::string out;
  out.reserve(kRegionHeaderBytes);
  PutFixed64(&out, kRegionMagic);
  PutFixed32(&out, kFormatVersion);
  PutFixed32(&out, 0);  // the checksum, once all is there
  PutUuid(&out, uuid);
  PutFixed64(&out, nonce);
  PutFixed64(&out, first_sequence);
  PutFixed32(&out, snapshot_frames);
  PutFixed32(&out, flags);
  PutFixed64(&out, successor_nonce);
  PutFixed64(&out, snapshot_bytes);
  out.resize(kRegionHeaderBytes, '\0');
  EncodeFixed(&out[kBlockCrcOffset], BlockCrc(out));
  return out;
}

Result RegionHeader::Decode(std::string_view block, const Uuid& volume_uuid,
                            uint64_t region_bytes, RegionHeader* header) {
  const auto bad = [](const std::string& what) {
    return Result::Error(EUCLEAN, "region header: " + what);
  };
  BoundedReader reader(block);
  if (block.size() != kRegionHeaderBytes) return bad("cut short");
  if (reader.Fixed64() != kRegionMagic) return bad("no magic");
  const uint32_t version = reader.Fixed32();
  const uint32_t crc = reader.Fixed32();
  if (BlockCrc(block) != crc) return bad("checksum");
  if (version != kFormatVersion) return bad("version");

  RegionHeader found;
  reader.ReadUuid(&found.uuid);
  found.nonce = reader.Fixed64();
  found.first_sequence = reader.Fixed64();
  found.snapshot_frames = reader.Fixed32();
  found.flags = reader.Fixed32();
  found.successor_nonce = reader.Fixed64();
  found.snapshot_bytes = reader.Fixed64();
  if (found.uuid != volume_uuid) return bad("of another volume");
  const char* problem = ValueProblem(found, region_bytes);
  if (problem != nullptr) return bad(problem);
  if (block.find_first_not_of('\0', kRegionHeaderFieldBytes) != block.npos) {
    return bad("unused bytes in use");
  }
  *header = found;
  return Result::Ok();
}

}  // namespace diofs
