#include "env/volume.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "dio/out_of_memory.h"
#include "env/open_file.h"

namespace diofs {
namespace {

// In flush mode kMemory nothing asks for commits; one every so many
// transactions bounds the memory they take.
constexpr Lsn kMemoryCommitInterval = 1024;

DeviceRange BytesOf(const Extent& extent) {
  return {extent.start * kBlockBytes, extent.count * kBlockBytes};
}

Extent BlocksOf(const DeviceRange& range) {
  return {range.offset / kBlockBytes, range.bytes / kBlockBytes};
}

}  // namespace

uint64_t NowMicros() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(
          std::chrono::system_clock::now().time_since_epoch())
          .count());
}

Journal::Layout JournalLayoutOf(const Superblock& superblock) {
  return {superblock.uuid, superblock.region_offset, superblock.region_bytes};
}

Journal::RecoveryInput RecoveryInputOf(const Superblock& superblock) {
  Journal::RecoveryInput input;
  if (!superblock.dirty()) {
    input.clean_sequence = superblock.clean_sequence;
    input.clean_region_nonce = superblock.clean_region_nonce;
  }
  return input;
}

std::vector<Extent> MetadataExtents(const Superblock& superblock) {
  std::vector<Extent> extents;
  for (uint32_t i = 0; i < kSuperblockCopies; ++i) {
    extents.push_back(
        {SuperblockOffset(superblock.device_bytes, i) / kBlockBytes, 1});
  }
  for (const uint64_t offset : superblock.region_offset) {
    extents.push_back(
        {offset / kBlockBytes, superblock.region_bytes / kBlockBytes});
  }
  return extents;
}

Volume::Volume(std::unique_ptr<BlockDevice> device, const MountOptions& options)
    : device_(std::move(device)), options_(options) {}

Volume::~Volume() {
  (void)CatchBadAlloc([this] {
    if (Result r = Unmount(); !r.ok() && !forked()) {
      Log(std::move(r).With("unmount " + device_->name()).ToString());
    }
    return Result::Ok();
  });
}

Volume::ChangeLock::~ChangeLock() {
  if (std::uncaught_exceptions() > exceptions_) {
    (void)volume_->Stop(Result::Error(ENOMEM));
  }
}

void Volume::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

Result Volume::Mount(std::unique_ptr<BlockDevice> device,
                     const MountOptions& options,
                     std::shared_ptr<Volume>* volume) {
  if (device->geometry().logical_block_bytes > kMaxLogicalBlockBytes) {
    return Result::Error(EINVAL, "logical blocks above 4096 bytes");
  }
  std::shared_ptr<Volume> mounted(new Volume(std::move(device), options));
  Result result = CatchBadAlloc([&] { return mounted->Start(); });
  if (!result.ok()) return result;
  mounted->unmounted_ = false;
  *volume = std::move(mounted);
  return Result::Ok();
}

Result Volume::Start() {
  if (Result r = Recover(); !r.ok()) return r;
  return options_.read_only ? Result::Ok() : StartWriting();
}

Result Volume::Recover() {
  if (Result r = LoadSuperblock(device_.get(), &superblock_); !r.ok()) {
    return r;
  }
  if (!options_.read_only) {
    if (Result r = CheckMayWrite(superblock_); !r.ok()) return r;
  }
  Uuid boot_id;
  if (Result r = CurrentBootId(&boot_id); !r.ok()) return r;
  journal_ =
      std::make_unique<Journal>(device_.get(), JournalLayoutOf(superblock_));
  Journal::RecoveryInput input = RecoveryInputOf(superblock_);
  input.same_boot = superblock_.boot_id == boot_id && !options_.lost_cache;
  const auto apply = [this](std::string_view operations) {
    return namespace_.ApplyAll(operations);
  };
  if (Result r = journal_->Recover(input, apply, &recovery_); !r.ok()) {
    return r;
  }
  if (!recovery_.corruption.empty()) {
    if (!options_.read_only) {
      return Result::Error(EUCLEAN,
                           "journal damaged (" + recovery_.corruption +
                               "); copy the data out with ro=1, and see what "
                               "diofs fsck says");
    }
    Log(device_->name() + ": journal damaged (" + recovery_.corruption +
        "), mounted read-only");
  }
  if (options_.read_only) read_only_reason_ = "mounted with ro=1";
  return ClaimBlocks();
}

