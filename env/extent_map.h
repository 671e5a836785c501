#ifndef DIOFS_ENV_EXTENT_MAP_H_
#define DIOFS_ENV_EXTENT_MAP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "dio/align.h"
#include "dio/block_mapper.h"
#include "env/format.h"

namespace diofs {

// A run of device blocks (kBlockBytes each).
struct Extent {
  uint64_t start = 0;
  uint64_t count = 0;
  uint64_t end() const { return start + count; }
  bool operator==(const Extent& other) const {
    return start == other.start && count == other.count;
  }
};

// Blocks that hold the first `bytes` bytes of a file.
inline constexpr uint64_t BlocksFor(uint64_t bytes) {
  return DivideRoundUp(bytes, kBlockBytes);
}

// Which device blocks hold a file's blocks 0, 1, 2, …, without holes. A value
// that never changes once it is shared: a change makes a new map, and readers
// keep the one they hold.
class ExtentMap {
 public:
  ExtentMap() = default;

  uint64_t blocks() const {
    return extents_.empty() ? 0 : first_.back() + extents_.back().count;
  }
  const std::vector<Extent>& extents() const { return extents_; }

  // Adds `extent` behind the last block; a neighbour on the device is merged.
  void Append(Extent extent);
  // Keeps the first `blocks` blocks and moves the rest into *dropped.
  void Truncate(uint64_t blocks, std::vector<Extent>* dropped);
  // The extents of file blocks [first, first + count), which exist.
  std::vector<Extent> Slice(uint64_t first, uint64_t count) const;
  // How many extents hold the first `blocks` blocks.
  size_t CountExtents(uint64_t blocks) const;

  // The device run from `file_block` on: *extent starts at its device block.
  // False behind the last block.
  bool Lookup(uint64_t file_block, Extent* extent) const;

 private:
  std::vector<Extent> extents_;
  std::vector<uint64_t> first_;  // file block at which each extent begins
};

// The engine's view of one file at one moment: blocks below `written_blocks`
// are mapped, the rest of the allocation is unwritten, and behind it are holes.
// Immutable; any thread.
class ExtentMapper final : public BlockMapper {
 public:
  ExtentMapper(std::shared_ptr<const ExtentMap> map, uint64_t written_blocks)
      : map_(std::move(map)), written_blocks_(written_blocks) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool create,
                   BlockMapping* mapping) const override;

 private:
  const std::shared_ptr<const ExtentMap> map_;
  const uint64_t written_blocks_;
};

}  // namespace diofs

#endif  // DIOFS_ENV_EXTENT_MAP_H_
