#include "env/namespace.h"

#include <algorithm>
#include <cerrno>
#include <unordered_set>
#include <utility>

namespace diofs {

namespace {

// Of a file, and of any device: byte offsets stay below 2^63.
constexpr uint64_t kMaxBlocks = INT64_MAX / kBlockBytes;
constexpr uint64_t kExtentsPerOp = 4096;

// Encoded sizes in bytes, the header of the operation included.
constexpr uint64_t kNextInoBytes = kOpHeaderBytes + 8;
// kLink: ino, parent, and the length of the name; the name comes on top.
constexpr uint64_t kNameBytes = kOpHeaderBytes + 8 + 8 + 2;
constexpr uint64_t kExtentsOpBytes = kOpHeaderBytes + 8 + 4;
// What kCreate has beyond a kLink (kind, layout, mtime), a first kExtents, and
// kLogEnd, which is longer than kSize.
constexpr uint64_t kFileBytes =
    (1 + 1 + 8) + kExtentsOpBytes + (kOpHeaderBytes + 8 + 8 + 8 + 4 + 1 + 8);
constexpr uint64_t kSegmentBytes = kOpHeaderBytes + 8 + 8 + 8 + 8;
// What kMkdir has beyond a kLink (mtime), and kMtime.
constexpr uint64_t kDirectoryBytes = 8 + (kOpHeaderBytes + 8 + 8);

// The decoder has checked names already; nothing in the tree depends on it.
bool IsValidName(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." &&
         name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

Result Misfit(const MetadataOp& op, const char* why) {
  return Result::Error(EUCLEAN, op.ToString() + ": " + why);
}

uint64_t InodeBytes(const Inode& inode) {
  return inode.is_directory ? kDirectoryBytes : kFileBytes;
}

}  // namespace

Namespace::Namespace() {
  auto root = std::make_shared<Inode>(kRootIno, true, FileKind::kOther);
  root->link_count = 1;
  root->parent = kRootIno;
  inodes_.emplace(kRootIno, std::move(root));
  names_bytes_ = kNextInoBytes + kDirectoryBytes;
}

Result Namespace::ApplyAll(std::string_view operations) {
  while (!operations.empty()) {
    MetadataOp op;
    Effects effects;
    if (Result r = MetadataOp::DecodeFrom(&operations, &op); !r.ok()) return r;
    if (Result r = Apply(op, &effects); !r.ok()) return r;
  }
  return Result::Ok();
}

Result Namespace::Apply(const MetadataOp& op, Effects* effects) {
  *effects = Effects();
  switch (op.type) {
    case OpType::kMkdir:
    case OpType::kCreate:
      return ApplyNewInode(op);
    case OpType::kLink:
      return ApplyLink(op);
    case OpType::kUnlink:
    case OpType::kRmdir:
      return ApplyRemove(op, effects);
    case OpType::kRename:
      return ApplyRename(op, effects);
    case OpType::kExtents:
      return ApplyExtents(op);
    case OpType::kSize:
      return ApplySize(op);
    case OpType::kTrim:
      return ApplyTrim(op, effects);
    case OpType::kMtime: {
      const InodePtr* inode = FindPtr(op.ino);
      if (inode == nullptr) return Misfit(op, "no such inode");
      (*inode)->mtime_us = op.mtime_us;
      return Result::Ok();
    }
    case OpType::kNextIno:
      return ApplyNextIno(op);
    case OpType::kSegment:
      return ApplySegment(op);
    case OpType::kLogEnd:
      return ApplyLogEnd(op);
  }
  return Misfit(op, "no known operation");
}

Result Namespace::ApplyNewInode(const MetadataOp& op) {
  const bool is_directory = op.type == OpType::kMkdir;
  const InodePtr* parent = FindDirectory(op.parent);
  if (parent == nullptr) return Misfit(op, "no such directory");
  if (!IsValidName(op.name)) return Misfit(op, "invalid name");
  if ((*parent)->entries.count(op.name) != 0) {
    return Misfit(op, "the name is taken");
  }
  if (op.ino == 0 || op.ino > kLastIno) {
    return Misfit(op, "inode number out of range");
  }
  if (inodes_.count(op.ino) != 0) return Misfit(op, "the inode exists");
  if (!is_directory && static_cast<uint8_t>(op.kind) >= kFileKinds) {
    return Misfit(op, "unknown kind of file");
  }
  if (!is_directory && static_cast<uint8_t>(op.layout) >= kFileLayouts) {
    return Misfit(op, "unknown layout of file");
  }

  auto inode = std::make_shared<Inode>(
      op.ino, is_directory, is_directory ? FileKind::kOther : op.kind,
      is_directory ? FileLayout::kPlain : op.layout);
  inode->mtime_us = op.mtime_us;
  names_bytes_ += InodeBytes(*inode);
  (*parent)->mtime_us = op.mtime_us;
  AddName(parent->get(), op.name, inode.get());
  inodes_.emplace(op.ino, std::move(inode));
  next_ino_ = std::max(next_ino_, op.ino + 1);
  return Result::Ok();
}

Result Namespace::ApplyLink(const MetadataOp& op) {
  const InodePtr* parent = FindDirectory(op.parent);
  if (parent == nullptr) return Misfit(op, "no such directory");
  if (!IsValidName(op.name)) return Misfit(op, "invalid name");
  if ((*parent)->entries.count(op.name) != 0) {
    return Misfit(op, "the name is taken");
  }
  const InodePtr* inode = FindPtr(op.ino);
  if (inode == nullptr) return Misfit(op, "no such inode");
  if ((*inode)->is_directory) return Misfit(op, "a link to a directory");
  if ((*inode)->link_count == UINT32_MAX) return Misfit(op, "too many links");
  AddName(parent->get(), op.name, inode->get());
  return Result::Ok();
}

Result Namespace::ApplyRemove(const MetadataOp& op, Effects* effects) {
  const InodePtr* parent = FindDirectory(op.parent);
  if (parent == nullptr) return Misfit(op, "no such directory");
  const InodePtr* inode = FindEntry(**parent, op.name);
  if (inode == nullptr) return Misfit(op, "no such name");
  if ((*inode)->is_directory != (op.type == OpType::kRmdir)) {
    return Misfit(op, "the wrong kind of inode");
  }
  if (!(*inode)->entries.empty()) return Misfit(op, "not empty");
  DropName(parent->get(), op.name, effects);
  return Result::Ok();
}

Result Namespace::ApplyRename(const MetadataOp& op, Effects* effects) {
  const InodePtr* from = FindDirectory(op.parent);
  const InodePtr* to = FindDirectory(op.new_parent);
  if (from == nullptr || to == nullptr) return Misfit(op, "no such directory");
  const InodePtr* found = FindEntry(**from, op.name);
  if (found == nullptr) return Misfit(op, "no such name");
  if (!IsValidName(op.new_name)) return Misfit(op, "invalid name");
  Inode* const moved = found->get();
  if (moved->is_directory && IsInside(to->get(), moved->ino)) {
    return Misfit(op, "a directory into itself");
  }
  const InodePtr* replaced = FindEntry(**to, op.new_name);
  if (replaced != nullptr) {
    if (replaced->get() == moved) return Result::Ok();
    if ((*replaced)->is_directory != moved->is_directory) {
      return Misfit(op, "replaces another kind of inode");
    }
    if (!(*replaced)->entries.empty()) {
      return Misfit(op, "replaces a directory that is not empty");
    }
    DropName(to->get(), op.new_name, effects);
  }

  // The new name first: the count of links must not touch 0 on the way.
  AddName(to->get(), op.new_name, moved);
  Effects none;
  DropName(from->get(), op.name, &none);
  return Result::Ok();
}

Result Namespace::ApplyExtents(const MetadataOp& op) {
  const InodePtr* inode = FindPtr(op.ino);
  if (inode == nullptr) return Misfit(op, "no such inode");
  if ((*inode)->is_directory) return Misfit(op, "extents of a directory");
  const std::shared_ptr<const ExtentMap> old_map = (*inode)->map();
  uint64_t blocks = old_map->blocks();
  if (blocks != (*inode)->journaled_blocks) {
    return Misfit(op, "the file has blocks that are not journaled");
  }
  for (const Extent& extent : op.extents) {
    if (extent.count == 0 || extent.count > kMaxBlocks ||
        extent.start > kMaxBlocks - extent.count ||
        blocks > kMaxBlocks - extent.count) {
      return Misfit(op, "an extent is out of range");
    }
    blocks += extent.count;
  }

  auto map = std::make_shared<ExtentMap>(*old_map);
  for (const Extent& extent : op.extents) map->Append(extent);
  extents_ += map->extents().size() - old_map->extents().size();
  (*inode)->journaled_blocks = blocks;
  (*inode)->set_map(std::move(map));
  return Result::Ok();
}

Result Namespace::ApplySize(const MetadataOp& op) {
  const InodePtr* inode = FindPtr(op.ino);
  if (inode == nullptr) return Misfit(op, "no such inode");
  if ((*inode)->is_directory) return Misfit(op, "size of a directory");
  if ((*inode)->log != nullptr) return Misfit(op, "size of a log");
  if (op.size > (*inode)->journaled_blocks * kBlockBytes) {
    return Misfit(op, "size beyond the file's blocks");
  }
  (*inode)->journaled_bytes = op.size;
  (*inode)->written_bytes = op.size;
  (*inode)->visible_bytes = op.size;
  (*inode)->mtime_us = op.mtime_us;
  return Result::Ok();
}

Result Namespace::ApplyTrim(const MetadataOp& op, Effects* effects) {
  const InodePtr* inode = FindPtr(op.ino);
  if (inode == nullptr) return Misfit(op, "no such inode");
  if ((*inode)->is_directory) return Misfit(op, "trim of a directory");
  const std::shared_ptr<const ExtentMap> old_map = (*inode)->map();
  if (old_map->blocks() != (*inode)->journaled_blocks) {
    return Misfit(op, "the file has blocks that are not journaled");
  }
  if (op.size > old_map->blocks()) return Misfit(op, "more blocks than it has");
  if ((*inode)->journaled_bytes > op.size * kBlockBytes) {
    return Misfit(op, "cuts off what the size covers");
  }
  if ((*inode)->log != nullptr &&
      (*inode)->log->known().position > op.size * kBlockBytes) {
    return Misfit(op, "cuts off what the log needs");
  }

  auto map = std::make_shared<ExtentMap>(*old_map);
  map->Truncate(op.size, &effects->trimmed);
  extents_ -= old_map->extents().size() - map->extents().size();
  (*inode)->journaled_blocks = op.size;
  (*inode)->set_map(std::move(map));
  return Result::Ok();
}

const InodePtr* Namespace::FindLog(uint64_t ino) const {
  const InodePtr* inode = FindPtr(ino);
  return inode == nullptr || (*inode)->log == nullptr ? nullptr : inode;
}

Result Namespace::ApplySegment(const MetadataOp& op) {
  const InodePtr* inode = FindLog(op.ino);
  if (inode == nullptr) return Misfit(op, "no such log");
  if (!(*inode)->log->Fits(op.segment) ||
      op.segment.position > (*inode)->journaled_blocks * kBlockBytes) {
    return Misfit(op, "does not fit the log");
  }
  NoteSegments((*inode)->log->Begin(op.segment));
  (*inode)->written_bytes = op.segment.logical;
  (*inode)->visible_bytes = op.segment.logical;
  return Result::Ok();
}

Result Namespace::ApplyLogEnd(const MetadataOp& op) {
  const InodePtr* inode = FindLog(op.ino);
  if (inode == nullptr) return Misfit(op, "no such log");
  if (!(*inode)->log->Fits(op.log_end) ||
      op.log_end.position > (*inode)->journaled_blocks * kBlockBytes) {
    return Misfit(op, "does not fit the log");
  }
  (*inode)->log->SetKnown(op.log_end, op.closed);
  (*inode)->written_bytes = op.log_end.logical;
  (*inode)->visible_bytes = op.log_end.logical;
  (*inode)->mtime_us = op.mtime_us;
  return Result::Ok();
}

Result Namespace::ApplyNextIno(const MetadataOp& op) {
  if (op.ino == 0 || op.ino > kLastIno + 1) {
    return Misfit(op, "inode number out of range");
  }
  next_ino_ = std::max(next_ino_, op.ino);
  return Result::Ok();
}

void Namespace::AddName(Inode* directory, const std::string& name,
                        Inode* inode) {
  directory->entries.emplace(name, inode->ino);
  ++inode->link_count;
  if (inode->is_directory) inode->parent = directory->ino;
  names_bytes_ += kNameBytes + name.size();
}

void Namespace::DropName(Inode* directory, const std::string& name,
                         Effects* effects) {
  const auto entry = directory->entries.find(name);
  const auto found = inodes_.find(entry->second);
  Inode* const inode = found->second.get();
  names_bytes_ -= kNameBytes + name.size();
  directory->entries.erase(entry);
  if (--inode->link_count > 0) return;

  names_bytes_ -= InodeBytes(*inode);
  if (inode->log != nullptr) {
    NoteSegments(
        -static_cast<int64_t>(inode->log->journaled().segments.size()));
  }
  NoteExtents(-static_cast<int64_t>(
      inode->map()->CountExtents(inode->journaled_blocks)));
  effects->unlinked = std::move(found->second);
  inodes_.erase(found);
}

const InodePtr* Namespace::FindPtr(uint64_t ino) const {
  const auto found = inodes_.find(ino);
  return found == inodes_.end() ? nullptr : &found->second;
}

const InodePtr* Namespace::FindEntry(const Inode& directory,
                                     const std::string& name) const {
  const auto entry = directory.entries.find(name);
  return entry == directory.entries.end() ? nullptr : FindPtr(entry->second);
}

const InodePtr* Namespace::FindDirectory(uint64_t ino) const {
  const InodePtr* found = FindPtr(ino);
  return found == nullptr || !(*found)->is_directory ? nullptr : found;
}

bool Namespace::IsInside(const Inode* directory, uint64_t ancestor) const {
  while (directory->ino != ancestor) {
    if (directory->ino == kRootIno) return false;
    const InodePtr* parent = FindPtr(directory->parent);
    if (parent == nullptr) return false;
    directory = parent->get();
  }
  return true;
}

InodePtr Namespace::Find(uint64_t ino) const {
  const InodePtr* found = FindPtr(ino);
  return found == nullptr ? nullptr : *found;
}

void Namespace::ForEach(
    const std::function<void(const InodePtr&)>& visit) const {
  std::vector<const InodePtr*> sorted;
  sorted.reserve(inodes_.size());
  for (const auto& [ino, inode] : inodes_) sorted.push_back(&inode);
  std::sort(sorted.begin(), sorted.end(),
            [](const InodePtr* a, const InodePtr* b) {
              return (*a)->ino < (*b)->ino;
            });
  for (const InodePtr* inode : sorted) visit(*inode);
}

// ---- Snapshot --------------------------------------------------------------

namespace {

using VisitFn = std::function<void(const MetadataOp&)>;

void SnapshotContent(const Inode& file, const VisitFn& visit) {
  if (file.journaled_blocks > 0) {
    const std::vector<Extent> extents =
        file.map()->Slice(0, file.journaled_blocks);
    MetadataOp op;
    op.type = OpType::kExtents;
    op.ino = file.ino;
    for (size_t done = 0; done < extents.size(); done += kExtentsPerOp) {
      const auto from = extents.begin() + done;
      const size_t count =
          std::min<size_t>(kExtentsPerOp, extents.size() - done);
      op.extents.assign(from, from + count);
      visit(op);
    }
  }
  if (file.log != nullptr) {
    const LogState::Journaled log = file.log->journaled();
    MetadataOp op;
    op.type = OpType::kSegment;
    op.ino = file.ino;
    for (const LogSegment& segment : log.segments) {
      op.segment = segment;
      visit(op);
    }
    if (log.segments.empty()) return;
    op.type = OpType::kLogEnd;
    op.log_end = log.known;
    op.closed = log.closed;
    op.mtime_us = file.mtime_us;
    visit(op);
  }
  if (file.journaled_bytes > 0) {
    MetadataOp op;
    op.type = OpType::kSize;
    op.ino = file.ino;
    op.size = file.journaled_bytes;
    op.mtime_us = file.mtime_us;
    visit(op);
  }
}

MetadataOp NameOp(OpType type, uint64_t parent, const std::string& name,
                  const Inode& inode) {
  MetadataOp op;
  op.type = type;
  op.kind = inode.kind;
  op.layout = inode.layout;
  op.ino = inode.ino;
  op.parent = parent;
  op.name = name;
  op.mtime_us = inode.mtime_us;
  return op;
}

}  // namespace

void Namespace::SnapshotDirectories(
    const VisitFn& visit, std::vector<const Inode*>* directories) const {
  directories->push_back(FindPtr(kRootIno)->get());
  for (size_t i = 0; i < directories->size(); ++i) {
    const Inode& directory = *(*directories)[i];
    for (const auto& [name, ino] : directory.entries) {
      const Inode& inode = **FindPtr(ino);
      if (!inode.is_directory) continue;
      visit(NameOp(OpType::kMkdir, directory.ino, name, inode));
      directories->push_back(&inode);
    }
  }
}

void Namespace::Snapshot(const VisitFn& visit) const {
  MetadataOp next;
  next.type = OpType::kNextIno;
  next.ino = next_ino_;
  visit(next);

  std::vector<const Inode*> directories;
  SnapshotDirectories(visit, &directories);
  std::unordered_set<uint64_t> created;  // of the files with several names
  for (const Inode* directory : directories) {
    for (const auto& [name, ino] : directory->entries) {
      const Inode& inode = **FindPtr(ino);
      if (inode.is_directory) continue;
      if (inode.link_count > 1 && !created.insert(ino).second) {
        visit(NameOp(OpType::kLink, directory->ino, name, inode));
        continue;
      }
      visit(NameOp(OpType::kCreate, directory->ino, name, inode));
      SnapshotContent(inode, visit);
    }
  }
  // Last, for every entry made above has set the time of its directory.
  for (const Inode* directory : directories) {
    MetadataOp op;
    op.type = OpType::kMtime;
    op.ino = directory->ino;
    op.mtime_us = directory->mtime_us;
    visit(op);
  }
}

uint64_t Namespace::SnapshotBytes() const {
  // A file's first kExtents is counted with the file; each further one follows
  // kExtentsPerOp extents.
  return names_bytes_ + segments_ * kSegmentBytes + extents_ * kExtentBytes +
         extents_ / kExtentsPerOp * kExtentsOpBytes;
}

void Namespace::NoteSegments(int64_t added_segments) {
  segments_ += static_cast<uint64_t>(added_segments);
}

void Namespace::NoteExtents(int64_t added_extents) {
  if (added_extents >= 0) {
    extents_ += static_cast<uint64_t>(added_extents);
  } else {
    extents_ -= std::min(extents_, static_cast<uint64_t>(-added_extents));
  }
}

}  // namespace diofs
