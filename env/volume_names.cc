// The part of Volume that works on names.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "env/open_file.h"
#include "env/volume.h"

namespace diofs {
namespace {

// What a new name adds to the snapshot at most, beyond its own bytes.
constexpr uint64_t kNameOverheadBytes = 128;

Result Missing() { return Result::Error(ENOENT, "no such file or directory"); }

}  // namespace

Result Volume::Change(const PrepareFn& prepare) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    const ChangeLock lock(this);
    if (Result r = CheckWritableLocked(); !r.ok()) return r;
    MetadataOp op;
    if (Result r = prepare(&op); !r.ok()) return r;
    if (op.type == OpType::kMtime && op.ino == 0) return Result::Ok();
    if (Result r = ApplyLocked({std::move(op)}, &lsn); !r.ok()) return r;
  }
  return Settle(lsn);
}

Result Volume::CreateFile(std::string_view path,
                          std::shared_ptr<OpenFile>* file) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  uint64_t generation = 0;
  if (Result r = RandomNonce(&generation); !r.ok()) return r;
  Lsn lsn = 0;
  std::shared_ptr<OpenFile> opened;
  {
    const ChangeLock lock(this);
    if (Result r = CheckWritableLocked(); !r.ok()) return r;
    if (Result r =
            CheckRoomLocked(kNameOverheadBytes + path.size(), kRoomForNew);
        !r.ok()) {
      return r;
    }
    std::vector<MetadataOp> ops(1);
    const FileKind kind = FileKindFromName(path);
    const FileLayout layout = LayoutOf(kind);
    Result result =
        namespace_.PrepareCreate(path, kind, NowMicros(), &ops.back());
    if (result.error() == EEXIST) {
      // The old file and the new one change places in one transaction. The new
      // name is prepared from the old one's operation: the same parent and
      // name, which are free by the time it is applied.
      if (Result r = namespace_.PrepareUnlink(path, &ops.back()); !r.ok()) {
        return r;
      }
      MetadataOp create;
      create.type = OpType::kCreate;
      create.parent = ops.back().parent;
      create.name = ops.back().name;
      create.ino = namespace_.next_ino();
      create.kind = kind;
      create.layout = layout;
      create.mtime_us = NowMicros();
      ops.push_back(std::move(create));
    } else if (!result.ok()) {
      return result;
    }
    const uint64_t ino = ops.back().ino;
    if (layout == FileLayout::kLog) {
      MetadataOp segment;
      segment.type = OpType::kSegment;
      segment.ino = ino;
      segment.segment.generation = generation;
      ops.push_back(std::move(segment));
    }
    if (Result r = ApplyLocked(ops, &lsn); !r.ok()) return r;
    const InodePtr inode = namespace_.Find(ino);
    if (inode->log != nullptr) {
      inode->log->SetEnd(inode->log->known());
      inode->log->LeaveSegment();
    }
    opened = OpenLocked(inode);
  }
  if (Result r = Settle(lsn); !r.ok()) return r;
  *file = std::move(opened);
  return Result::Ok();
}

Result Volume::Open(std::string_view path, std::shared_ptr<OpenFile>* file) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  std::shared_ptr<OpenFile> opened;
  {
    std::unique_lock<std::shared_mutex> lock(namespace_mutex_);
    if (unmounted_) return Result::Error(ESTALE, "volume is unmounted");
    Namespace::Lookup found;
    if (Result r = namespace_.Resolve(path, &found); !r.ok()) return r;
    if (found.inode == nullptr) return Missing();
    if (found.inode->is_directory) {
      return Result::Error(EISDIR, "is a directory");
    }
    opened = OpenLocked(found.inode);
  }
  if (Result r = SizeLog(opened->inode()); !r.ok()) return r;
  // Outside the lock, which a handle that *file held before needs to close.
  *file = std::move(opened);
  return Result::Ok();
}

std::shared_ptr<OpenFile> Volume::OpenLocked(const InodePtr& inode) {
  auto opened = std::make_shared<OpenFile>(shared_from_this(), inode);
  ++inode->open_count;
  return opened;
}

Result Volume::Mkdir(std::string_view path) {
  return Change([&](MetadataOp* op) {
    if (Result r =
            CheckRoomLocked(kNameOverheadBytes + path.size(), kRoomForNew);
        !r.ok()) {
      return r;
    }
    return namespace_.PrepareMkdir(path, NowMicros(), op);
  });
}

Result Volume::MkdirAll(std::string_view path) {
  for (size_t end = 1; end <= path.size(); ++end) {
    if (end < path.size() && path[end] != '/') continue;
    const std::string_view prefix = path.substr(0, end);
    Result result = Mkdir(prefix);
    if (result.ok()) continue;
    FileStat stat;
    // The root and what another thread made meanwhile are there already.
    if (Stat(prefix, &stat).ok()) {
      if (stat.is_directory) continue;
      return Result::Error(EEXIST, "a file of that name exists");
    }
    return result;
  }
  return Result::Ok();
}

