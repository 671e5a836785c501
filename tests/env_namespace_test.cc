#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "env/namespace.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

using Effects = Namespace::Effects;
using Lookup = Namespace::Lookup;

MetadataOp OpOf(OpType type, uint64_t ino) {
  MetadataOp op;
  op.type = type;
  op.ino = ino;
  return op;
}

MetadataOp NamedOp(OpType type, uint64_t parent, const std::string& name,
                   uint64_t ino) {
  MetadataOp op = OpOf(type, ino);
  op.parent = parent;
  op.name = name;
  return op;
}

MetadataOp RenameOp(uint64_t parent, const std::string& name,
                    uint64_t new_parent, const std::string& new_name) {
  MetadataOp op = NamedOp(OpType::kRename, parent, name, 0);
  op.new_parent = new_parent;
  op.new_name = new_name;
  return op;
}

MetadataOp ExtentsOp(uint64_t ino, std::vector<Extent> extents) {
  MetadataOp op = OpOf(OpType::kExtents, ino);
  op.extents = std::move(extents);
  return op;
}

MetadataOp SizeOp(OpType type, uint64_t ino, uint64_t size) {
  MetadataOp op = OpOf(type, ino);
  op.size = size;
  return op;
}

// One line for each name: all that a snapshot must carry over.
void DumpTree(const Namespace& names, const Inode& directory,
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
    }
    (*out)[path + "/" + name] = line.str();
    if (inode->is_directory) DumpTree(names, *inode, path + "/" + name, out);
  }
}

std::map<std::string, std::string> Dump(const Namespace& names) {
  std::map<std::string, std::string> out;
  std::ostringstream line;
  line << "mtime=" << names.root()->mtime_us << " next=" << names.next_ino()
       << " inodes=" << names.inode_count();
  out[""] = line.str();
  DumpTree(names, *names.root(), "", &out);
  return out;
}

std::string EncodeSnapshot(const Namespace& names) {
  std::string bytes;
  names.Snapshot([&](const MetadataOp& op) { op.EncodeTo(&bytes); });
  return bytes;
}

