// The part of Volume that serves logs: segments, blocks, and where they end.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/align.h"
#include "env/log_scan.h"
#include "env/open_file.h"
#include "env/volume.h"

namespace diofs {
namespace {

constexpr uint64_t kSegmentBytesInSnapshot = 48;

}  // namespace

Result Volume::SizeLog(const InodePtr& inode) {
  LogState* const log = inode->log.get();
  if (log == nullptr || log->sized()) return Result::Ok();
  const std::lock_guard<std::mutex> sizing(log->sizing_mutex());
  if (log->sized()) return Result::Ok();
  LogScan scan;
  if (Result r = ScanLog(device_.get(), *inode, /*from_start=*/false, &scan);
      !r.ok()) {
    return r;
  }
  if (!scan.damage.empty()) {
    log->SetDamage(scan.end.logical, scan.damage);
    Log(device_->name() + ": inode " + std::to_string(inode->ino) +
        ": log damaged: " + scan.damage);
  }
  inode->written_bytes.store(scan.length, std::memory_order_release);
  inode->visible_bytes.store(scan.length, std::memory_order_release);
  log->SetEnd(scan.end);
  return Result::Ok();
}

// Its blocks stay its own meanwhile.
Result Volume::SizeUnopenedLog(const InodePtr& inode) {
  std::shared_ptr<OpenFile> opened;
  {
    std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
    if (unmounted_) return Result::Error(ESTALE, "volume is unmounted");
    if (inode->link_count == 0 && inode->open_count == 0) return Result::Ok();
    opened = OpenLocked(inode);
  }
  return SizeLog(inode);
}

Result Volume::ContinueLog(const InodePtr& inode, LogSegment* segment,
                           bool* goes_on) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  *goes_on = inode->log->TakeSegment();
  if (!*goes_on) return BeginSegment(inode, segment);
  const LogState::Journaled journaled = inode->log->journaled();
  *segment = journaled.segments.back();
  if (!journaled.closed) return Result::Ok();
  Result result = ReopenLog(inode);
  if (!result.ok()) inode->log->LeaveSegment();
  return result;
}

Result Volume::ReopenLog(const InodePtr& inode) {
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  MetadataOp op;
  op.type = OpType::kLogEnd;
  op.ino = inode->ino;
  op.log_end = inode->log->known();
  op.mtime_us = inode->mtime_us;
  inode->log->SetKnown(op.log_end, /*closed=*/false);
  if (inode->link_count == 0) return Result::Ok();
  std::string operations;
  op.EncodeTo(&operations);
  inode->named_lsn = journal_->Append(operations);
  return Result::Ok();
}

Result Volume::BeginSegment(const InodePtr& inode, LogSegment* segment) {
  if (Result r = FlushDevice(); !r.ok()) return r;
  if (Result r = RandomNonce(&segment->generation); !r.ok()) return r;
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  if (Result r = CheckRoomLocked(kSegmentBytesInSnapshot, kRoomForLogs);
      !r.ok()) {
    return r;
  }
  const LogPosition end = inode->log->end();
  segment->logical = end.logical;
  segment->position = AlignUp(end.position, kBlockBytes);
  int64_t more = 0;
  {
    const std::lock_guard<std::mutex> change(inode->log->change_mutex());
    more = inode->log->Begin(*segment);
    inode->log->SetEnd(inode->log->known());
  }
  if (inode->link_count == 0) return Result::Ok();
  namespace_.NoteSegments(more);
  MetadataOp op;
  op.type = OpType::kSegment;
  op.ino = inode->ino;
  op.segment = *segment;
  std::string operations;
  op.EncodeTo(&operations);
  inode->named_lsn = journal_->Append(operations);
  return Result::Ok();
}

Result Volume::ExtendLogLocked(const InodePtr& inode, uint64_t need_blocks,
                               uint64_t want_blocks, const LogPosition& known,
                               SpacePriority priority, bool last_attempt,
                               Lsn* lsn) {
  const std::shared_ptr<const ExtentMap> map = inode->map();
  std::vector<Extent> extents;
  Result result = free_space_.AllocateForLog(need_blocks, want_blocks, priority,
                                             &extents, last_attempt);
  if (!result.ok()) return result;
  auto longer = std::make_shared<ExtentMap>(*map);
  for (const Extent& extent : extents) longer->Append(extent);
  const uint64_t more = longer->extents().size() - map->extents().size();
  result = CheckRoomLocked(
      more * Namespace::kExtentBytes,
      priority == SpacePriority::kBulk ? kRoomForNew : kRoomForLogs);
  if (!result.ok()) {
    free_space_.FreeNow(extents);
    return result;
  }
  inode->journaled_blocks = longer->blocks();
  inode->set_map(std::move(longer));
  if (inode->link_count == 0) return result;
  namespace_.NoteExtents(static_cast<int64_t>(more));
  inode->log->SetKnown(known, /*closed=*/false);
  inode->mtime_us = NowMicros();
  MetadataOp op;
  op.type = OpType::kExtents;
  op.ino = inode->ino;
  op.extents = std::move(extents);
  std::string operations;
  op.EncodeTo(&operations);
  op.type = OpType::kLogEnd;
  op.log_end = known;
  op.mtime_us = inode->mtime_us;
  op.EncodeTo(&operations);
  *lsn = journal_->Append(operations);
  return result;
}