Result Volume::ClaimBlocks() {
  if (Result r = free_space_.Init(superblock_.device_bytes / kBlockBytes,
                                  MetadataExtents(superblock_));
      !r.ok()) {
    return std::move(r).With("superblock: layout");
  }
  Result result;
  namespace_.ForEach([&](const InodePtr& inode) {
    const std::shared_ptr<const ExtentMap> map = inode->map();
    for (const Extent& extent : map->extents()) {
      if (!result.ok()) return;
      result = free_space_.Take(extent);
      if (!result.ok()) {
        result = std::move(result).With(
            "inode " + std::to_string(inode->ino) + ": blocks " +
            std::to_string(extent.start) + "+" + std::to_string(extent.count) +
            " lie outside the volume or belong to another file");
      }
    }
  });
  return result;
}

Result Volume::ChooseSync() {
  const bool can = device_->CanFua();
  switch (options_.sync_mode) {
    case SyncMode::kAuto:
      write_through_ =
          can && (superblock_.flags & Superblock::kFlushIsFaster) == 0;
      break;
    case SyncMode::kFua:
      if (!can) {
        return Result::Error(EOPNOTSUPP,
                             "sync=fua: the device has no write-through; take "
                             "sync=auto");
      }
      write_through_ = true;
      break;
    case SyncMode::kFlush:
    case SyncMode::kNone:
      break;
  }
  journal_->SetWriteThrough(write_through_);
  return Result::Ok();
}

// The order matters for a crash between the steps: what another boot's power
// cut has left must not be taken for what the death of a process left on this
// one.
Result Volume::StartWriting() {
  if (Result r = ChooseSync(); !r.ok()) return r;
  journal_->SetSnapshotSource([this](std::vector<std::string>* chunks) {
    return EncodeSnapshot(chunks);
  });
  if (superblock_.dirty()) {
    if (Result r = journal_->SwitchRegion(); !r.ok()) return r;
  }
  if (Result r = RandomUuid(&superblock_.mount_nonce); !r.ok()) return r;
  if (Result r = CurrentBootId(&superblock_.boot_id); !r.ok()) return r;
  superblock_.flags |= Superblock::kDirty;
  if (options_.checksums) {
    superblock_.feature_ro_compat |= Superblock::kChecksumTables;
  }
  superblock_.flush_mode = options_.flush_mode;
  superblock_.owner_pid = static_cast<uint32_t>(getpid());
  superblock_.mounted_us = NowMicros();
  superblock_.clean_sequence = 0;
  superblock_.clean_region_nonce = 0;
  if (Result r = StoreSuperblock(device_.get(), &superblock_); !r.ok()) {
    return r;
  }
  // What was there before, and the mark of this mount, are durable.
  device_->ForgoFlushes(options_.sync_mode == SyncMode::kNone);
  if (options_.discard && device_->geometry().discard) StartDiscarding();
  if (options_.commit_interval_ms > 0) {
    commit_timer_ = std::make_unique<CommitTimer>(
        std::chrono::milliseconds(options_.commit_interval_ms), [this] {
          // An error is kept for whoever comes next.
          (void)CatchBadAlloc([this] {
            (void)Stop(journal_->SwitchAhead());
            return CommitDurable(journal_->tail_lsn());
          });
        });
  }
  return Result::Ok();
}

void Volume::StartDiscarding() {
  Discarder::Options options;
  options.bytes_per_second = options_.discard_bytes_per_second;
  discarder_ = std::make_shared<Discarder>(
      device_.get(), options, [this](const DeviceRange& range) {
        (void)CatchBadAlloc([&] {
          const ChangeLock lock(this);
          free_space_.Discarded(BlocksOf(range));
          return Result::Ok();
        });
      });
}

Result Volume::Unmount() {
  if (Result r = CheckOwner(); !r.ok()) return r;
  std::lock_guard<std::mutex> unmount_lock(unmount_mutex_);
  std::shared_ptr<Discarder> discarder;
  {
    // Behind this lock no operation can enter the journal any more, so that the
    // clean mark stored below names its true end.
    const ChangeLock lock(this);
    if (unmounted_.exchange(true)) return Result::Ok();
    discarder = std::move(discarder_);
  }
  // Outside the lock: they wait for calls back that take it.
  discarder.reset();
  if (commit_timer_ != nullptr) commit_timer_->Stop();
  Result result;
  if (!options_.read_only) {
    result = CatchBadAlloc([this] { return MarkClean(); });
  }
  if (unmount_hook_) {
    (void)CatchBadAlloc([this] {
      unmount_hook_(this);
      return Result::Ok();
    });
  }
  return result;
}

