// ctest: one-thread

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "env/namespace.h"
#include "tests/namespace_checks.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

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
            : names_.PrepareCreate(written, FileKind::kBlob, ++clock_, &op);
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
      Namespace::Lookup lookup;
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
  Namespace::Effects effects_;
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
    op.type = static_cast<OpType>(Below(15));
    op.layout = static_cast<FileLayout>(Below(kFileLayouts + 1));
    op.kind = static_cast<FileKind>(Below(kFileKinds + 1));
    op.ino = RandomIno();
    op.parent = Below(3) == 0 ? 1 : RandomIno();
    op.new_parent = RandomIno();
    op.size = Below(3) == 0 ? random_() : Below(20) * kBlockBytes / 2;
    if (op.type == OpType::kTrim) op.size = RandomCount();
    op.mtime_us = random_();
    op.name = RandomName();
    op.new_name = RandomName();
    op.segment = {Below(3) * 100, Below(4) * kBlockBytes, random_()};
    if (Below(8) == 0) op.segment.position = random_();
    op.log_end = {Below(400), Below(5000) * 8,
                  static_cast<uint32_t>(random_())};
    op.closed = Below(2) == 0;
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