Result Volume::ExtendLog(const InodePtr& inode, uint64_t need_blocks,
                         uint64_t want_blocks, const LogPosition& known) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  return WithReclaim([&](bool last_attempt) {
    Lsn lsn = 0;
    const SpacePriority priority =
        PriorityOf(inode->kind, inode->map()->blocks() + need_blocks);
    Result result = ExtendLogLocked(inode, need_blocks, want_blocks, known,
                                    priority, last_attempt, &lsn);
    NoteNamed(inode.get(), lsn);
    return result;
  });
}

Result Volume::ExtendLogAhead(const InodePtr& inode, uint64_t want_blocks,
                              const LogPosition& known, Lsn* lsn) {
  *lsn = 0;
  if (Result r = CheckOwner(); !r.ok()) return r;
  {
    const ChangeLock lock(this);
    if (Result r = CheckWritableLocked(); !r.ok()) return r;
    // The reserve is for what is needed.
    Result result =
        ExtendLogLocked(inode, 1, want_blocks, known, SpacePriority::kBulk,
                        /*last_attempt=*/false, lsn);
    if (!result.ok()) return result;
  }
  CommitSoon();
  return Result::Ok();
}

Result Volume::CloseLog(const InodePtr& inode, const LogPosition& end,
                        bool may_go_on, Lsn* lsn) {
  *lsn = 0;
  if (Result r = CheckOwner(); !r.ok()) return r;
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  if (inode->link_count == 0 || inode->log->empty()) return Result::Ok();
  MetadataOp op;
  op.type = OpType::kLogEnd;
  op.ino = inode->ino;
  op.log_end = end;
  op.closed = true;
  op.mtime_us = NowMicros();
  inode->log->SetKnown(end, /*closed=*/true);
  if (may_go_on) inode->log->LeaveSegment();
  inode->mtime_us = op.mtime_us;
  std::string operations;
  op.EncodeTo(&operations);
  const uint64_t blocks = BlocksFor(end.position);
  const std::shared_ptr<const ExtentMap> map = inode->map();
  if (blocks < map->blocks()) {
    op.type = OpType::kTrim;
    op.size = blocks;
    op.EncodeTo(&operations);
    auto shorter = std::make_shared<ExtentMap>(*map);
    shorter->Truncate(blocks, &inode->truncated);
    namespace_.NoteExtents(static_cast<int64_t>(shorter->extents().size()) -
                           static_cast<int64_t>(map->extents().size()));
    inode->journaled_blocks = blocks;
    inode->set_map(std::move(shorter));
  }
  *lsn = journal_->Append(operations);
  inode->named_lsn = *lsn;
  return Result::Ok();
}

Result Volume::PrepareCut(const InodePtr& inode, uint64_t keep_blocks,
                          uint64_t more_blocks, LogCut* cut) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  cut->keep_blocks = keep_blocks;
  return WithReclaim([&](bool last_attempt) {
    if (Result r = CheckRoomLocked(
            kSegmentBytesInSnapshot + more_blocks * Namespace::kExtentBytes,
            kRoomForLogs);
        !r.ok()) {
      return r;
    }
    auto map = std::make_shared<ExtentMap>(*inode->map());
    std::vector<Extent> dropped;
    map->Truncate(keep_blocks, &dropped);
    if (more_blocks > 0) {
      Result result = free_space_.Allocate(
          more_blocks, more_blocks,
          PriorityOf(inode->kind, keep_blocks + more_blocks), &cut->extents,
          last_attempt);
      if (!result.ok()) return result;
    }
    for (const Extent& extent : cut->extents) map->Append(extent);
    cut->map = std::move(map);
    return Result::Ok();
  });
}

void Volume::AbandonCut(const LogCut& cut) {
  if (forked()) return;
  const ChangeLock lock(this);
  if (!unmounted_) free_space_.FreeNow(cut.extents);
}

Result Volume::FinishCut(const InodePtr& inode, const LogCut& cut,
                         const LogSegment& segment, const LogPosition& end,
                         Lsn* lsn) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  const ChangeLock lock(this);
  if (Result r = CheckWritableLocked(); !r.ok()) return r;
  const std::shared_ptr<const ExtentMap> map = inode->map();
  // A reader may still be under way in what is cut off: it stays allocated
  // until the last handle is closed.
  auto kept = std::make_shared<ExtentMap>(*map);
  kept->Truncate(cut.keep_blocks, &inode->truncated);
  int64_t more = 0;
  {
    const std::lock_guard<std::mutex> change(inode->log->change_mutex());
    more = inode->log->Begin(segment);
    inode->log->SetKnown(end, /*closed=*/false);
    inode->log->SetEnd(end);
    inode->Shrink(cut.map, end.logical);
  }
  inode->journaled_blocks = cut.map->blocks();
  inode->mtime_us = NowMicros();
  if (inode->link_count == 0) return Result::Ok();
  namespace_.NoteSegments(more);
  namespace_.NoteExtents(static_cast<int64_t>(cut.map->extents().size()) -
                         static_cast<int64_t>(map->extents().size()));
  MetadataOp op;
  op.ino = inode->ino;
  op.mtime_us = inode->mtime_us;
  std::string operations;
  op.type = OpType::kSegment;
  op.segment = segment;
  op.EncodeTo(&operations);
  op.type = OpType::kTrim;
  op.size = cut.keep_blocks;
  op.EncodeTo(&operations);
  if (!cut.extents.empty()) {
    op.type = OpType::kExtents;
    op.extents = cut.extents;
    op.EncodeTo(&operations);
  }
  op.type = OpType::kLogEnd;
  op.log_end = end;
  op.EncodeTo(&operations);
  *lsn = journal_->Append(operations);
  inode->named_lsn = *lsn;
  return Result::Ok();
}

}  // namespace diofs
