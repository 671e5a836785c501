#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

#include "env/free_space.h"

namespace diofs {
namespace {

constexpr uint64_t kTotal = 100000;

uint64_t Sum(const std::vector<Extent>& extents) {
  uint64_t blocks = 0;
  for (const Extent& extent : extents) blocks += extent.count;
  return blocks;
}

class FreeSpaceTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(space_.Init(kTotal, {{0, 1}, {500, 100}}).ok());
  }
  FreeSpace space_;
};

TEST_F(FreeSpaceTest, MetadataIsNotFree) {
  EXPECT_EQ(space_.allocator().free_blocks(), kTotal - 101);
  EXPECT_EQ(space_.metadata_blocks(), 101u);
  EXPECT_EQ(space_.Take({550, 1}).error(), EUCLEAN);
  EXPECT_EQ(space_.Take({kTotal, 1}).error(), EUCLEAN);
  EXPECT_FALSE(space_.Init(100, {{99, 2}}).ok());
}

TEST_F(FreeSpaceTest, AHintTakesAQuarterAtMost) {
  std::vector<Extent> extents;
  ASSERT_TRUE(space_.Allocate(10, 90000, SpacePriority::kBulk, &extents).ok());
  EXPECT_EQ(Sum(extents), 10 + (kTotal - 101) / 4);
}

TEST_F(FreeSpaceTest, TheReserveIsForThoseWhoMay) {
  std::vector<Extent> extents;
  const uint64_t open = kTotal - 101 - space_.reserve_blocks();
  ASSERT_TRUE(space_.Allocate(open, open, SpacePriority::kBulk, &extents).ok());
  EXPECT_EQ(space_.Allocate(1, 1, SpacePriority::kBulk, &extents).error(),
            ENOSPC);
  std::vector<Extent> reserved;
  ASSERT_TRUE(space_.Allocate(1, 5000, SpacePriority::kVital, &reserved).ok());
  EXPECT_LE(Sum(reserved), 256u) << "only in small pieces";
  EXPECT_GE(Sum(reserved), 1u);
}

class LogSpaceTest : public FreeSpaceTest {
 protected:
  // Frees `log` as a deleted log's, with something in use on both sides.
  void Delete(Extent log, std::vector<Extent>* to_discard = nullptr) {
    ++lsn_;
    space_.FreeWhenDurable(lsn_, {log}, FileLayout::kLog);
    space_.Release(lsn_, to_discard);
  }
  Extent Take(Extent extent) {
    EXPECT_TRUE(space_.Take(extent).ok());
    return extent;
  }
  Extent Allocate(uint64_t need, uint64_t want) {
    std::vector<Extent> extents;
    EXPECT_TRUE(
        space_.AllocateForLog(need, want, SpacePriority::kLog, &extents).ok());
    EXPECT_EQ(extents.size(), 1u);
    return extents.empty() ? Extent() : extents[0];
  }

  Lsn lsn_ = 0;
};

TEST_F(LogSpaceTest, ADeletedLogsBlocksComeFirst) {
  Take({600, 400});
  const Extent log = Take({50000, 1000});
  Take({51000, 10});
  Delete(log);
  // The hole in front of block 500 would fit better.
  EXPECT_EQ(Allocate(1, 300), (Extent{50000, 300}));
  EXPECT_EQ(Allocate(1, 300), (Extent{50300, 300}));
  // Half of what is wanted is enough, less is not.
  EXPECT_EQ(Allocate(1, 800), (Extent{50600, 400}));
  EXPECT_EQ(Allocate(1, 300), (Extent{1, 300}));
}

TEST_F(LogSpaceTest, TheLastOneDeletedIsTheFirst) {
  const Extent first = Take({10000, 500});
  const Extent second = Take({20000, 500});
  Delete(second);
  Delete(first);
  EXPECT_EQ(Allocate(500, 500), first);
  EXPECT_EQ(Allocate(500, 500), second);
}

TEST_F(LogSpaceTest, WhatLiesBehindMayServeToo) {
  const Extent log = Take({50000, 700});
  Delete(log);
  EXPECT_EQ(Allocate(1, 1000), (Extent{50000, 1000}));
}

TEST_F(LogSpaceTest, WhatOthersTookIsLeftAlone) {
  Delete(Take({50000, 700}));
  Take({50000, 1});
  const Extent other = Allocate(1, 700);
  EXPECT_TRUE(other.end() <= 50000 || other.start >= 50001);
}

TEST_F(LogSpaceTest, TheReserveIsNotForHints) {
  const Extent log = Take({50000, 700});
  const uint64_t open =
      space_.allocator().free_blocks() - space_.reserve_blocks();
  std::vector<Extent> extents;
  ASSERT_TRUE(space_.Allocate(open, open, SpacePriority::kBulk, &extents).ok());
  Delete(log);
  // Of the 700 blocks that are free beyond the reserve.
  std::vector<Extent> taken;
  ASSERT_TRUE(
      space_.AllocateForLog(1, 100000, SpacePriority::kBulk, &taken).ok());
  EXPECT_LE(Sum(taken), 700u);
}

TEST_F(LogSpaceTest, OnlySoMuchIsKeptFromDiscards) {
  std::vector<Extent> to_discard;
  for (uint64_t i = 0; i < 16; ++i) {
    Delete(Take({10000 + i * 200, 100}), &to_discard);
  }
  EXPECT_EQ(Sum(to_discard), 0u);
  Delete(Take({30000, 100}), &to_discard);
  EXPECT_EQ(to_discard, (std::vector<Extent>{{10000, 100}}));
  EXPECT_EQ(space_.discarding_blocks(), 100u);
  // A log of more than a sixteenth takes everything with it.
  to_discard.clear();
  Delete(Take({40000, kTotal / 16 + 1}), &to_discard);
  EXPECT_EQ(Sum(to_discard), 1600 + kTotal / 16 + 1);
}

TEST_F(FreeSpaceTest, AFreeWaitsForItsNumber) {
  std::vector<Extent> first;
  std::vector<Extent> second;
  ASSERT_TRUE(space_.Allocate(10, 10, SpacePriority::kBulk, &first).ok());
  ASSERT_TRUE(space_.Allocate(20, 20, SpacePriority::kBulk, &second).ok());
  const uint64_t free_blocks = space_.allocator().free_blocks();
  space_.FreeWhenDurable(7, second);
  space_.FreeWhenDurable(5, first);  // out of order
  EXPECT_EQ(space_.pending_blocks(), 30u);
  EXPECT_EQ(space_.pending_lsn(), 7u);
  space_.Release(4);
  EXPECT_EQ(space_.allocator().free_blocks(), free_blocks);
  space_.Release(6);
  EXPECT_EQ(space_.allocator().free_blocks(), free_blocks + 10);
  space_.Release(7);
  EXPECT_EQ(space_.allocator().free_blocks(), free_blocks + 30);
  EXPECT_EQ(space_.pending_blocks(), 0u);
  EXPECT_EQ(space_.pending_lsn(), 0u);
}

}  // namespace
}  // namespace diofs