Result Volume::MarkClean() {
  if (Result r = CommitDurable(journal_->tail_lsn()); !r.ok()) return r;
  // With sync=none that was no more than a promise.
  device_->ForgoFlushes(false);
  if (Result r = FlushDevice(); !r.ok()) return r;
  // What has not been told of since an error is not to pass for all there was.
  if (stopped_) return stop_error_;
  superblock_.flags &= ~Superblock::kDirty;
  superblock_.clean_sequence = journal_->next_sequence();
  superblock_.clean_region_nonce = journal_->region_nonce();
  return StoreSuperblock(device_.get(), &superblock_);
}

Lsn Volume::EncodeSnapshot(std::vector<std::string>* chunks) {
  std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
  // A tree that is not what it should be, or may not be: no number, which the
  // journal refuses.
  if (!read_only_reason_.empty() || stopped_) return 0;
  EncodeSnapshotOf(namespace_, chunks);
  return journal_->TakeForSnapshot();
}

void EncodeSnapshotOf(const Namespace& names,
                      std::vector<std::string>* chunks) {
  chunks->clear();
  std::string operation;
  names.Snapshot([&](const MetadataOp& op) {
    operation.clear();
    op.EncodeTo(&operation);
    if (chunks->empty() ||
        chunks->back().size() + operation.size() > kMaxSnapshotPayload) {
      chunks->emplace_back();
    }
    chunks->back() += operation;
  });
}

Result Volume::CheckOwner() const {
  if (!forked()) return Result::Ok();
  return Result::Error(ESTALE, "volume belongs to the parent process");
}

Result Volume::CheckWritable() const {
  if (Result r = CheckOwner(); !r.ok()) return r;
  std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
  return CheckWritableLocked();
}

Result Volume::CheckAlive() const {
  if (stopped_) {
    return Result::Error(EROFS,
                         "read-only since an error: " + stop_error_.ToString());
  }
  if (unmounted_) return Result::Error(ESTALE, "volume is unmounted");
  return Result::Ok();
}

Result Volume::CheckWritableLocked() const {
  if (Result r = CheckAlive(); !r.ok()) return r;
  if (!read_only_reason_.empty()) {
    return Result::Error(EROFS, read_only_reason_);
  }
  return Result::Ok();
}

Result Volume::Stop(Result error) {
  if (error.ok() || error.error() == ESTALE) return error;
  std::lock_guard<std::mutex> lock(stop_mutex_);
  if (!stopped_) {
    stop_error_ = error;
    stopped_ = true;
  }
  return error;
}

Result Volume::CheckRoomLocked(uint64_t more_bytes, uint64_t percent) const {
  const uint64_t limit = journal_->region_bytes() / 100 * percent;
  if (namespace_.SnapshotBytes() + more_bytes <= limit) return Result::Ok();
  return Result::Error(ENOSPC, "too many files or extents for the journal");
}

Result Volume::ApplyLocked(const std::vector<MetadataOp>& ops, Lsn* lsn) {
  std::string operations;
  Namespace::Effects effects;
  std::vector<InodePtr> dropped;
  for (const MetadataOp& op : ops) {
    op.EncodeTo(&operations);
    effects.unlinked = nullptr;
    if (Result r = namespace_.Apply(op, &effects); !r.ok()) {
      // Prepared a moment ago under this lock: the tree in memory is not what
      // it should be, and must not reach the device.
      read_only_reason_ = "internal error: " + r.ToString();
      return Result::Error(EIO, read_only_reason_);
    }
    if (effects.unlinked != nullptr) dropped.push_back(effects.unlinked);
  }
  *lsn = journal_->Append(operations);
  for (const MetadataOp& op : ops) NoteNamesLocked(op, *lsn);
  for (const InodePtr& inode : dropped) {
    inode->unlink_lsn = *lsn;
    if (inode->open_count == 0) DropLocked(inode);
  }
  return Result::Ok();
}

void Volume::NoteNamesLocked(const MetadataOp& op, Lsn lsn) {
  InodePtr inode;
  if (op.type == OpType::kCreate || op.type == OpType::kLink) {
    inode = namespace_.Find(op.ino);
  } else if (op.type == OpType::kRename) {
    const InodePtr parent = namespace_.Find(op.new_parent);
    const auto entry = parent->entries.find(op.new_name);
    if (entry != parent->entries.end()) inode = namespace_.Find(entry->second);
  }
  if (inode == nullptr) return;
  inode->named_lsn = lsn;
  if (inode->is_directory) directories_lsn_ = lsn;
}

void Volume::NoteNamed(Inode* inode, Lsn lsn) {
  uint64_t before = inode->named_lsn;
  // A rename beside it may name a later one.
  while (before < lsn && !inode->named_lsn.compare_exchange_weak(before, lsn)) {
  }
}

