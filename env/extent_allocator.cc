#include "env/extent_allocator.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>

namespace diofs {

namespace {

Result Contradiction(const char* what, Extent extent) {
  return Result::Error(
      EUCLEAN, std::string(what) + ": " + std::to_string(extent.count) +
                   " blocks from block " + std::to_string(extent.start));
}

bool IsRange(Extent extent) {
  return extent.count > 0 && extent.count <= UINT64_MAX - extent.start;
}

}  // namespace

Result ExtentAllocator::Free(Extent extent) {
  if (!IsRange(extent)) return Contradiction("no range of blocks", extent);
  const auto next = by_start_.lower_bound(extent.start);
  const auto previous =
      next == by_start_.begin() ? by_start_.end() : std::prev(next);
  uint64_t start = extent.start;
  uint64_t end = extent.end();
  if (next != by_start_.end() && next->first < end) {
    return Contradiction("freed twice", extent);
  }
  const bool has_previous = previous != by_start_.end();
  const uint64_t previous_end =
      has_previous ? previous->first + previous->second : 0;
  if (has_previous && previous_end > start) {
    return Contradiction("freed twice", extent);
  }
  if (next != by_start_.end() && next->first == end) {
    end += next->second;
    Erase(next);
  }
  if (has_previous && previous_end == start) {
    start = previous->first;
    Erase(previous);
  }
  Insert(start, end - start);
  return Result::Ok();
}

Result ExtentAllocator::Take(Extent extent) {
  if (!IsRange(extent)) return Contradiction("no range of blocks", extent);
  auto run = by_start_.upper_bound(extent.start);
  if (run == by_start_.begin()) return Contradiction("not free", extent);
  --run;
  const uint64_t start = run->first;
  const uint64_t end = start + run->second;
  if (end < extent.end()) return Contradiction("not free", extent);
  Erase(run);
  if (start < extent.start) Insert(start, extent.start - start);
  if (extent.end() < end) Insert(extent.end(), end - extent.end());
  return Result::Ok();
}

Result ExtentAllocator::Allocate(uint64_t want, uint64_t need, uint64_t reserve,
                                 std::vector<Extent>* extents) {
  if (need == 0 || need > want) {
    return Result::Error(EINVAL, "allocation of no blocks");
  }
  const uint64_t usable = free_blocks_ > reserve ? free_blocks_ - reserve : 0;
  if (usable < need) {
    return Result::Error(ENOSPC, std::to_string(need) + " blocks needed, " +
                                     std::to_string(usable) + " free");
  }
  uint64_t left = std::min(want, usable);
  while (left > 0) {
    // Pairs are ordered by size, then address: the first one not below
    // {size, 0} is the lowest run of the size that fits best.
    auto run = by_size_.lower_bound({left, 0});
    if (run == by_size_.end()) run = by_size_.lower_bound({largest_run(), 0});
    const auto [run_blocks, start] = *run;
    const uint64_t taken = std::min(left, run_blocks);
    Erase(by_start_.find(start));
    if (taken < run_blocks) Insert(start + taken, run_blocks - taken);
    extents->push_back({start, taken});
    left -= taken;
  }
  return Result::Ok();
}

uint64_t ExtentAllocator::FreeFrom(uint64_t start) const {
  auto run = by_start_.upper_bound(start);
  if (run == by_start_.begin()) return 0;
  --run;
  const uint64_t end = run->first + run->second;
  return end > start ? end - start : 0;
}

void ExtentAllocator::Insert(uint64_t start, uint64_t count) {
  by_start_.emplace(start, count);
  by_size_.emplace(count, start);
  free_blocks_ += count;
}

void ExtentAllocator::Erase(std::map<uint64_t, uint64_t>::iterator run) {
  free_blocks_ -= run->second;
  by_size_.erase({run->second, run->first});
  by_start_.erase(run);
}

}  // namespace diofs
