#ifndef DIOFS_TESTS_NAMESPACE_CHECKS_H_
#define DIOFS_TESTS_NAMESPACE_CHECKS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "env/namespace.h"

namespace diofs {

inline MetadataOp OpOf(OpType type, uint64_t ino) {
  MetadataOp op;
  op.type = type;
  op.ino = ino;
  return op;
}

inline MetadataOp NamedOp(OpType type, uint64_t parent, const std::string& name,
                          uint64_t ino) {
  MetadataOp op = OpOf(type, ino);
  op.parent = parent;
  op.name = name;
  return op;
}

inline MetadataOp RenameOp(uint64_t parent, const std::string& name,
                           uint64_t new_parent, const std::string& new_name) {
  MetadataOp op = NamedOp(OpType::kRename, parent, name, 0);
  op.new_parent = new_parent;
  op.new_name = new_name;
  return op;
}

inline MetadataOp ExtentsOp(uint64_t ino, std::vector<Extent> extents) {
  MetadataOp op = OpOf(OpType::kExtents, ino);
  op.extents = std::move(extents);
  return op;
}

inline MetadataOp SizeOp(OpType type, uint64_t ino, uint64_t size) {
  MetadataOp op = OpOf(type, ino);
  op.size = size;
  return op;
}

// One line for each name: all that a snapshot must carry over.
inline void DumpTree(const Namespace& names, const Inode& directory,
                     const std::string& path,
                     std::map<std::string, std::string>* out) {
  for (const auto& [name, ino] : directory.entries) {
    const InodePtr inode = names.Find(ino);
    ASSERT_NE(inode, nullptr);
    std::ostringstream line;
    line << inode->ino << " links=" << inode->link_count
         << " mtime=" << inode->mtime_us;
    if (inode->is_directory) {
      line << " dir in " << inode->parent;
    } else {
      line << " kind=" << FileKindName(inode->kind)
           << " size=" << inode->journaled_bytes << " blocks=";
      for (const Extent& e : inode->map()->Slice(0, inode->journaled_blocks)) {
        line << e.start << "+" << e.count << " ";
      }
      if (inode->log != nullptr) {
        const LogState::Journaled log = inode->log->journaled();
        for (const LogSegment& segment : log.segments) {
          line << " segment=" << segment.logical << "@" << segment.position
               << "/" << segment.generation;
        }
        line << " known=" << log.known.logical << "@" << log.known.position
             << "/" << log.known.chain << (log.closed ? " closed" : "");
      }
    }
    std::string below = path;
    below.append("/").append(name);
    (*out)[below] = line.str();
    if (inode->is_directory) DumpTree(names, *inode, below, out);
  }
}

inline std::map<std::string, std::string> Dump(const Namespace& names) {
  std::map<std::string, std::string> out;
  std::ostringstream line;
  line << "mtime=" << names.root()->mtime_us << " next=" << names.next_ino()
       << " inodes=" << names.inode_count();
  out[""] = line.str();
  DumpTree(names, *names.root(), "", &out);
  return out;
}

inline std::string EncodeSnapshot(const Namespace& names) {
  std::string bytes;
  names.Snapshot([&](const MetadataOp& op) { op.EncodeTo(&bytes); });
  return bytes;
}

// What recovery does with a snapshot.
inline void Replay(std::string_view bytes, Namespace* names) {
  Namespace::Effects effects;
  while (!bytes.empty()) {
    MetadataOp op;
    const Result decoded = MetadataOp::DecodeFrom(&bytes, &op);
    ASSERT_TRUE(decoded.ok()) << decoded.ToString();
    const Result applied = names->Apply(op, &effects);
    ASSERT_TRUE(applied.ok()) << applied.ToString();
    ASSERT_EQ(effects.unlinked, nullptr);
    ASSERT_TRUE(effects.trimmed.empty());
  }
}

inline void CheckSnapshot(const Namespace& names) {
  const std::string bytes = EncodeSnapshot(names);
  // Never below, and not far above: a file without blocks or size takes less.
  ASSERT_GE(names.SnapshotBytes(), bytes.size());
  ASSERT_LE(names.SnapshotBytes(), bytes.size() + 80 * names.inode_count());
  Namespace copy;
  ASSERT_NO_FATAL_FAILURE(Replay(bytes, &copy));
  ASSERT_EQ(Dump(copy), Dump(names));
  ASSERT_EQ(EncodeSnapshot(copy), bytes);
}

// What must hold of any tree, whatever was applied to it.
inline void CheckInvariants(const Namespace& names) {
  std::map<uint64_t, uint32_t> names_of;
  names.ForEach([&](const InodePtr& inode) {
    ASSERT_LT(inode->ino, names.next_ino());
    ASSERT_EQ(names.Find(inode->ino), inode);
    ASSERT_EQ(inode->map()->blocks(), inode->journaled_blocks);
    ASSERT_LE(inode->journaled_bytes, inode->journaled_blocks * kBlockBytes);
    ASSERT_EQ(inode->visible_bytes,
              inode->log == nullptr ? inode->journaled_bytes
                                    : inode->log->journaled().known.logical);
    ASSERT_EQ(inode->written_bytes, inode->visible_bytes);
    ASSERT_TRUE(inode->is_directory || inode->entries.empty());
    for (const auto& [name, ino] : inode->entries) {
      const InodePtr child = names.Find(ino);
      ASSERT_NE(child, nullptr) << name;
      if (child->is_directory) {
        ASSERT_EQ(child->parent, inode->ino);
      }
      ++names_of[ino];
    }
  });
  names.ForEach([&](const InodePtr& inode) {
    const bool is_root = inode->ino == kRootIno;
    ASSERT_EQ(inode->link_count, is_root ? 1 : names_of[inode->ino]);
    if (inode->is_directory) {
      ASSERT_EQ(names_of[inode->ino], is_root ? 0u : 1u);
    }
  });
  // Everything hangs below the root: replaying the snapshot finds it all.
  CheckSnapshot(names);
}

}  // namespace diofs

#endif  // DIOFS_TESTS_NAMESPACE_CHECKS_H_