Result Volume::Rmdir(std::string_view path) {
  return Change(
      [&](MetadataOp* op) { return namespace_.PrepareRmdir(path, op); });
}

Result Volume::Unlink(std::string_view path) {
  return Change(
      [&](MetadataOp* op) { return namespace_.PrepareUnlink(path, op); });
}

Result Volume::Link(std::string_view from, std::string_view to) {
  return Change([&](MetadataOp* op) {
    if (Result r = CheckRoomLocked(kNameOverheadBytes + to.size(), kRoomForNew);
        !r.ok()) {
      return r;
    }
    return namespace_.PrepareLink(from, to, op);
  });
}

Result Volume::Rename(std::string_view from, std::string_view to) {
  return Change([&](MetadataOp* op) {
    if (Result r = namespace_.PrepareRename(from, to, op); !r.ok()) return r;
    if (op->new_name.size() <= op->name.size()) return Result::Ok();
    return CheckRoomLocked(op->new_name.size() - op->name.size(),
                           kRoomForRename);
  });
}

FileStat Volume::StatOf(const Inode& inode) const {
  FileStat stat;
  stat.ino = inode.ino;
  stat.is_directory = inode.is_directory;
  stat.kind = inode.kind;
  stat.size_bytes = inode.visible_bytes.load(std::memory_order_acquire);
  const std::shared_ptr<const ExtentMap> map = inode.map();
  stat.allocated_blocks = map->blocks();
  stat.extents = map->extents().size();
  stat.mtime_us = inode.mtime_us.load(std::memory_order_relaxed);
  stat.link_count = inode.link_count;
  return stat;
}

Result Volume::Stat(std::string_view path, FileStat* stat) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  InodePtr inode;
  {
    std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
    if (unmounted_) return Result::Error(ESTALE, "volume is unmounted");
    Namespace::Lookup found;
    if (Result r = namespace_.Resolve(path, &found); !r.ok()) return r;
    if (found.inode == nullptr) return Missing();
    inode = found.inode;
    *stat = StatOf(*inode);
  }
  if (inode->log == nullptr || inode->log->sized()) return Result::Ok();
  if (Result r = SizeUnopenedLog(inode); !r.ok()) return r;
  stat->size_bytes = inode->visible_bytes.load(std::memory_order_acquire);
  return Result::Ok();
}

Result Volume::List(std::string_view path,
                    std::vector<DirectoryEntry>* entries) {
  entries->clear();
  if (Result r = CheckOwner(); !r.ok()) return r;
  std::vector<std::pair<size_t, InodePtr>> to_size;
  {
    std::shared_lock<std::shared_mutex> lock(namespace_mutex_);
    if (unmounted_) return Result::Error(ESTALE, "volume is unmounted");
    Namespace::Lookup found;
    if (Result r = namespace_.Resolve(path, &found); !r.ok()) return r;
    if (found.inode == nullptr) return Missing();
    if (!found.inode->is_directory) {
      return Result::Error(ENOTDIR, "not a directory");
    }
    entries->reserve(found.inode->entries.size());
    for (const auto& [name, ino] : found.inode->entries) {
      const InodePtr child = namespace_.Find(ino);
      if (child == nullptr) continue;
      if (child->log != nullptr && !child->log->sized()) {
        to_size.emplace_back(entries->size(), child);
      }
      entries->push_back({name, StatOf(*child)});
    }
  }
  for (const auto& [index, inode] : to_size) {
    if (Result r = SizeUnopenedLog(inode); !r.ok()) return r;
    (*entries)[index].stat.size_bytes =
        inode->visible_bytes.load(std::memory_order_acquire);
  }
  return Result::Ok();
}

Result Volume::LockName(std::string_view path, uint64_t* ino) {
  if (Result r = CheckOwner(); !r.ok()) return r;
  Lsn lsn = 0;
  {
    // One step, so that of two who find no file only one gets the lock.
    const ChangeLock lock(this);
    if (Result r = CheckWritableLocked(); !r.ok()) return r;
    Namespace::Lookup found;
    if (Result r = namespace_.Resolve(path, &found); !r.ok()) return r;
    if (found.inode == nullptr) {
      MetadataOp op;
      if (Result r = namespace_.PrepareCreate(path, FileKindFromName(path),
                                              NowMicros(), &op);
          !r.ok()) {
        return r;
      }
      *ino = op.ino;
      if (Result r = ApplyLocked({std::move(op)}, &lsn); !r.ok()) return r;
    } else {
      if (found.inode->is_directory) {
        return Result::Error(EISDIR, "is a directory");
      }
      *ino = found.inode->ino;
    }
    if (!locked_inos_.insert(*ino).second) {
      return Result::Error(EBUSY, "lock is held by this process already");
    }
  }
  Result result = Settle(lsn);
  if (!result.ok()) UnlockName(*ino);
  return result;
}

void Volume::UnlockName(uint64_t ino) {
  if (forked()) return;
  const ChangeLock lock(this);
  locked_inos_.erase(ino);
}

}  // namespace diofs
