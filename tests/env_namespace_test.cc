// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/namespace_checks.h"

namespace diofs {
namespace {

using Effects = Namespace::Effects;
using Lookup = Namespace::Lookup;

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

// A directory in a directory and a file with blocks and a size.
class NamespaceRefusal : public NamespaceTest {
 protected:
  void SetUp() override {
    d_ = Mkdir("/d");
    e_ = Mkdir("/d/e");
    f_ = Create("/f");
    ASSERT_EQ(Apply(ExtentsOp(f_, {{100, 2}})), 0);
    ASSERT_EQ(Apply(SizeOp(OpType::kSize, f_, 5000)), 0);
  }

  // Each of `bad` changes nothing.
  void ExpectRefused(const std::vector<MetadataOp>& bad) {
    const auto before = Dump(names_);
    const uint64_t bytes_before = names_.SnapshotBytes();
    for (const MetadataOp& op : bad) {
      const Result result = names_.Apply(op, &effects_);
      EXPECT_EQ(result.error(), EUCLEAN) << op.ToString();
      EXPECT_FALSE(result.context().empty());
      EXPECT_EQ(effects_.unlinked, nullptr);
      EXPECT_TRUE(effects_.trimmed.empty());
      EXPECT_EQ(Dump(names_), before) << op.ToString();
      EXPECT_EQ(names_.SnapshotBytes(), bytes_before);
    }
  }

  uint64_t d_ = 0;
  uint64_t e_ = 0;
  uint64_t f_ = 0;
};

TEST_F(NamespaceRefusal, NewNames) {
  const std::string too_long(kMaxNameBytes + 1, 'n');
  ExpectRefused({
      NamedOp(OpType::kMkdir, 77, "x", 50),
      NamedOp(OpType::kMkdir, f_, "x", 50),
      NamedOp(OpType::kMkdir, 1, "d", 50),
      NamedOp(OpType::kMkdir, 1, "", 50),
      NamedOp(OpType::kMkdir, 1, ".", 50),
      NamedOp(OpType::kCreate, 1, "..", 50),
      NamedOp(OpType::kCreate, 1, "x/y", 50),
      NamedOp(OpType::kCreate, 1, std::string("x\0y", 3), 50),
      NamedOp(OpType::kCreate, 1, too_long, 50),
      NamedOp(OpType::kCreate, 1, "x", 0),
      NamedOp(OpType::kCreate, 1, "x", kRootIno),
      NamedOp(OpType::kCreate, 1, "x", f_),
      NamedOp(OpType::kCreate, 1, "x", UINT64_MAX),
      NamedOp(OpType::kCreate, 1, "x", UINT64_MAX - 1),
      NamedOp(OpType::kLink, 1, "x", d_),
      NamedOp(OpType::kLink, 1, "x", 50),
      NamedOp(OpType::kLink, 1, "f", f_),
      NamedOp(OpType::kLink, f_, "x", f_),
      NamedOp(OpType::kLink, 1, "", f_),
  });
  MetadataOp op = NamedOp(OpType::kCreate, 1, "x", 50);
  op.kind = static_cast<FileKind>(kFileKinds);
  ExpectRefused({op});
  op.kind = FileKind::kWal;
  op.layout = static_cast<FileLayout>(kFileLayouts);
  ExpectRefused({op});
}

TEST_F(NamespaceRefusal, RemovesAndRenames) {
  ExpectRefused({
      NamedOp(OpType::kUnlink, 1, "x", 0),
      NamedOp(OpType::kUnlink, 1, "d", 0),
      NamedOp(OpType::kUnlink, f_, "x", 0),
      NamedOp(OpType::kRmdir, 1, "f", 0),
      NamedOp(OpType::kRmdir, 1, "d", 0),
      RenameOp(1, "x", 1, "y"),
      RenameOp(1, "f", 50, "y"),
      RenameOp(50, "f", 1, "y"),
      RenameOp(1, "f", f_, "y"),
      RenameOp(1, "f", 1, "a/b"),
      RenameOp(1, "f", 1, "d"),
      RenameOp(d_, "e", 1, "f"),
      RenameOp(1, "d", d_, "x"),
      RenameOp(1, "d", e_, "x"),
      RenameOp(1, "d", d_, "e"),
      RenameOp(d_, "e", 1, "d"),
  });
}

TEST_F(NamespaceRefusal, ContentAndWhatIsNoOperation) {
  ExpectRefused({
      ExtentsOp(50, {{1, 1}}),
      ExtentsOp(d_, {{1, 1}}),
      ExtentsOp(f_, {{1, 1}, {1, 0}}),
      ExtentsOp(f_, {{UINT64_MAX, 1}}),
      ExtentsOp(f_, {{5, UINT64_MAX}}),
      ExtentsOp(f_, {{UINT64_MAX - 4, 5}}),
      ExtentsOp(f_, {{0, 1ull << 50}, {0, 1ull << 50}, {0, 1ull << 50}}),
      SizeOp(OpType::kSize, f_, 2 * kBlockBytes + 1),
      SizeOp(OpType::kSize, f_, UINT64_MAX),
      SizeOp(OpType::kSize, d_, 0),
      SizeOp(OpType::kSize, 50, 0),
      SizeOp(OpType::kTrim, f_, 1),
      SizeOp(OpType::kTrim, f_, 3),
      SizeOp(OpType::kTrim, f_, UINT64_MAX),
      SizeOp(OpType::kTrim, d_, 0),
      SizeOp(OpType::kTrim, 50, 0),
      OpOf(OpType::kMtime, 0),
      OpOf(OpType::kMtime, 50),
      OpOf(OpType::kNextIno, 0),
      OpOf(OpType::kNextIno, UINT64_MAX),
      OpOf(static_cast<OpType>(0), f_),
      OpOf(static_cast<OpType>(200), f_),
  });
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

  ASSERT_EQ(Apply(SizeOp(OpType::kSize, f, 8192)), 0);
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
  inode->visible_bytes = uint64_t{3000} * kBlockBytes;
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

}  // namespace
}  // namespace diofs
