// What paths mean, and which operation does what a caller asks: the part of
// Namespace that only reads.

#include <cerrno>
#include <string>
#include <utility>

#include "env/namespace.h"

namespace diofs {

namespace {

// Errors carry no path where there is only one: the caller has it.

// Of two paths, the one it is about.
Result PathError(int error, std::string_view path) {
  return Result::Error(error, std::string(path));
}

// Takes the next component that means something off the front of *path. False
// at the end.
bool NextComponent(std::string_view* path, std::string_view* component) {
  do {
    const size_t start = path->find_first_not_of('/');
    if (start == std::string_view::npos) return false;
    path->remove_prefix(start);
    *component = path->substr(0, path->find('/'));
    path->remove_prefix(component->size());
  } while (*component == ".");
  return true;
}

bool IsRoot(const Inode& inode) { return inode.ino == kRootIno; }

}  // namespace

Result Namespace::Resolve(std::string_view path, Lookup* lookup) const {
  lookup->parent.reset();
  lookup->inode.reset();
  lookup->name.clear();
  if (path.find('\0') != std::string_view::npos) {
    return Result::Error(EINVAL, "NUL in a path");
  }
  const InodePtr* parent = FindPtr(kRootIno);
  const InodePtr* inode = parent;
  std::string_view rest = path;
  std::string_view component;
  for (uint32_t depth = 1; NextComponent(&rest, &component); ++depth) {
    if (component == "..") {
      return Result::Error(EINVAL, "\"..\" in a path");
    }
    if (component.size() > kMaxNameBytes) return Result::Error(ENAMETOOLONG);
    if (depth > kMaxPathDepth) {
      return Result::Error(EINVAL, "path too deep");
    }
    parent = inode;
    if (parent == nullptr) continue;  // missing, but the rest must be valid
    if (!(*parent)->is_directory) return Result::Error(ENOTDIR);
    lookup->name.assign(component);
    inode = FindEntry(**parent, lookup->name);
  }
  if (parent == nullptr) {
    lookup->name.clear();
    return Result::Ok();
  }
  // A file cannot be the parent: it would have been found above.
  lookup->parent = *parent;
  if (inode != nullptr) lookup->inode = *inode;
  return Result::Ok();
}

Result Namespace::ResolveExisting(std::string_view path, Lookup* lookup) const {
  Result result = Resolve(path, lookup);
  if (!result.ok()) return result;
  if (lookup->inode == nullptr) return Result::Error(ENOENT);
  return result;
}

Result Namespace::ResolveNew(std::string_view path, Lookup* lookup) const {
  Result result = Resolve(path, lookup);
  if (!result.ok()) return result;
  if (lookup->parent == nullptr) return Result::Error(ENOENT);
  return result;
}

Result Namespace::PrepareInode(const Lookup& lookup, uint64_t now_us,
                               MetadataOp* op) const {
  if (next_ino_ > kLastIno) {
    return Result::Error(ENOSPC, "no inode number is left");
  }
  op->ino = next_ino_;
  op->parent = lookup.parent->ino;
  op->name = lookup.name;
  op->mtime_us = now_us;
  return Result::Ok();
}

Result Namespace::PrepareMkdir(std::string_view path, uint64_t now_us,
                               MetadataOp* op) const {
  *op = MetadataOp();
  op->type = OpType::kMkdir;
  Lookup lookup;
  Result result = ResolveNew(path, &lookup);
  if (!result.ok()) return result;
  if (lookup.inode != nullptr) return Result::Error(EEXIST);
  return PrepareInode(lookup, now_us, op);
}

Result Namespace::PrepareCreate(std::string_view path, FileKind kind,
                                uint64_t now_us, MetadataOp* op) const {
  *op = MetadataOp();
  op->type = OpType::kCreate;
  op->kind = kind;
  op->layout = LayoutOf(kind);
  Lookup lookup;
  Result result = ResolveNew(path, &lookup);
  if (!result.ok()) return result;
  if (lookup.inode != nullptr) {
    return Result::Error(lookup.inode->is_directory ? EISDIR : EEXIST);
  }
  return PrepareInode(lookup, now_us, op);
}

Result Namespace::PrepareLink(std::string_view from, std::string_view to,
                              MetadataOp* op) const {
  *op = MetadataOp();
  op->type = OpType::kLink;
  Lookup source;
  Result result = ResolveExisting(from, &source);
  if (!result.ok()) return std::move(result).With(std::string(from));
  if (source.inode->is_directory) return PathError(EPERM, from);
  if (source.inode->link_count == UINT32_MAX) return PathError(EMLINK, from);
  Lookup target;
  result = ResolveNew(to, &target);
  if (!result.ok()) return std::move(result).With(std::string(to));
  if (target.inode != nullptr) return PathError(EEXIST, to);
  op->ino = source.inode->ino;
  op->parent = target.parent->ino;
  op->name = std::move(target.name);
  return result;
}

Result Namespace::PrepareUnlink(std::string_view path, MetadataOp* op) const {
  *op = MetadataOp();
  op->type = OpType::kUnlink;
  Lookup lookup;
  Result result = ResolveExisting(path, &lookup);
  if (!result.ok()) return result;
  if (lookup.inode->is_directory) return Result::Error(EISDIR);
  op->parent = lookup.parent->ino;
  op->name = std::move(lookup.name);
  return result;
}

Result Namespace::PrepareRmdir(std::string_view path, MetadataOp* op) const {
  *op = MetadataOp();
  op->type = OpType::kRmdir;
  Lookup lookup;
  Result result = ResolveExisting(path, &lookup);
  if (!result.ok()) return result;
  if (!lookup.inode->is_directory) return Result::Error(ENOTDIR);
  if (IsRoot(*lookup.inode)) return Result::Error(EBUSY);
  if (!lookup.inode->entries.empty()) return Result::Error(ENOTEMPTY);
  op->parent = lookup.parent->ino;
  op->name = std::move(lookup.name);
  return result;
}

Result Namespace::PrepareRename(std::string_view from, std::string_view to,
                                MetadataOp* op) const {
  *op = MetadataOp();
  Lookup source;
  Result result = ResolveExisting(from, &source);
  if (!result.ok()) return std::move(result).With(std::string(from));
  Lookup target;
  result = ResolveNew(to, &target);
  if (!result.ok()) return std::move(result).With(std::string(to));
  const Inode& moved = *source.inode;
  if (IsRoot(moved)) return PathError(EBUSY, from);
  if (target.inode == source.inode) return result;
  if (moved.is_directory && IsInside(target.parent.get(), moved.ino)) {
    return PathError(EINVAL, to);
  }
  if (target.inode != nullptr) {
    const Inode& replaced = *target.inode;
    if (IsRoot(replaced)) return PathError(EBUSY, to);
    if (moved.is_directory && !replaced.is_directory) {
      return PathError(ENOTDIR, to);
    }
    if (!moved.is_directory && replaced.is_directory) {
      return PathError(EISDIR, to);
    }
    if (!replaced.entries.empty()) return PathError(ENOTEMPTY, to);
  }
  op->type = OpType::kRename;
  op->parent = source.parent->ino;
  op->name = std::move(source.name);
  op->new_parent = target.parent->ino;
  op->new_name = std::move(target.name);
  return result;
}

}  // namespace diofs
