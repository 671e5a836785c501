// The part of Volume that serves open files: space, sizes, extents.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "env/volume.h"

namespace diofs {
Result Volume::WithReclaim(
    const std::function<Result(bool last_attempt)>& attempt) {
  {
    const ChangeLock lock(this);
    if (Result r = CheckWritableLocked(); !r.ok()) return r;
    Result result = attempt(/*last_attempt=*/false);
    if (result.error() != ENOSPC || (free_space_.pending_lsn() == 0 &&
                                     free_space_.discarding_blocks() == 0)) {
      return result;
    }
  }
  // Blocks of deleted files wait for their deletion to be durable, and then for
  // their discard, which may be given up.
  if (Result r = ReclaimFrees(); !r.ok()) return r;
  TakeBackDiscards();
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  return attempt(/*last_attempt=*/true);
}

Result Volume::Extend(const InodePtr& inode, uint64_t need_bytes,
                      uint64_t want_bytes, bool may_use_reserve) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  return WithReclaim([&](bool last_attempt) {
    const std::shared_ptr<const ExtentMap> map = inode->map();
    const uint64_t have = map->blocks();
    if (BlocksFor(need_bytes) <= have) return Result::Ok();
    const uint64_t need = BlocksFor(need_bytes) - have;
    const uint64_t want = std::max(
        need, BlocksFor(want_bytes) - std::min(BlocksFor(want_bytes), have));
    const SpacePriority priority = may_use_reserve
                                       ? PriorityOf(inode->kind, have + need)
                                       : SpacePriority::kBulk;
    if (priority == SpacePriority::kBulk) {
      if (Result r = CheckRoomLocked(Namespace::kExtentBytes, kRoomForNew);
          !r.ok()) {
        return r;
      }
    }
    std::vector<Extent> extents;
    Result result =
        free_space_.Allocate(need, want, priority, &extents, last_attempt);
    if (!result.ok()) return result;
    auto longer = std::make_shared<ExtentMap>(*map);
    for (const Extent& extent : extents) longer->Append(extent);
    inode->set_map(std::move(longer));
    return result;
  });
}

Result Volume::Publish(const InodePtr& inode, uint64_t size_bytes,
                       uint64_t checksum_blocks, Lsn* lsn) {
  *lsn = 0;
  if (Result r = CheckOwner(); !r.ok()) return r;
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  // A file without a name ends with its last handle: nothing to remember.
  if (inode->link_count == 0) return Result::Ok();
  const std::shared_ptr<const ExtentMap> map = inode->map();
  const uint64_t blocks = BlocksFor(size_bytes) + checksum_blocks;
  if (size_bytes == inode->journaled_bytes &&
      blocks <= inode->journaled_blocks) {
    return Result::Ok();
  }
  // Only Shrink makes a file smaller; and what is published has been allocated.
  if (size_bytes < inode->journaled_bytes || blocks > map->blocks()) {
    return Result::Error(EIO, "internal error: size and extents disagree");
  }
  std::string operations;
  if (blocks > inode->journaled_blocks) {
    const int64_t more =
        static_cast<int64_t>(map->CountExtents(blocks)) -
        static_cast<int64_t>(map->CountExtents(inode->journaled_blocks));
    const bool bulk = PriorityOf(inode->kind, blocks) == SpacePriority::kBulk;
    if (Result r = CheckRoomLocked(
            static_cast<uint64_t>(more) * Namespace::kExtentBytes,
            bulk ? kRoomForRename : kRoomForLogs);
        !r.ok()) {
      return r;
    }
    MetadataOp extents;
    extents.type = OpType::kExtents;
    extents.ino = inode->ino;
    extents.extents =
        map->Slice(inode->journaled_blocks, blocks - inode->journaled_blocks);
    extents.EncodeTo(&operations);
    namespace_.NoteExtents(more);
    inode->journaled_blocks = blocks;
  }
  MetadataOp size;
  size.type = OpType::kSize;
  size.ino = inode->ino;
  size.size = size_bytes;
  size.mtime_us = NowMicros();
  size.EncodeTo(&operations);
  inode->journaled_bytes = size_bytes;
  inode->mtime_us = size.mtime_us;
  *lsn = journal_->Append(operations);
  return Result::Ok();
}

