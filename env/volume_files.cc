// The part of Volume that serves open files: space, sizes, extents.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "env/volume.h"

namespace diofs {
namespace {

constexpr uint64_t kExtentBytesInSnapshot = 16;

uint64_t BlocksFor(uint64_t bytes) { return DivideRoundUp(bytes, kBlockBytes); }

// How many extents the first `blocks` blocks of a file lie in.
int64_t ExtentsCovering(const ExtentMap& map, uint64_t blocks) {
  int64_t extents = 0;
  uint64_t covered = 0;
  for (const Extent& extent : map.extents()) {
    if (covered >= blocks) break;
    covered += extent.count;
    ++extents;
  }
  return extents;
}

// Without these RocksDB can neither record a deletion nor recover; CURRENT,
// OPTIONS and their like are kOther.
bool MayUseReserve(FileKind kind) {
  return kind != FileKind::kSst && kind != FileKind::kBlob;
}

}  // namespace

Result Volume::Extend(const InodePtr& inode, uint64_t need_bytes,
                      uint64_t want_bytes) {
  Result result;
  for (int attempt = 0; attempt < 2; ++attempt) {
    {
      std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
      if (Result r = CheckWritableLocked(); !r.ok()) return r;
      const std::shared_ptr<const ExtentMap> map = inode->map();
      const uint64_t have = map->blocks();
      if (BlocksFor(need_bytes) <= have) return Result::Ok();
      const uint64_t need = BlocksFor(need_bytes) - have;
      const uint64_t want = std::max(
          need, BlocksFor(want_bytes) - std::min(BlocksFor(want_bytes), have));
      const bool reserve = MayUseReserve(inode->kind);
      if (!reserve) {
        if (Result r = CheckRoomLocked(kExtentBytesInSnapshot); !r.ok()) {
          return r;
        }
      }
      std::vector<Extent> extents;
      result = free_space_.Allocate(need, want, reserve, &extents);
      if (result.ok()) {
        auto longer = std::make_shared<ExtentMap>(*map);
        for (const Extent& extent : extents) longer->Append(extent);
        inode->set_map(std::move(longer));
        return result;
      }
      if (result.error() != ENOSPC || free_space_.pending_lsn() == 0) {
        return result;
      }
    }
    // Blocks of deleted files wait for their deletion to be durable.
    if (Result r = ReclaimFrees(); !r.ok()) return r;
  }
  return result;
}

Result Volume::Publish(const InodePtr& inode, uint64_t size_bytes, Lsn* lsn) {
  *lsn = 0;
  std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  // A file without a name ends with its last handle: nothing to remember.
  if (inode->link_count == 0) return Result::Ok();
  if (size_bytes == inode->journaled_bytes) return Result::Ok();
  const std::shared_ptr<const ExtentMap> map = inode->map();
  const uint64_t blocks = BlocksFor(size_bytes);
  std::string operations;
  if (blocks > inode->journaled_blocks) {
    MetadataOp extents;
    extents.type = OpType::kExtents;
    extents.ino = inode->ino;
    extents.extents =
        map->Slice(inode->journaled_blocks, blocks - inode->journaled_blocks);
    extents.EncodeTo(&operations);
    namespace_.NoteExtents(ExtentsCovering(*map, blocks) -
                           ExtentsCovering(*map, inode->journaled_blocks));
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
  std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  const uint64_t blocks = BlocksFor(size_bytes);
  const std::shared_ptr<const ExtentMap> map = inode->map();
  if (inode->link_count != 0 && size_bytes < inode->journaled_bytes) {
    std::string operations;
    MetadataOp op;
    op.type = OpType::kSize;
    op.ino = inode->ino;
    op.size = size_bytes;
    op.mtime_us = NowMicros();
    op.EncodeTo(&operations);
    inode->mtime_us = op.mtime_us;
    inode->journaled_bytes = size_bytes;
    if (blocks < inode->journaled_blocks) {
      op.type = OpType::kTrim;
      op.size = blocks;
      op.EncodeTo(&operations);
      namespace_.NoteExtents(ExtentsCovering(*map, blocks) -
                             ExtentsCovering(*map, inode->journaled_blocks));
      inode->journaled_blocks = blocks;
    }
    *lsn = journal_->Append(operations);
  }
  inode->visible_bytes.store(size_bytes, std::memory_order_release);
  inode->written_bytes.store(size_bytes, std::memory_order_release);
  if (blocks < map->blocks()) {
    // A reader may still be under way in what is cut off: it stays allocated
    // until the last handle is closed.
    auto shorter = std::make_shared<ExtentMap>(*map);
    shorter->Truncate(blocks, &inode->truncated);
    inode->set_map(std::move(shorter));
  }
  return Result::Ok();
}

void Volume::TrimExcess(const InodePtr& inode) {
  std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
  // After an unmount the free space is nobody's concern any more.
  if (unmounted_ || inode->link_count == 0) return;
  const std::shared_ptr<const ExtentMap> map = inode->map();
  if (map->blocks() <= inode->journaled_blocks) return;
  std::vector<Extent> excess;
  auto shorter = std::make_shared<ExtentMap>(*map);
  shorter->Truncate(inode->journaled_blocks, &excess);
  inode->set_map(std::move(shorter));
  free_space_.FreeNow(excess);
}

void Volume::Release(const InodePtr& inode) {
  if (fork_guard_.Crossed()) return;
  {
    std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
    if (--inode->open_count != 0 || unmounted_ || !read_only_reason_.empty()) {
      return;
    }
    if (inode->link_count == 0) {
      DropLocked(inode);
      return;
    }
    if (!inode->truncated.empty()) {
      // At least as late as the Shrink that cut them off.
      free_space_.FreeWhenDurable(journal_->tail_lsn(),
                                  std::move(inode->truncated));
      inode->truncated.clear();
      frees_pending_ = true;
    }
    // What a writer that failed could not publish is gone, as after a crash.
    inode->visible_bytes = inode->journaled_bytes;
    inode->written_bytes = inode->journaled_bytes;
  }
  TrimExcess(inode);
}

}  // namespace diofs