// What recovery does with a snapshot.
void Replay(std::string_view bytes, Namespace* names) {
  Effects effects;
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

void CheckSnapshot(const Namespace& names) {
  const std::string bytes = EncodeSnapshot(names);
  // Never below, and not far above: a file without blocks or size takes less.
  ASSERT_GE(names.SnapshotBytes(), bytes.size());
  ASSERT_LE(names.SnapshotBytes(), bytes.size() + 64 * names.inode_count());
  Namespace copy;
  ASSERT_NO_FATAL_FAILURE(Replay(bytes, &copy));
  ASSERT_EQ(Dump(copy), Dump(names));
  ASSERT_EQ(EncodeSnapshot(copy), bytes);
}

// What must hold of any tree, whatever was applied to it.
void CheckInvariants(const Namespace& names) {
  std::map<uint64_t, uint32_t> names_of;
  names.ForEach([&](const InodePtr& inode) {
    ASSERT_LT(inode->ino, names.next_ino());
    ASSERT_EQ(names.Find(inode->ino), inode);
    ASSERT_EQ(inode->map()->blocks(), inode->journaled_blocks);
    ASSERT_LE(inode->journaled_bytes, inode->journaled_blocks * kBlockBytes);
    ASSERT_EQ(inode->visible_bytes, inode->journaled_bytes);
    ASSERT_EQ(inode->written_bytes, inode->journaled_bytes);
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

class NamespaceTest : public ::testing::Test {
 protected:
  uint64_t Run(const Result& prepared, const MetadataOp& op) {
    EXPECT_TRUE(prepared.ok()) << prepared.ToString();
    const Result applied = names_.Apply(op, &effects_);
    EXPECT_TRUE(applied.ok()) << applied.ToString();
    return op.ino;
  }
  uint64_t Mkdir(const char* path, uint64_t now_us = 1) {
    MetadataOp op;
    const Result prepared = names_.PrepareMkdir(path, now_us, &op);
    return Run(prepared, op);
  }
  uint64_t Create(const char* path, uint64_t now_us = 1) {
    MetadataOp op;
    const Result prepared =
        names_.PrepareCreate(path, FileKind::kSst, now_us, &op);
    return Run(prepared, op);
  }
  void Link(const char* from, const char* to) {
    MetadataOp op;
    const Result prepared = names_.PrepareLink(from, to, &op);
    Run(prepared, op);
  }
  void Unlink(const char* path) {
    MetadataOp op;
    const Result prepared = names_.PrepareUnlink(path, &op);
    Run(prepared, op);
  }
  void Rename(const char* from, const char* to) {
    MetadataOp op;
    const Result prepared = names_.PrepareRename(from, to, &op);
    Run(prepared, op);
  }
  int Apply(const MetadataOp& op) {
    return names_.Apply(op, &effects_).error();
  }
  uint64_t InoOf(const char* path) {
    Lookup lookup;
    EXPECT_TRUE(names_.Resolve(path, &lookup).ok());
    return lookup.inode == nullptr ? 0 : lookup.inode->ino;
  }

  Namespace names_;
  Effects effects_;
};

TEST_F(NamespaceTest, ResolvePaths) {
  const uint64_t a = Mkdir("/a");
  const uint64_t b = Mkdir("/a/b");
  const uint64_t file = Create("/a/b/f");
  const struct {
    const char* path;
    uint64_t parent;  // 0: none
    uint64_t ino;     // 0: none
    const char* name;
  } cases[] = {
      {"/", 1, 1, ""},
      {"", 1, 1, ""},
      {"///", 1, 1, ""},
      {".", 1, 1, ""},
      {"/a", 1, a, "a"},
      {"a", 1, a, "a"},
      {"/a//b/./f", b, file, "f"},
      {"//a/b//", a, b, "b"},
      {"/./a/b/./", a, b, "b"},
      {"/a/b/f/.", b, file, "f"},
      {"/a/b/none", b, 0, "none"},
      {"/a/.../x", 0, 0, ""},
      {"/a/.hidden", a, 0, ".hidden"},
      {"/none", 1, 0, "none"},
      {"/none/deeper/still", 0, 0, ""},
  };
  for (const auto& c : cases) {
    Lookup lookup;
    ASSERT_TRUE(names_.Resolve(c.path, &lookup).ok()) << c.path;
    EXPECT_EQ(lookup.parent ? lookup.parent->ino : 0, c.parent) << c.path;
    EXPECT_EQ(lookup.inode ? lookup.inode->ino : 0, c.ino) << c.path;
    EXPECT_EQ(lookup.name, c.name) << c.path;
  }
}

TEST_F(NamespaceTest, ResolveRefuses) {
  Mkdir("/a");
  Create("/f");
  const std::string longest(kMaxNameBytes, 'n');
  Lookup lookup;
  EXPECT_EQ(names_.Resolve("/..", &lookup).error(), EINVAL);
  EXPECT_EQ(names_.Resolve("/a/../f", &lookup).error(), EINVAL);
  EXPECT_EQ(names_.Resolve("/none/..", &lookup).error(), EINVAL);
  EXPECT_EQ(names_.Resolve(std::string_view("/a\0b", 4), &lookup).error(),
            EINVAL);
  EXPECT_TRUE(names_.Resolve("/" + longest, &lookup).ok());
  EXPECT_EQ(names_.Resolve("/" + longest + "n", &lookup).error(), ENAMETOOLONG);
  EXPECT_EQ(names_.Resolve("/none/" + longest + "n/x", &lookup).error(),
            ENAMETOOLONG);
  EXPECT_EQ(names_.Resolve("/f/x", &lookup).error(), ENOTDIR);
  EXPECT_EQ(names_.Resolve("/f/x/y", &lookup).error(), ENOTDIR);

  std::string deep;
  for (uint32_t i = 0; i < kMaxPathDepth; ++i) deep += "/./d";
  EXPECT_TRUE(names_.Resolve(deep, &lookup).ok());
  EXPECT_EQ(names_.Resolve(deep + "/d", &lookup).error(), EINVAL);
}

TEST_F(NamespaceTest, PrepareRefusesAsTheSystemCallWould) {
  Mkdir("/d");
  Mkdir("/d/e");
  Mkdir("/empty");
  Create("/f");
  Create("/g");
  MetadataOp op;
  const auto before = Dump(names_);
  EXPECT_EQ(names_.PrepareMkdir("/", 1, &op).error(), EEXIST);
  EXPECT_EQ(names_.PrepareMkdir("/d", 1, &op).error(), EEXIST);
  EXPECT_EQ(names_.PrepareMkdir("/f", 1, &op).error(), EEXIST);
  EXPECT_EQ(names_.PrepareMkdir("/none/x", 1, &op).error(), ENOENT);
  EXPECT_EQ(names_.PrepareMkdir("/f/x", 1, &op).error(), ENOTDIR);
  const auto create = [&](const char* path) {
    return names_.PrepareCreate(path, FileKind::kWal, 1, &op).error();
  };
  EXPECT_EQ(create("/f"), EEXIST);
  EXPECT_EQ(create("/d"), EISDIR);
  EXPECT_EQ(create("/"), EISDIR);
  EXPECT_EQ(create("/none/x"), ENOENT);
  EXPECT_EQ(create("/f/x"), ENOTDIR);
  EXPECT_EQ(names_.PrepareLink("/f", "/g", &op).error(), EEXIST);
  EXPECT_EQ(names_.PrepareLink("/d", "/x", &op).error(), EPERM);
  EXPECT_EQ(names_.PrepareLink("/none", "/x", &op).error(), ENOENT);
  EXPECT_EQ(names_.PrepareLink("/f", "/none/x", &op).error(), ENOENT);
  EXPECT_EQ(names_.PrepareUnlink("/none", &op).error(), ENOENT);
  EXPECT_EQ(names_.PrepareUnlink("/d", &op).error(), EISDIR);
  EXPECT_EQ(names_.PrepareUnlink("/f/x", &op).error(), ENOTDIR);
  EXPECT_EQ(names_.PrepareRmdir("/", &op).error(), EBUSY);
  EXPECT_EQ(names_.PrepareRmdir("/d", &op).error(), ENOTEMPTY);
  EXPECT_EQ(names_.PrepareRmdir("/f", &op).error(), ENOTDIR);
  EXPECT_EQ(names_.PrepareRmdir("/none", &op).error(), ENOENT);
  const auto rename = [&](const char* from, const char* to) {
    return names_.PrepareRename(from, to, &op).error();
  };
  EXPECT_EQ(rename("/none", "/x"), ENOENT);
  EXPECT_EQ(rename("/f", "/none/x"), ENOENT);
  EXPECT_EQ(rename("/f", "/g/x"), ENOTDIR);
  EXPECT_EQ(rename("/f", "/d"), EISDIR);
  EXPECT_EQ(rename("/empty", "/f"), ENOTDIR);
  EXPECT_EQ(rename("/empty", "/d"), ENOTEMPTY);
  EXPECT_EQ(rename("/d/e", "/d"), ENOTEMPTY);
  EXPECT_EQ(rename("/d", "/d/x"), EINVAL);
  EXPECT_EQ(rename("/d", "/d/e"), EINVAL);
  EXPECT_EQ(rename("/d", "/d/e/x"), EINVAL);
  EXPECT_EQ(rename("/", "/x"), EBUSY);
  EXPECT_EQ(rename("/f", "/"), EBUSY);
  EXPECT_EQ(Dump(names_), before);
}

TEST_F(NamespaceTest, ErrorsOfTwoPathsNameTheOneAtFault) {
  Create("/f");
  MetadataOp op;
  EXPECT_EQ(names_.PrepareRename("/none", "/x", &op).context(), "/none");
  EXPECT_EQ(names_.PrepareRename("/f", "/none/x", &op).context(), "/none/x");
  EXPECT_EQ(names_.PrepareLink("/f", "/f", &op).context(), "/f");
}

TEST_F(NamespaceTest, LastNameLetsTheInodeGo) {
  const uint64_t ino = Create("/f");
  Link("/f", "/g");
  EXPECT_EQ(names_.Find(ino)->link_count, 2u);
  Unlink("/f");
  EXPECT_EQ(effects_.unlinked, nullptr);
  EXPECT_EQ(InoOf("/g"), ino);
  Unlink("/g");
  ASSERT_NE(effects_.unlinked, nullptr);
  EXPECT_EQ(effects_.unlinked->ino, ino);
  EXPECT_EQ(effects_.unlinked->link_count, 0u);
  EXPECT_EQ(names_.Find(ino), nullptr);
  Create("/h");  // the effects of the operation before are forgotten
  EXPECT_EQ(effects_.unlinked, nullptr);
  EXPECT_NE(InoOf("/h"), ino);
}

TEST_F(NamespaceTest, RenameReplaces) {
  const uint64_t old_file = Create("/CURRENT");
  const uint64_t new_file = Create("/CURRENT.tmp");
  Rename("/CURRENT.tmp", "/CURRENT");
  ASSERT_NE(effects_.unlinked, nullptr);
  EXPECT_EQ(effects_.unlinked->ino, old_file);
  EXPECT_EQ(InoOf("/CURRENT"), new_file);
  EXPECT_EQ(InoOf("/CURRENT.tmp"), 0u);
  EXPECT_EQ(names_.Find(new_file)->link_count, 1u);

  const uint64_t full = Mkdir("/full");
  Create("/full/x");
  const uint64_t empty = Mkdir("/empty");
  Rename("/full", "/empty");
  ASSERT_NE(effects_.unlinked, nullptr);
  EXPECT_EQ(effects_.unlinked->ino, empty);
  EXPECT_EQ(InoOf("/empty"), full);
  EXPECT_NE(InoOf("/empty/x"), 0u);
  CheckInvariants(names_);
}

TEST_F(NamespaceTest, RenameMovesDirectoriesBetweenParents) {
  const uint64_t a = Mkdir("/a");
  const uint64_t b = Mkdir("/b");
  const uint64_t c = Mkdir("/a/c");
  Create("/a/c/f");
  Rename("/a/c", "/b/d");
  EXPECT_EQ(names_.Find(c)->parent, b);
  EXPECT_EQ(names_.Find(c)->link_count, 1u);
  Rename("/a", "/b/d/a");
  EXPECT_EQ(names_.Find(a)->parent, c);
  EXPECT_EQ(InoOf("/b/d/a"), a);
  CheckInvariants(names_);
}

TEST_F(NamespaceTest, RenameOntoItselfIsNothingToDo) {
  const uint64_t ino = Create("/f");
  Link("/f", "/g");
  Mkdir("/d");
  const auto before = Dump(names_);
  MetadataOp op;
  for (const char* to : {"/f", "/g", "//./f"}) {
    ASSERT_TRUE(names_.PrepareRename("/f", to, &op).ok());
    EXPECT_EQ(op.type, OpType::kMtime);
    EXPECT_EQ(op.ino, 0u);
  }
  ASSERT_TRUE(names_.PrepareRename("/d", "/d/", &op).ok());
  EXPECT_EQ(op.ino, 0u);
  // And as an operation, should a journal hold one.
  EXPECT_EQ(Apply(RenameOp(1, "f", 1, "g")), 0);
  EXPECT_EQ(Apply(RenameOp(1, "d", 1, "d")), 0);
  EXPECT_EQ(Dump(names_), before);
  EXPECT_EQ(names_.Find(ino)->link_count, 2u);
}

TEST_F(NamespaceTest, NewEntriesSetTheTimeOfTheirDirectory) {
  const uint64_t d = Mkdir("/d", 10);
  EXPECT_EQ(names_.root()->mtime_us, 10u);
  Create("/d/f", 20);
  EXPECT_EQ(names_.Find(d)->mtime_us, 20u);
  EXPECT_EQ(names_.root()->mtime_us, 10u);
  MetadataOp op = OpOf(OpType::kMtime, d);
  op.mtime_us = 15;  // below that of its file
  EXPECT_EQ(Apply(op), 0);
  CheckSnapshot(names_);
}

TEST_F(NamespaceTest, ApplyRefusesWhatDoesNotFit) {
  const uint64_t d = Mkdir("/d");
  const uint64_t e = Mkdir("/d/e");
  const uint64_t f = Create("/f");
  ASSERT_EQ(Apply(ExtentsOp(f, {{100, 2}})), 0);
  ASSERT_EQ(Apply(SizeOp(OpType::kSize, f, 5000)), 0);
  const auto before = Dump(names_);
  const uint64_t bytes_before = names_.SnapshotBytes();

  const std::string too_long(kMaxNameBytes + 1, 'n');
  std::vector<MetadataOp> bad = {
      NamedOp(OpType::kMkdir, 77, "x", 50),
      NamedOp(OpType::kMkdir, f, "x", 50),
      NamedOp(OpType::kMkdir, 1, "d", 50),
      NamedOp(OpType::kMkdir, 1, "", 50),
      NamedOp(OpType::kMkdir, 1, ".", 50),
      NamedOp(OpType::kCreate, 1, "..", 50),
      NamedOp(OpType::kCreate, 1, "x/y", 50),
      NamedOp(OpType::kCreate, 1, std::string("x\0y", 3), 50),
      NamedOp(OpType::kCreate, 1, too_long, 50),
      NamedOp(OpType::kCreate, 1, "x", 0),
      NamedOp(OpType::kCreate, 1, "x", kRootIno),
      NamedOp(OpType::kCreate, 1, "x", f),
      NamedOp(OpType::kCreate, 1, "x", UINT64_MAX),
      NamedOp(OpType::kCreate, 1, "x", UINT64_MAX - 1),
      NamedOp(OpType::kLink, 1, "x", d),
      NamedOp(OpType::kLink, 1, "x", 50),
      NamedOp(OpType::kLink, 1, "f", f),
      NamedOp(OpType::kLink, f, "x", f),
      NamedOp(OpType::kLink, 1, "", f),
      NamedOp(OpType::kUnlink, 1, "x", 0),
      NamedOp(OpType::kUnlink, 1, "d", 0),
      NamedOp(OpType::kUnlink, f, "x", 0),
      NamedOp(OpType::kRmdir, 1, "f", 0),
      NamedOp(OpType::kRmdir, 1, "d", 0),
      RenameOp(1, "x", 1, "y"),
      RenameOp(1, "f", 50, "y"),
      RenameOp(50, "f", 1, "y"),
      RenameOp(1, "f", f, "y"),
      RenameOp(1, "f", 1, "a/b"),
      RenameOp(1, "f", 1, "d"),
      RenameOp(d, "e", 1, "f"),
      RenameOp(1, "d", d, "x"),
      RenameOp(1, "d", e, "x"),
      RenameOp(1, "d", d, "e"),
      RenameOp(d, "e", 1, "d"),
      ExtentsOp(50, {{1, 1}}),
      ExtentsOp(d, {{1, 1}}),
      ExtentsOp(f, {{1, 1}, {1, 0}}),
      ExtentsOp(f, {{UINT64_MAX, 1}}),
      ExtentsOp(f, {{5, UINT64_MAX}}),
      ExtentsOp(f, {{UINT64_MAX - 4, 5}}),
      ExtentsOp(f, {{0, 1ull << 50}, {0, 1ull << 50}, {0, 1ull << 50}}),
      SizeOp(OpType::kSize, f, 2 * kBlockBytes + 1),
      SizeOp(OpType::kSize, f, UINT64_MAX),
      SizeOp(OpType::kSize, d, 0),
      SizeOp(OpType::kSize, 50, 0),
      SizeOp(OpType::kTrim, f, 1),
      SizeOp(OpType::kTrim, f, 3),
      SizeOp(OpType::kTrim, f, UINT64_MAX),
      SizeOp(OpType::kTrim, d, 0),
      SizeOp(OpType::kTrim, 50, 0),
      OpOf(OpType::kMtime, 0),
      OpOf(OpType::kMtime, 50),
      OpOf(OpType::kNextIno, 0),
      OpOf(OpType::kNextIno, UINT64_MAX),
      OpOf(static_cast<OpType>(0), f),
      OpOf(static_cast<OpType>(200), f),
  };
  bad.push_back(NamedOp(OpType::kCreate, 1, "x", 50));
  bad.back().kind = static_cast<FileKind>(kFileKinds);
  for (size_t i = 0; i < bad.size(); ++i) {
    const Result result = names_.Apply(bad[i], &effects_);
    EXPECT_EQ(result.error(), EUCLEAN) << i << ": " << bad[i].ToString();
    EXPECT_FALSE(result.context().empty());
    EXPECT_EQ(effects_.unlinked, nullptr);
    EXPECT_TRUE(effects_.trimmed.empty());
    EXPECT_EQ(Dump(names_), before) << i << ": " << bad[i].ToString();
    EXPECT_EQ(names_.SnapshotBytes(), bytes_before);
  }
}

TEST_F(NamespaceTest, ReplaySetsWhatReadersSee) {
  const uint64_t f = Create("/f");
  ASSERT_EQ(Apply(ExtentsOp(f, {{100, 2}, {102, 1}, {50, 3}})), 0);
  MetadataOp op = SizeOp(OpType::kSize, f, 5 * kBlockBytes + 7);
  op.mtime_us = 99;
  ASSERT_EQ(Apply(op), 0);
  const InodePtr inode = names_.Find(f);
  EXPECT_EQ(inode->journaled_blocks, 6u);
  EXPECT_EQ(inode->map()->extents().size(), 2u);
  EXPECT_EQ(inode->journaled_bytes, op.size);
  EXPECT_EQ(inode->written_bytes, op.size);
  EXPECT_EQ(inode->visible_bytes, op.size);
  EXPECT_EQ(inode->mtime_us, 99u);

  ASSERT_EQ(Apply(SizeOp(OpType::kSize, f, 2 * kBlockBytes)), 0);
  ASSERT_EQ(Apply(SizeOp(OpType::kTrim, f, 2)), 0);
  EXPECT_EQ(effects_.trimmed, (std::vector<Extent>{{102, 1}, {50, 3}}));
  EXPECT_EQ(inode->journaled_blocks, 2u);
  EXPECT_EQ(inode->map()->blocks(), 2u);
  CheckInvariants(names_);
}

TEST_F(NamespaceTest, FilesAndExtentsAreBounded) {
  const uint64_t f = Create("/f");
  const uint64_t g = Create("/g");
  constexpr uint64_t kMost = INT64_MAX / kBlockBytes;
  EXPECT_EQ(Apply(ExtentsOp(f, {{1, kMost}})), EUCLEAN);
  ASSERT_EQ(Apply(ExtentsOp(f, {{0, kMost}})), 0);
  EXPECT_EQ(Apply(ExtentsOp(f, {{0, 1}})), EUCLEAN);
  EXPECT_EQ(Apply(SizeOp(OpType::kSize, f, kMost * kBlockBytes)), 0);
  EXPECT_EQ(Apply(SizeOp(OpType::kSize, f, kMost * kBlockBytes + 1)), EUCLEAN);
  EXPECT_EQ(Apply(ExtentsOp(g, {{kMost - 1, 1}})), 0);
  EXPECT_EQ(Apply(ExtentsOp(g, {{kMost, 1}})), EUCLEAN);
}

TEST_F(NamespaceTest, InodeNumbersRunOutCleanly) {
  ASSERT_EQ(Apply(NamedOp(OpType::kCreate, 1, "last", UINT64_MAX - 2)), 0);
  MetadataOp op;
  EXPECT_EQ(names_.PrepareMkdir("/d", 1, &op).error(), ENOSPC);
  EXPECT_EQ(names_.PrepareCreate("/f", FileKind::kSst, 1, &op).error(), ENOSPC);
  CheckSnapshot(names_);
}

TEST_F(NamespaceTest, NumbersAreNotGivenTwiceAcrossASnapshot) {
  const uint64_t first = Create("/f");
  Unlink("/f");
  Namespace copy;
  Replay(EncodeSnapshot(names_), &copy);
  MetadataOp op;
  ASSERT_TRUE(copy.PrepareCreate("/f", FileKind::kSst, 1, &op).ok());
  EXPECT_GT(op.ino, first);
  ASSERT_EQ(Apply(OpOf(OpType::kNextIno, 1)), 0);  // never goes back
  EXPECT_GT(names_.next_ino(), first);
}

TEST_F(NamespaceTest, SnapshotSplitsLongExtentLists) {
  const uint64_t f = Create("/f");
  for (const size_t count : {4095, 4096, 4097, 8192, 20000}) {
    std::vector<Extent> extents;
    for (uint64_t i = names_.Find(f)->map()->extents().size(); i < count; ++i) {
      extents.push_back({i * 2, 1});
    }
    ASSERT_EQ(Apply(ExtentsOp(f, extents)), 0);
    ASSERT_EQ(names_.Find(f)->map()->extents().size(), count);
    size_t ops = 0;
    names_.Snapshot([&](const MetadataOp& op) {
      EXPECT_LE(op.extents.size(), 4096u);
      ops += op.type == OpType::kExtents;
    });
    EXPECT_EQ(ops, (count + 4095) / 4096);
    CheckSnapshot(names_);
  }
}

// What the volume does to a live inode.
TEST_F(NamespaceTest, SnapshotHoldsWhatIsJournaledOnly) {
  const uint64_t empty_bytes = names_.SnapshotBytes();
  const uint64_t f = Create("/f");
  const InodePtr inode = names_.Find(f);
  auto map = std::make_shared<ExtentMap>();
  for (uint64_t i = 0; i < 1000; ++i) map->Append({i * 10, 4});
  inode->set_map(map);
  inode->visible_bytes = 3000 * kBlockBytes;
  const uint64_t without = names_.SnapshotBytes();
  for (const uint64_t blocks : {2, 4, 6, 2500}) {
    names_.NoteExtents(
        static_cast<int64_t>(map->CountExtents(blocks)) -
        static_cast<int64_t>(map->CountExtents(inode->journaled_blocks)));
    inode->journaled_blocks = blocks;
    inode->journaled_bytes = blocks * kBlockBytes - 1;
    EXPECT_EQ(names_.SnapshotBytes(), without + 16 * ((blocks + 3) / 4));
    CheckSnapshot(names_);
  }
  // Recovery would not build on blocks that no operation named.
  EXPECT_EQ(Apply(ExtentsOp(f, {{90000, 1}})), EUCLEAN);
  EXPECT_EQ(Apply(SizeOp(OpType::kTrim, f, 2500)), EUCLEAN);

  Unlink("/f");
  EXPECT_EQ(names_.SnapshotBytes(), empty_bytes);
  names_.NoteExtents(-5);  // told too often, it does not wrap
  EXPECT_EQ(names_.SnapshotBytes(), empty_bytes);
}

// ---- Against a model -------------------------------------------------------

struct ModelInode {
  bool directory = false;
  uint64_t ino = 0;
  uint64_t size = 0;
  std::vector<uint64_t> blocks;
};

// A file system as a map from paths to inodes: no parents, no link counts.
class ModelTree {
 public:
  using Node = std::shared_ptr<ModelInode>;

  ModelTree() {
    auto root = std::make_shared<ModelInode>();
    root->directory = true;
    root->ino = kRootIno;
    nodes_[""] = root;
  }

  const std::map<std::string, Node>& nodes() const { return nodes_; }
  Node Get(const std::string& path) const {
    const auto found = nodes_.find(path);
    return found == nodes_.end() ? nullptr : found->second;
  }

  // The error of walking to the directory of `path`, else 0.
  int Walk(const std::string& path) const {
    for (size_t slash = path.find('/', 1); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const Node node = Get(path.substr(0, slash));
      if (node == nullptr) return ENOENT;
      if (!node->directory) return ENOTDIR;
    }
    return 0;
  }
  int Add(const std::string& path, const Node& node) {
    if (const int error = Walk(path)) return error;
    if (Node old = Get(path)) {
      return old->directory && !node->directory ? EISDIR : EEXIST;
    }
    nodes_[path] = node;
    return 0;
  }
  int Link(const std::string& from, const std::string& to) {
    if (const int error = Walk(from)) return error;
    const Node node = Get(from);
    if (node == nullptr) return ENOENT;
    if (node->directory) return EPERM;
    if (const int error = Walk(to)) return error;
    if (Get(to) != nullptr) return EEXIST;
    nodes_[to] = node;
    return 0;
  }
  int Remove(const std::string& path, bool directory) {
    if (const int error = Walk(path)) return error;
    const Node node = Get(path);
    if (node == nullptr) return ENOENT;
    if (node->directory != directory) return directory ? ENOTDIR : EISDIR;
    if (path.empty()) return EBUSY;
    if (HasChildren(path)) return ENOTEMPTY;
    nodes_.erase(path);
    return 0;
  }
  int Rename(const std::string& from, const std::string& to) {
    if (const int error = Walk(from)) return error;
    const Node moved = Get(from);
    if (moved == nullptr) return ENOENT;
    if (const int error = Walk(to)) return error;
    const Node replaced = Get(to);
    if (from.empty()) return EBUSY;
    if (replaced == moved) return 0;
    if (to.compare(0, from.size() + 1, from + "/") == 0) return EINVAL;
    if (to.empty()) return EBUSY;
    if (replaced != nullptr) {
      if (moved->directory && !replaced->directory) return ENOTDIR;
      if (!moved->directory && replaced->directory) return EISDIR;
      if (HasChildren(to)) return ENOTEMPTY;
    }
    std::map<std::string, Node> next;
    for (const auto& [path, node] : nodes_) {
      if (path == to) continue;
      const bool inside =
          path == from || path.compare(0, from.size() + 1, from + "/") == 0;
      next[inside ? to + path.substr(from.size()) : path] = node;
    }
    nodes_ = std::move(next);
    return 0;
  }

 private:
  bool HasChildren(const std::string& path) const {
    const auto next = nodes_.upper_bound(path + "/");
    return next != nodes_.end() &&
           next->first.compare(0, path.size() + 1, path + "/") == 0;
  }

  std::map<std::string, Node> nodes_;
};

class NamespaceModel : public ::testing::Test {
 protected:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  // Few names, so that they meet; "" is the root.
  std::string RandomPath() {
    static const std::string kNames[] = {"a",  "b",   "c",
                                         "aa", "a.b", std::string(200, 'n')};
    std::string path;
    const uint64_t depth = Below(20) == 0 ? 0 : 1 + Below(4);
    for (uint64_t i = 0; i < depth; ++i) path += "/" + kNames[Below(6)];
    return path;
  }
  // The same path as somebody else might write it.
  std::string Decorate(const std::string& path) {
    static const char* const kSlashes[] = {"/", "/", "//", "/./", "/.//"};
    std::string out;
    for (const char c : path) {
      if (c == '/') {
        out += kSlashes[Below(5)];
      } else {
        out += c;
      }
    }
    if (Below(4) == 0) out += "/";
    if (Below(4) == 0 && out[0] == '/') out.erase(0, 1);
    return out;
  }

  // A path in the tree three times of four.
  std::string SomePath() {
    if (Below(4) == 0) return RandomPath();
    auto node = model_.nodes().begin();
    std::advance(node, Below(model_.nodes().size()));
    return node->first;
  }

  void Finish(const Result& prepared, int expected, const MetadataOp& op) {
    ASSERT_EQ(prepared.error(), expected)
        << op.ToString() << ": " << prepared.ToString();
    if (expected != 0) return;
    if (op.type == OpType::kMtime && op.ino == 0) return;
    const Result applied = names_.Apply(op, &effects_);
    ASSERT_TRUE(applied.ok()) << applied.ToString();
  }

  void CreateOne(bool directory) {
    const std::string path = RandomPath();
    auto node = std::make_shared<ModelInode>();
    node->directory = directory;
    node->ino = names_.next_ino();
    const int expected = model_.Add(path, node);
    const std::string written = Decorate(path);
    MetadataOp op;
    const Result prepared =
        directory
            ? names_.PrepareMkdir(written, ++clock_, &op)
            : names_.PrepareCreate(written, FileKind::kWal, ++clock_, &op);
    Finish(prepared, expected, op);
  }

  void ChangeName() {
    const std::string from = SomePath();
    const std::string to = Below(2) == 0 ? SomePath() : RandomPath();
    MetadataOp op;
    switch (Below(4)) {
      case 0:
        Finish(names_.PrepareLink(Decorate(from), Decorate(to), &op),
               model_.Link(from, to), op);
        return;
      case 1:
        Finish(names_.PrepareUnlink(Decorate(from), &op),
               model_.Remove(from, false), op);
        return;
      case 2:
        Finish(names_.PrepareRmdir(Decorate(from), &op),
               model_.Remove(from, true), op);
        return;
      default:
        Finish(names_.PrepareRename(Decorate(from), Decorate(to), &op),
               model_.Rename(from, to), op);
    }
  }

  void ChangeContent() {
    const ModelTree::Node node = model_.Get(SomePath());
    if (node == nullptr || node->directory) return;
    MetadataOp op = OpOf(OpType::kExtents, node->ino);
    const uint64_t choice = Below(3);
    if (choice == 0) {
      for (uint64_t i = Below(4); i < 4; ++i) {
        const Extent extent{Below(5000), 1 + Below(5)};
        op.extents.push_back(extent);
        for (uint64_t block = extent.start; block < extent.end(); ++block) {
          node->blocks.push_back(block);
        }
      }
    } else if (choice == 1) {
      op = SizeOp(OpType::kSize, node->ino,
                  Below(node->blocks.size() * kBlockBytes + 1));
      op.mtime_us = ++clock_;
      node->size = op.size;
    } else {
      const uint64_t least = (node->size + kBlockBytes - 1) / kBlockBytes;
      op = SizeOp(OpType::kTrim, node->ino,
                  least + Below(node->blocks.size() - least + 1));
      node->blocks.resize(op.size);
    }
    Finish(Result::Ok(), 0, op);
  }

  void Compare() {
    std::map<uint64_t, uint32_t> links;
    for (const auto& [path, node] : model_.nodes()) {
      ++links[node->ino];
      Lookup lookup;
      ASSERT_TRUE(names_.Resolve(path, &lookup).ok());
      ASSERT_NE(lookup.inode, nullptr) << path;
      ASSERT_EQ(lookup.inode->ino, node->ino) << path;
      ASSERT_EQ(lookup.inode->is_directory, node->directory) << path;
      ASSERT_EQ(lookup.inode->journaled_bytes, node->size) << path;
      std::vector<uint64_t> blocks;
      for (const Extent& extent : lookup.inode->map()->extents()) {
        for (uint64_t i = 0; i < extent.count; ++i) {
          blocks.push_back(extent.start + i);
        }
      }
      ASSERT_EQ(blocks, node->blocks) << path;
    }
    ASSERT_EQ(names_.inode_count(), links.size());
    ASSERT_NO_FATAL_FAILURE(CheckInvariants(names_));
  }

  std::mt19937_64 random_{TestSeed()};
  uint64_t clock_ = 0;
  ModelTree model_;
  Namespace names_;
  Effects effects_;
};

TEST_F(NamespaceModel, RandomAgainstMapOfPaths) {
  for (int step = 0; step < 30000; ++step) {
    const uint64_t choice = Below(8);
    if (choice < 3) {
      CreateOne(choice == 0);
    } else if (choice < 6) {
      ChangeName();
    } else {
      ChangeContent();
    }
    ASSERT_FALSE(HasFatalFailure()) << "step " << step;
    if (step % 250 == 0) {
      ASSERT_NO_FATAL_FAILURE(Compare()) << "step " << step;
    }
  }
  ASSERT_NO_FATAL_FAILURE(Compare());
}

// Operations as a broken or hostile journal might hold them.
class NamespaceGarbage : public NamespaceModel {
 protected:
  uint64_t RandomIno() {
    switch (Below(12)) {
      case 0:
        return random_();
      case 1:
        return UINT64_MAX - Below(4);
      case 2:
        return Below(2);
      default:
        return 1 + Below(24);
    }
  }
  uint64_t RandomCount() {
    switch (Below(8)) {
      case 0:
        return random_();
      case 1:
        return UINT64_MAX - Below(3);
      case 2:
        return 0;
      default:
        return Below(10);
    }
  }
  std::string RandomName() {
    static const std::string kNames[] = {"a",
                                         "b",
                                         "c",
                                         "d",
                                         "a",
                                         "b",
                                         ".",
                                         "..",
                                         "",
                                         "x/y",
                                         std::string("\0", 1),
                                         std::string(255, 'n'),
                                         std::string(256, 'n')};
    return kNames[Below(13)];
  }
  MetadataOp RandomOp() {
    MetadataOp op;
    op.type = static_cast<OpType>(Below(13));
    op.kind = static_cast<FileKind>(Below(kFileKinds + 1));
    op.ino = RandomIno();
    op.parent = Below(3) == 0 ? 1 : RandomIno();
    op.new_parent = RandomIno();
    op.size = Below(3) == 0 ? random_() : Below(20) * kBlockBytes / 2;
    if (op.type == OpType::kTrim) op.size = RandomCount();
    op.mtime_us = random_();
    op.name = RandomName();
    op.new_name = RandomName();
    for (uint64_t i = Below(4); i < 4; ++i) {
      op.extents.push_back({RandomCount(), RandomCount()});
    }
    return op;
  }
};

TEST_F(NamespaceGarbage, NeverBreaksTheTree) {
  int applied = 0;
  std::map<std::string, std::string> before = Dump(names_);
  for (int step = 0; step < 20000; ++step) {
    const MetadataOp op = RandomOp();
    const uint64_t bytes_before = names_.SnapshotBytes();
    const Result result = names_.Apply(op, &effects_);
    if (result.ok()) {
      ++applied;
      before = Dump(names_);
    } else {
      ASSERT_EQ(result.error(), EUCLEAN);
      ASSERT_EQ(names_.SnapshotBytes(), bytes_before);
      if (step % 4 == 0) {
        ASSERT_EQ(Dump(names_), before) << op.ToString();
      }
    }
    if (step % 100 == 0) {
      ASSERT_NO_FATAL_FAILURE(CheckInvariants(names_)) << "step " << step;
    }
  }
  ASSERT_NO_FATAL_FAILURE(CheckInvariants(names_));
  EXPECT_GT(applied, 1000);
}

}  // namespace
}  // namespace diofs