Result Volume::Shrink(const InodePtr& inode, uint64_t size_bytes, Lsn* lsn) {
  *lsn = 0;
  if (Result r = CheckOwner(); !r.ok()) return r;
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  const uint64_t blocks = BlocksFor(size_bytes);
  if (inode->link_count == 0) {
    // All that keeps the old size from coming back is that the name is gone.
    inode->journaled_bytes = std::min(inode->journaled_bytes, size_bytes);
    inode->journaled_blocks = std::min(inode->journaled_blocks, blocks);
    *lsn = inode->unlink_lsn;
  } else {
    TrimExcessLocked(inode);
    *lsn = ShrinkJournaledLocked(inode.get(), size_bytes);
  }
  if (*lsn != 0) inode->trimmed_lsn = *lsn;
  // A reader may still be under way in what is cut off: it stays allocated
  // until the last handle is closed.
  const std::shared_ptr<const ExtentMap> map = inode->map();
  auto shorter = std::make_shared<ExtentMap>(*map);
  if (blocks < map->blocks()) shorter->Truncate(blocks, &inode->truncated);
  inode->Shrink(std::move(shorter), size_bytes);
  return Result::Ok();
}

Lsn Volume::ShrinkJournaledLocked(Inode* inode, uint64_t size_bytes) {
  const uint64_t blocks = BlocksFor(size_bytes);
  std::string operations;
  MetadataOp op;
  op.ino = inode->ino;
  if (size_bytes < inode->journaled_bytes) {
    op.type = OpType::kSize;
    op.size = size_bytes;
    op.mtime_us = NowMicros();
    op.EncodeTo(&operations);
    inode->mtime_us = op.mtime_us;
    inode->journaled_bytes = size_bytes;
  }
  if (blocks < inode->journaled_blocks) {
    op.type = OpType::kTrim;
    op.size = blocks;
    op.EncodeTo(&operations);
    const std::shared_ptr<const ExtentMap> map = inode->map();
    namespace_.NoteExtents(
        static_cast<int64_t>(map->CountExtents(blocks)) -
        static_cast<int64_t>(map->CountExtents(inode->journaled_blocks)));
    inode->journaled_blocks = blocks;
  }
  return operations.empty() ? 0 : journal_->Append(operations);
}

void Volume::TrimExcess(const InodePtr& inode) {
  if (forked()) return;
  const ChangeLock lock(this);
  // After an unmount the free space is nobody's concern any more.
  if (!unmounted_ && inode->link_count != 0) TrimExcessLocked(inode);
}

void Volume::TrimExcessLocked(const InodePtr& inode) {
  const std::shared_ptr<const ExtentMap> map = inode->map();
  if (map->blocks() <= inode->journaled_blocks) return;
  std::vector<Extent> excess;
  auto shorter = std::make_shared<ExtentMap>(*map);
  shorter->Truncate(inode->journaled_blocks, &excess);
  inode->set_map(std::move(shorter));
  free_space_.FreeNow(excess);
}

void Volume::Release(const InodePtr& inode) {
  if (forked()) return;
  const ChangeLock lock(this);
  // What an operation that failed has left may not be what the journal says:
  // nothing is given back that still may have an owner there.
  if (--inode->open_count != 0 || unmounted_ || stopped_ ||
      !read_only_reason_.empty()) {
    return;
  }
  if (inode->link_count == 0) {
    DropLocked(inode);
    CommitSoon();
    return;
  }
  if (!inode->truncated.empty()) {
    // At least as late as the Shrink that cut them off.
    free_space_.FreeWhenDurable(journal_->tail_lsn(),
                                std::move(inode->truncated));
    inode->truncated.clear();
    frees_pending_ = true;
    CommitSoon();
  }
  // What a writer that failed could not publish is gone, as after a crash.
  if (inode->log == nullptr) {
    inode->visible_bytes = inode->journaled_bytes;
    inode->written_bytes = inode->journaled_bytes;
  } else {
    inode->visible_bytes = inode->written_bytes.load();
  }
  TrimExcessLocked(inode);
}

}  // namespace diofs
