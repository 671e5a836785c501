#include "env/free_space.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

namespace diofs {
namespace {

// The reserve: one percent of the device, within these bounds in blocks (1 MiB
// and 64 MiB).
constexpr uint64_t kMinReserveBlocks = 256;
constexpr uint64_t kMaxReserveBlocks = 16384;
// What one allocation takes from the reserve at most, beyond its need: 1 MiB.
constexpr uint64_t kReservePieceBlocks = 256;

// What is kept of deleted logs, for the next ones: so many runs, and a
// sixteenth of the volume. RocksDB has a handful of logs at a time.
constexpr size_t kMaxLogExtents = 16;
constexpr uint64_t kLogExtentsShare = 16;

// A small file of any other kind may be CURRENT or a temporary that becomes it;
// a large one may not live on what is kept for those.
constexpr uint64_t kVitalFileBlocks = 256;

uint64_t Blocks(const std::vector<Extent>& extents) {
  uint64_t blocks = 0;
  for (const Extent& extent : extents) blocks += extent.count;
  return blocks;
}

}  // namespace

SpacePriority PriorityOf(FileKind kind, uint64_t blocks) {
  switch (kind) {
    case FileKind::kWal:
      return SpacePriority::kLog;
    case FileKind::kManifest:
      return SpacePriority::kVital;
    case FileKind::kOther:
      return blocks <= kVitalFileBlocks ? SpacePriority::kVital
                                        : SpacePriority::kBulk;
    case FileKind::kSst:
    case FileKind::kBlob:
    case FileKind::kInfoLog:
      break;
  }
  return SpacePriority::kBulk;
}

Result FreeSpace::Init(uint64_t total_blocks,
                       const std::vector<Extent>& metadata) {
  allocator_ = ExtentAllocator();
  pending_.clear();
  log_extents_.clear();
  log_extent_blocks_ = 0;
  pending_blocks_ = 0;
  discarding_blocks_ = 0;
  total_blocks_ = total_blocks;
  metadata_blocks_ = Blocks(metadata);
  reserve_blocks_ =
      std::clamp(total_blocks / 100, kMinReserveBlocks, kMaxReserveBlocks);
  if (Result r = allocator_.Free({0, total_blocks}); !r.ok()) return r;
  for (const Extent& extent : metadata) {
    if (Result r = allocator_.Take(extent); !r.ok()) return r;
  }
  return Result::Ok();
}

Result FreeSpace::Allocate(uint64_t need, uint64_t want, SpacePriority priority,
                           std::vector<Extent>* extents, bool last_attempt) {
  // A hint may ask for more than the volume can spare; a quarter of what is
  // free leaves room for the files beside it.
  const uint64_t free_blocks = allocator_.free_blocks();
  want = std::max(need, std::min(want, need + free_blocks / 4));
  Result result = allocator_.Allocate(want, need, reserve_blocks_, extents);
  if (result.ok() || result.error() != ENOSPC ||
      priority == SpacePriority::kBulk ||
      (discarding_blocks_ > 0 && !last_attempt)) {
    return result;
  }
  const uint64_t kept =
      priority == SpacePriority::kLog ? reserve_blocks_ / 2 : 0;
  want = std::max(need, std::min(want, kReservePieceBlocks));
  return allocator_.Allocate(want, need, kept, extents);
}

Result FreeSpace::AllocateForLog(uint64_t need, uint64_t want,
                                 SpacePriority priority,
                                 std::vector<Extent>* extents,
                                 bool last_attempt) {
  // Not where room is scarce, which has rules of its own.
  const uint64_t enough = std::max(need, want / 2);
  const bool plenty =
      allocator_.free_blocks() / 4 >= want + reserve_blocks_ && need > 0;
  for (auto last = log_extents_.rbegin(); plenty && last != log_extents_.rend();
       ++last) {
    const uint64_t free_blocks = allocator_.FreeFrom(last->start);
    if (free_blocks < enough) continue;
    const Extent taken = {last->start, std::min(free_blocks, want)};
    if (Result r = allocator_.Take(taken); !r.ok()) return r;
    log_extent_blocks_ -= last->count;
    if (last->count > taken.count) {
      *last = {taken.end(), last->count - taken.count};
      log_extent_blocks_ += last->count;
    } else {
      log_extents_.erase(std::next(last).base());
    }
    extents->push_back(taken);
    return Result::Ok();
  }
  return Allocate(need, want, priority, extents, last_attempt);
}

void FreeSpace::KeepForLogs(const std::vector<Extent>& extents,
                            std::vector<Extent>* to_discard) {
  FreeNow(extents);
  for (const Extent& extent : extents) {
    log_extents_.push_back(extent);
    log_extent_blocks_ += extent.count;
  }
  while (log_extents_.size() > kMaxLogExtents ||
         log_extent_blocks_ > total_blocks_ / kLogExtentsShare) {
    const Extent oldest = log_extents_.front();
    log_extents_.pop_front();
    log_extent_blocks_ -= oldest.count;
    if (to_discard != nullptr && allocator_.Take(oldest).ok()) {
      discarding_blocks_ += oldest.count;
      to_discard->push_back(oldest);
    }
  }
}

void FreeSpace::FreeNow(const std::vector<Extent>& extents) {
  for (const Extent& extent : extents) {
    // Only what was taken comes back; a double free would be a bug that fsck's
    // sum shows, and must not take the process down.
    (void)allocator_.Free(extent);
  }
}

void FreeSpace::FreeWhenDurable(Lsn lsn, std::vector<Extent> extents,
                                FileLayout layout) {
  if (extents.empty()) return;
  pending_blocks_ += Blocks(extents);
  // A file unlinked long ago may close last: keep the queue in order.
  auto at = pending_.end();
  while (at != pending_.begin() && std::prev(at)->lsn > lsn) --at;
  pending_.insert(at, PendingFree{lsn, std::move(extents), layout});
}

void FreeSpace::Release(Lsn durable, std::vector<Extent>* to_discard) {
  while (!pending_.empty() && pending_.front().lsn <= durable) {
    const std::vector<Extent>& extents = pending_.front().extents;
    pending_blocks_ -= Blocks(extents);
    if (pending_.front().layout == FileLayout::kLog) {
      KeepForLogs(extents, to_discard);
    } else if (to_discard == nullptr) {
      FreeNow(extents);
    } else {
      discarding_blocks_ += Blocks(extents);
      to_discard->insert(to_discard->end(), extents.begin(), extents.end());
    }
    pending_.pop_front();
  }
}

void FreeSpace::Discarded(Extent extent) {
  discarding_blocks_ -= extent.count;
  FreeNow({extent});
}

}  // namespace diofs
