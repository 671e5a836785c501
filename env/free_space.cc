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

void FreeSpace::FreeNow(const std::vector<Extent>& extents) {
  for (const Extent& extent : extents) {
    // Only what was taken comes back; a double free would be a bug that fsck's
    // sum shows, and must not take the process down.
    (void)allocator_.Free(extent);
  }
}

void FreeSpace::FreeWhenDurable(Lsn lsn, std::vector<Extent> extents) {
  if (extents.empty()) return;
  pending_blocks_ += Blocks(extents);
  // A file unlinked long ago may close last: keep the queue in order.
  auto at = pending_.end();
  while (at != pending_.begin() && std::prev(at)->lsn > lsn) --at;
  pending_.insert(at, PendingFree{lsn, std::move(extents)});
}

void FreeSpace::Release(Lsn durable, std::vector<Extent>* to_discard) {
  while (!pending_.empty() && pending_.front().lsn <= durable) {
    const std::vector<Extent>& extents = pending_.front().extents;
    pending_blocks_ -= Blocks(extents);
    if (to_discard == nullptr) {
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
