#ifndef DIOFS_ENV_REGION_HEADER_H_
#define DIOFS_ENV_REGION_HEADER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "dio/result.h"
#include "env/format.h"

namespace diofs {

// The first block of a journal region: written once its snapshot is durable,
// which makes the region the live one, and again as a tombstone once the other
// region has taken over. A plain value.
struct RegionHeader {
  // In `flags`.
  static constexpr uint32_t kTombstone = 1;

  Uuid uuid{};         // of the volume
  uint64_t nonce = 0;  // of this use of the region; random, never 0
  uint64_t first_sequence = 0;
  uint32_t snapshot_frames = 0;
  uint32_t flags = 0;
  uint64_t successor_nonce = 0;  // of a tombstone, else 0
  uint64_t snapshot_bytes = 0;   // of all snapshot frames, padding included

  bool tombstone() const { return (flags & kTombstone) != 0; }
  // Where frames of operations begin, in bytes from the start of the region.
  uint64_t deltas_offset() const { return kRegionHeaderBytes + snapshot_bytes; }

  // kRegionHeaderBytes long, checksummed.
  std::string Encode() const;
  // EUCLEAN, saying why, for anything else than the header of a region of
  // `region_bytes` that belongs to the volume `uuid`.
  static Result Decode(std::string_view block, const Uuid& uuid,
                       uint64_t region_bytes, RegionHeader* header);
};

}  // namespace diofs

#endif  // DIOFS_ENV_REGION_HEADER_H_