Lsn Volume::NamedBy(const Inode& inode) const {
  return std::max<Lsn>(inode.named_lsn, directories_lsn_);
}

void Volume::DropLocked(const InodePtr& inode) {
  std::vector<Extent> extents = inode->map()->extents();
  extents.insert(extents.end(), inode->truncated.begin(),
                 inode->truncated.end());
  inode->truncated.clear();
  inode->set_map(std::make_shared<ExtentMap>());
  free_space_.FreeWhenDurable(inode->unlink_lsn, std::move(extents),
                              inode->layout);
  frees_pending_ = true;
}

void Volume::CommitSoon() {
  if (commit_timer_ != nullptr) commit_timer_->Arm();
}

Result Volume::Settle(Lsn lsn) {
  if (lsn == 0) return Result::Ok();
  CommitSoon();
  if (options_.flush_mode == FlushMode::kMemory &&
      lsn % kMemoryCommitInterval != 0) {
    return Result::Ok();
  }
  return CommitWritten(lsn);
}

Result Volume::CommitWritten(Lsn lsn) {
  return Stop(journal_->Commit(lsn, CommitLevel::kWritten));
}

Result Volume::FlushDevice() {
  const Journal::Mark mark = journal_->written();
  if (Result r = device_->Flush(); !r.ok()) return Stop(std::move(r));
  journal_->NoteFlushed(mark);
  return Result::Ok();
}

Result Volume::Sync() {
  if (Result r = CheckWritable(); !r.ok()) return r;
  if (Result r = FlushDevice(); !r.ok()) return r;
  return CommitDurable(journal_->tail_lsn());
}

Result Volume::SyncNames() {
  if (Result r = CheckWritable(); !r.ok()) return r;
  return CommitDurable(journal_->tail_lsn());
}

Result Volume::CommitDurable(Lsn lsn) {
  if (Result r = journal_->Commit(lsn, CommitLevel::kDurable); !r.ok()) {
    return Stop(std::move(r));
  }
  if (frees_pending_) {
    // What was asked for is durable; what goes wrong here stops the volume.
    (void)CatchBadAlloc([this] {
      ReleaseFrees();
      return Result::Ok();
    });
  }
  if (journal_->half_used()) CommitSoon();
  return Result::Ok();
}

void Volume::ReleaseFrees() {
  const ChangeLock lock(this);
  if (stopped_) return;
  std::vector<Extent> to_discard;
  free_space_.Release(journal_->durable_lsn(),
                      discarder_ == nullptr ? nullptr : &to_discard);
  frees_pending_ = free_space_.pending_lsn() != 0;
  for (const Extent& extent : to_discard) {
    discarder_->Add(BytesOf(extent));
  }
}

void Volume::TakeBackDiscards() {
  std::shared_ptr<Discarder> discarder;
  {
    std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
    discarder = discarder_;
  }
  if (discarder == nullptr) return;
  // Who finds nothing to take back must see what the one before took.
  std::lock_guard<std::mutex> one_at_a_time(take_back_mutex_);
  const std::vector<DeviceRange> ranges = discarder->TakeBack();
  const ChangeLock lock(this);
  for (const DeviceRange& range : ranges) {
    free_space_.Discarded(BlocksOf(range));
  }
}

Result Volume::ReclaimFrees() {
  Lsn lsn = 0;
  {
    std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
    lsn = free_space_.pending_lsn();
  }
  if (lsn == 0) return Result::Ok();
  return CommitDurable(lsn);
}

Result Volume::Usage(VolumeUsage* usage) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  if (!options_.read_only && !unmounted_) {
    if (Result r = ReclaimFrees(); !r.ok()) return r;
  }
  std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
  const ExtentAllocator& allocator = free_space_.allocator();
  usage->total_blocks = free_space_.total_blocks();
  usage->metadata_blocks = free_space_.metadata_blocks();
  usage->pending_blocks = free_space_.pending_blocks();
  usage->free_blocks =
      allocator.free_blocks() + free_space_.discarding_blocks();
  usage->reserved_blocks =
      std::min(free_space_.reserve_blocks(), usage->free_blocks);
  usage->allocated_blocks = usage->total_blocks - usage->metadata_blocks -
                            usage->pending_blocks - usage->free_blocks;
  usage->free_runs = allocator.run_count();
  usage->largest_free_run = allocator.largest_run();
  usage->inodes = namespace_.inode_count();
  return Result::Ok();
}

void Volume::ForEachInode(const std::function<void(const InodePtr&)>& visit) {
  if (forked()) return;
  std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
  namespace_.ForEach(visit);
}

}  // namespace diofs
