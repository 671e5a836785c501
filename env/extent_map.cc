#include "env/extent_map.h"

#include <algorithm>
#include <cerrno>

namespace diofs {

void ExtentMap::Append(Extent extent) {
  if (extent.count == 0) return;
  if (!extents_.empty() && extents_.back().end() == extent.start) {
    extents_.back().count += extent.count;
    return;
  }
  first_.push_back(blocks());
  extents_.push_back(extent);
}

void ExtentMap::Truncate(uint64_t blocks, std::vector<Extent>* dropped) {
  const size_t kept = CountExtents(blocks);
  if (kept > 0) {
    Extent* last = &extents_[kept - 1];
    const uint64_t left = blocks - first_[kept - 1];
    if (left < last->count) {
      dropped->push_back({last->start + left, last->count - left});
      last->count = left;
    }
  }
  dropped->insert(dropped->end(), extents_.begin() + kept, extents_.end());
  extents_.resize(kept);
  first_.resize(kept);
}

std::vector<Extent> ExtentMap::Slice(uint64_t first, uint64_t count) const {
  std::vector<Extent> slice;
  Extent extent;
  while (count > 0 && Lookup(first, &extent)) {
    extent.count = std::min(extent.count, count);
    slice.push_back(extent);
    first += extent.count;
    count -= extent.count;
  }
  return slice;
}

size_t ExtentMap::CountExtents(uint64_t blocks) const {
  return std::lower_bound(first_.begin(), first_.end(), blocks) -
         first_.begin();
}

bool ExtentMap::Lookup(uint64_t file_block, Extent* extent) const {
  const auto behind =
      std::upper_bound(first_.begin(), first_.end(), file_block);
  if (behind == first_.begin()) return false;
  const size_t index = behind - first_.begin() - 1;
  const uint64_t skip = file_block - first_[index];
  if (skip >= extents_[index].count) return false;
  extent->start = extents_[index].start + skip;
  extent->count = extents_[index].count - skip;
  return true;
}

Result ExtentMapper::GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                               BlockMapping* mapping) const {
  // Holes are never filled here: the volume allocates before it writes.
  if (count == 0) return Result::Error(EINVAL, "mapping of no blocks");
  *mapping = BlockMapping();
  Extent extent;
  if (!map_->Lookup(first, &extent)) {
    mapping->count = count;
    return Result::Ok();
  }
  mapping->device_block = extent.start;
  mapping->count = std::min(count, extent.count);
  if (first < written_blocks_) {
    mapping->state = BlockState::kMapped;
    mapping->count = std::min(mapping->count, written_blocks_ - first);
  } else {
    mapping->state = BlockState::kUnwritten;
  }
  return Result::Ok();
}

}  // namespace diofs
