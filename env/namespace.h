#ifndef DIOFS_ENV_NAMESPACE_H_
#define DIOFS_ENV_NAMESPACE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dio/result.h"
#include "env/format.h"
#include "env/inode.h"
#include "env/metadata_op.h"

namespace diofs {

// The tree of names and the table of inodes. Every change, at run time and in
// recovery alike, is a MetadataOp given to Apply. Not thread-safe: the volume
// guards it with the namespace lock.
class Namespace {
 public:
  // An empty root directory.
  Namespace();

  // What an operation let go of.
  struct Effects {
    // Its last name is gone, and it has left the table: a file, or a directory
    // removed or replaced.
    InodePtr unlinked;
    // Blocks that kTrim cut off.
    std::vector<Extent> trimmed;
  };

  // Carries `op` out. EUCLEAN, changing nothing, where it does not fit the
  // tree: an unknown inode, a name that is taken or missing, a directory moved
  // into itself, extents of a directory. Run-time callers have checked with the
  // methods below, so that for them it cannot fail. *effects is overwritten.
  //
  // kExtents, kSize, kTrim, kSegment, kLogEnd and kMtime of a file are for
  // recovery alone: they set what readers see as well. At run time the volume
  // journals them and keeps a live inode's fields itself; of an inode that has
  // no name left it journals nothing. Whether extents lie on the device and
  // belong to one file only is for the volume to check.
  Result Apply(const MetadataOp& op, Effects* effects);
  // Encoded operations one after the other, as a journal has them, up to the
  // first that is none or does not fit.
  Result ApplyAll(std::string_view operations);

  // Where a path leads. `parent` is set when the directory that holds (or would
  // hold) the last component exists; `inode` when the path itself does. The
  // root has itself as parent and an empty name.
  struct Lookup {
    InodePtr parent;
    InodePtr inode;
    std::string name;
  };
  // Components are separated by one or more '/'; "." is skipped, a relative
  // path starts at the root. EINVAL for "..", NUL, more than kMaxPathDepth
  // parts; ENAMETOOLONG; ENOTDIR where a file stands in the way. A missing
  // component is no error.
  Result Resolve(std::string_view path, Lookup* lookup) const;

  // Fill *op with the operation that does what is asked, or say why not, as the
  // system call of that name would: ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY,
  // EINVAL (a directory into itself), EPERM (a hard link to a directory), EBUSY
  // (the root). Nothing is changed.
  Result PrepareMkdir(std::string_view path, uint64_t now_us,
                      MetadataOp* op) const;
  Result PrepareCreate(std::string_view path, FileKind kind, uint64_t now_us,
                       MetadataOp* op) const;
  Result PrepareLink(std::string_view from, std::string_view to,
                     MetadataOp* op) const;
  Result PrepareUnlink(std::string_view path, MetadataOp* op) const;
  Result PrepareRmdir(std::string_view path, MetadataOp* op) const;
  // An `op` of type kMtime with ino 0 means: nothing to do (a file renamed onto
  // itself or onto another of its links).
  Result PrepareRename(std::string_view from, std::string_view to,
                       MetadataOp* op) const;

  InodePtr Find(uint64_t ino) const;
  InodePtr root() const { return Find(kRootIno); }
  uint64_t next_ino() const { return next_ino_; }
  size_t inode_count() const { return inodes_.size(); }

  // Visits every inode, in order of number.
  void ForEach(const std::function<void(const InodePtr&)>& visit) const;

  // The operations that build this tree from an empty root, as the journal
  // keeps them: of each file only what is journaled. Visited in order.
  void Snapshot(const std::function<void(const MetadataOp&)>& visit) const;
  // What an extent more takes of a snapshot, in bytes.
  static constexpr uint64_t kExtentBytes = 16;
  // An upper bound of the encoded size of Snapshot's operations in bytes, kept
  // up to date at O(1) per change.
  uint64_t SnapshotBytes() const;
  // To be told when the journaled blocks of a file that has a name have changed
  // outside Apply: by how many the extents that hold them, as
  // ExtentMap::CountExtents(journaled_blocks) has it, are more or fewer. What
  // is told in excess is never taken back.
  void NoteExtents(int64_t added_extents);
  // As NoteExtents, of the segments of a log.
  void NoteSegments(int64_t added_segments);

 private:
  // Null where there is none. They stay valid until the inode is erased.
  const InodePtr* FindPtr(uint64_t ino) const;
  const InodePtr* FindEntry(const Inode& directory,
                            const std::string& name) const;
  const InodePtr* FindDirectory(uint64_t ino) const;
  bool IsInside(const Inode* directory, uint64_t ancestor) const;
  // Resolve for a path that must exist: ENOENT where it does not.
  Result ResolveExisting(std::string_view path, Lookup* lookup) const;
  // Resolve for a path that shall come to be: ENOENT without a parent.
  Result ResolveNew(std::string_view path, Lookup* lookup) const;
  Result PrepareInode(const Lookup& lookup, uint64_t now_us,
                      MetadataOp* op) const;

  Result ApplyNewInode(const MetadataOp& op);
  Result ApplyLink(const MetadataOp& op);
  Result ApplyRemove(const MetadataOp& op, Effects* effects);
  Result ApplyRename(const MetadataOp& op, Effects* effects);
  Result ApplyExtents(const MetadataOp& op);
  Result ApplySize(const MetadataOp& op);
  Result ApplyTrim(const MetadataOp& op, Effects* effects);
  Result ApplySegment(const MetadataOp& op);
  Result ApplyLogEnd(const MetadataOp& op);
  // Of a log; null where there is none.
  const InodePtr* FindLog(uint64_t ino) const;
  Result ApplyNextIno(const MetadataOp& op);
  void AddName(Inode* directory, const std::string& name, Inode* inode);
  void DropName(Inode* directory, const std::string& name, Effects* effects);

  void SnapshotDirectories(const std::function<void(const MetadataOp&)>& visit,
                           std::vector<const Inode*>* directories) const;

  // What follows it can still be told by a kNextIno, which refuses UINT64_MAX.
  static constexpr uint64_t kLastIno = UINT64_MAX - 2;

  std::unordered_map<uint64_t, InodePtr> inodes_;
  uint64_t next_ino_ = kRootIno + 1;
  // What makes up SnapshotBytes.
  uint64_t names_bytes_ = 0;  // inodes and names, but for extents
  uint64_t extents_ = 0;      // journaled, of all files
  uint64_t segments_ = 0;     // of all logs
};

}  // namespace diofs

#endif  // DIOFS_ENV_NAMESPACE_H_
