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
