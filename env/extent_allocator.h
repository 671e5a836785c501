#ifndef DIOFS_ENV_EXTENT_ALLOCATOR_H_
#define DIOFS_ENV_EXTENT_ALLOCATOR_H_

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "dio/result.h"
#include "env/extent_map.h"

namespace diofs {

// The free blocks of the volume. Never stored: rebuilt at mount from what the
// inodes own. Best fit, the lowest address on ties. Not thread-safe; the volume
// guards it.
class ExtentAllocator {
 public:
  ExtentAllocator() = default;

  // Adds blocks to the free ones, joining neighbours. EUCLEAN, changing
  // nothing, where a block of them is free already or the count is 0.
  Result Free(Extent extent);
  // Takes exactly these blocks. EUCLEAN, changing nothing, where one of them is
  // not free.
  Result Take(Extent extent);

  // Takes `want` blocks, in as few runs as the free space allows: one run that
  // fits best, else the largest runs there are. Where fewer than `want` are
  // free beyond `reserve` blocks, takes what there is but at least `need`;
  // ENOSPC, taking nothing, below that. 1 <= need <= want. Appends to *extents.
  Result Allocate(uint64_t want, uint64_t need, uint64_t reserve,
                  std::vector<Extent>* extents);

  // How many blocks from `start` on are free; 0 where that one is not.
  uint64_t FreeFrom(uint64_t start) const;

  uint64_t free_blocks() const { return free_blocks_; }
  uint64_t largest_run() const {
    return by_size_.empty() ? 0 : by_size_.rbegin()->first;
  }
  size_t run_count() const { return by_start_.size(); }
  // Free runs by address: start -> count.
  const std::map<uint64_t, uint64_t>& runs() const { return by_start_; }

 private:
  void Insert(uint64_t start, uint64_t count);
  void Erase(std::map<uint64_t, uint64_t>::iterator run);

  std::map<uint64_t, uint64_t> by_start_;            // start -> count
  std::set<std::pair<uint64_t, uint64_t>> by_size_;  // {count, start}
  uint64_t free_blocks_ = 0;
};

}  // namespace diofs

#endif  // DIOFS_ENV_EXTENT_ALLOCATOR_H_
