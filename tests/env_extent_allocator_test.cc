#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <random>
#include <vector>

#include "env/extent_allocator.h"
#include "tests/test_seed.h"

namespace diofs {

// For gtest's messages.
static std::ostream& operator<<(std::ostream& out, const Extent& extent) {
  return out << extent.start << "+" << extent.count;
}

namespace {

using Extents = std::vector<Extent>;

uint64_t Sum(const Extents& extents) {
  uint64_t sum = 0;
  for (const Extent& extent : extents) sum += extent.count;
  return sum;
}

// One flag for each block; slow and plain.
class BitsetModel {
 public:
  explicit BitsetModel(uint64_t blocks) : free_(blocks, false) {}

  bool AllAre(Extent extent, bool free) const {
    for (uint64_t block = extent.start; block < extent.end(); ++block) {
      if (free_[block] != free) return false;
    }
    return true;
  }
  void Set(Extent extent, bool free) {
    for (uint64_t block = extent.start; block < extent.end(); ++block) {
      free_[block] = free;
    }
  }
  uint64_t free_blocks() const {
    return std::count(free_.begin(), free_.end(), true);
  }
  std::map<uint64_t, uint64_t> Runs() const {
    std::map<uint64_t, uint64_t> runs;
    uint64_t count = 0;
    for (uint64_t block = 0; block <= free_.size(); ++block) {
      if (block < free_.size() && free_[block]) {
        ++count;
      } else if (count > 0) {
        runs[block - count] = count;
        count = 0;
      }
    }
    return runs;
  }

 private:
  std::vector<bool> free_;
};

void ExpectSame(const ExtentAllocator& allocator, const BitsetModel& model) {
  const std::map<uint64_t, uint64_t> runs = model.Runs();
  uint64_t largest = 0;
  for (const auto& run : runs) largest = std::max(largest, run.second);
  ASSERT_EQ(allocator.runs(), runs);
  ASSERT_EQ(allocator.run_count(), runs.size());
  ASSERT_EQ(allocator.largest_run(), largest);
  ASSERT_EQ(allocator.free_blocks(), model.free_blocks());
}

ExtentAllocator AllocatorOf(const Extents& free) {
  ExtentAllocator allocator;
  for (const Extent& extent : free) EXPECT_TRUE(allocator.Free(extent).ok());
  return allocator;
}

TEST(ExtentAllocator, EmptyHasNothing) {
  ExtentAllocator allocator;
  Extents extents;
  EXPECT_EQ(allocator.largest_run(), 0u);
  EXPECT_EQ(allocator.Allocate(1, 1, 0, &extents).error(), ENOSPC);
  EXPECT_EQ(allocator.Take({0, 1}).error(), EUCLEAN);
  EXPECT_TRUE(extents.empty());
}

TEST(ExtentAllocator, FreeJoinsBothNeighbours) {
  ExtentAllocator allocator = AllocatorOf({{10, 5}, {20, 5}});
  EXPECT_EQ(allocator.run_count(), 2u);
  EXPECT_TRUE(allocator.Free({15, 5}).ok());
  EXPECT_EQ(allocator.run_count(), 1u);
  EXPECT_EQ(allocator.largest_run(), 15u);
}

TEST(ExtentAllocator, RefusesContradictions) {
  ExtentAllocator allocator = AllocatorOf({{10, 5}, {UINT64_MAX - 4, 4}});
  const auto runs = allocator.runs();
  for (const Extent extent : Extents{{10, 5},
                                     {14, 1},
                                     {9, 2},
                                     {5, 20},
                                     {14, 3},
                                     {0, 0},
                                     {12, 0},
                                     {1, UINT64_MAX},
                                     {UINT64_MAX, 1}}) {
    EXPECT_EQ(allocator.Free(extent).error(), EUCLEAN) << extent;
  }
  for (const Extent extent : Extents{{9, 1},
                                     {9, 2},
                                     {14, 2},
                                     {15, 1},
                                     {12, 0},
                                     {12, UINT64_MAX},
                                     {UINT64_MAX, 1}}) {
    EXPECT_EQ(allocator.Take(extent).error(), EUCLEAN) << extent;
  }
  Extents extents;
  EXPECT_EQ(allocator.Allocate(0, 0, 0, &extents).error(), EINVAL);
  EXPECT_EQ(allocator.Allocate(1, 2, 0, &extents).error(), EINVAL);
  EXPECT_EQ(allocator.runs(), runs);
  EXPECT_EQ(allocator.free_blocks(), 9u);
}

TEST(ExtentAllocator, TakeSplits) {
  ExtentAllocator allocator = AllocatorOf({{10, 10}});
  EXPECT_TRUE(allocator.Take({13, 2}).ok());
  EXPECT_EQ(allocator.runs(), (std::map<uint64_t, uint64_t>{{10, 3}, {15, 5}}));
  EXPECT_TRUE(allocator.Take({10, 3}).ok());
  EXPECT_TRUE(allocator.Take({18, 2}).ok());
  EXPECT_EQ(allocator.runs(), (std::map<uint64_t, uint64_t>{{15, 3}}));
}

TEST(ExtentAllocator, BestFitLowestAddress) {
  ExtentAllocator allocator = AllocatorOf({{0, 9}, {100, 5}, {50, 5}, {70, 4}});
  Extents extents;
  EXPECT_TRUE(allocator.Allocate(5, 5, 0, &extents).ok());
  EXPECT_TRUE(allocator.Allocate(3, 3, 0, &extents).ok());
  EXPECT_TRUE(allocator.Allocate(6, 1, 0, &extents).ok());
  EXPECT_EQ(extents, (Extents{{50, 5}, {70, 3}, {0, 6}}));
}

TEST(ExtentAllocator, LargestRunsFirstWhereNoneFits) {
  ExtentAllocator allocator =
      AllocatorOf({{0, 4}, {10, 8}, {30, 8}, {50, 3}, {60, 1}});
  Extents extents;
  EXPECT_TRUE(allocator.Allocate(19, 19, 0, &extents).ok());
  // The rest of 3 fits best where 3 are free.
  EXPECT_EQ(extents, (Extents{{10, 8}, {30, 8}, {50, 3}}));
  EXPECT_EQ(allocator.free_blocks(), 5u);
}

TEST(ExtentAllocator, ReserveStaysAndNeedDecides) {
  ExtentAllocator allocator = AllocatorOf({{0, 10}, {20, 10}});
  Extents extents;
  EXPECT_EQ(allocator.Allocate(20, 16, 5, &extents).error(), ENOSPC);
  EXPECT_EQ(allocator.Allocate(1, 1, 20, &extents).error(), ENOSPC);
  EXPECT_EQ(allocator.Allocate(1, 1, UINT64_MAX, &extents).error(), ENOSPC);
  EXPECT_EQ(allocator.free_blocks(), 20u);
  EXPECT_EQ(allocator.run_count(), 2u);
  EXPECT_TRUE(extents.empty());

  EXPECT_TRUE(allocator.Allocate(20, 15, 5, &extents).ok());
  EXPECT_EQ(Sum(extents), 15u);
  EXPECT_EQ(allocator.free_blocks(), 5u);
}

TEST(ExtentAllocator, AdversarialHolesOfOneBlock) {
  // Every second block of half the device is taken; the other half is whole.
  constexpr uint64_t kBlocks = 32768;
  ExtentAllocator allocator = AllocatorOf({{0, kBlocks}});
  for (uint64_t block = 1; block < kBlocks / 2; block += 2) {
    ASSERT_TRUE(allocator.Take({block, 1}).ok());
  }
  // Small files go into the holes and leave the large run alone.
  Extents small;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(allocator.Allocate(1, 1, 0, &small).ok());
  }
  EXPECT_EQ(allocator.largest_run(), kBlocks / 2);
  // Large ones take the run and no hole.
  Extents large;
  ASSERT_TRUE(allocator.Allocate(kBlocks / 4, kBlocks / 4, 0, &large).ok());
  EXPECT_EQ(large.size(), 1u);
  // More than the run holds: one large piece, holes for what is left over.
  Extents rest;
  ASSERT_TRUE(
      allocator.Allocate(kBlocks / 4 + 10, kBlocks / 4 + 10, 0, &rest).ok());
  EXPECT_EQ(rest.size(), 11u);
  EXPECT_EQ(rest[0].count, kBlocks / 4);
  // Holes alone still serve everything down to the last block.
  const uint64_t left = allocator.free_blocks();
  ASSERT_TRUE(allocator.Allocate(left, left, 0, &rest).ok());
  EXPECT_EQ(allocator.run_count(), 0u);
  EXPECT_EQ(allocator.free_blocks(), 0u);
  // Given back in another order, all of it is one run again.
  for (const Extents* extents : {&large, &rest, &small}) {
    for (const Extent& extent : *extents) {
      ASSERT_TRUE(allocator.Free(extent).ok());
    }
  }
  for (uint64_t block = 1; block < kBlocks / 2; block += 2) {
    ASSERT_TRUE(allocator.Free({block, 1}).ok());
  }
  EXPECT_EQ(allocator.runs(), (std::map<uint64_t, uint64_t>{{0, kBlocks}}));
}

// The allocator and its model, driven by one stream of random operations.
class ExtentAllocatorProperty : public ::testing::Test {
 protected:
  static constexpr uint64_t kBlocks = 1500;

  void SetUp() override {
    ASSERT_TRUE(allocator_.Free({0, kBlocks}).ok());
    model_.Set({0, kBlocks}, true);
  }

  uint64_t Below(uint64_t bound) { return random_() % bound; }
  Extent RandomExtent() {
    const uint64_t start = Below(kBlocks);
    return {start, 1 + Below(std::min<uint64_t>(20, kBlocks - start))};
  }

  void FreeSome() {
    if (owned_.empty()) return;
    std::swap(owned_[Below(owned_.size())], owned_.back());
    Extent extent = owned_.back();
    owned_.pop_back();
    if (extent.count > 1 && Below(2) == 0) {  // give back the end only
      const uint64_t kept = 1 + Below(extent.count - 1);
      owned_.push_back({extent.start, kept});
      extent = {extent.start + kept, extent.count - kept};
    }
    ASSERT_TRUE(allocator_.Free(extent).ok());
    ASSERT_TRUE(model_.AllAre(extent, false));
    model_.Set(extent, true);
  }

  void TakeExactly() {
    const Extent extent = RandomExtent();
    const bool free = model_.AllAre(extent, true);
    ASSERT_EQ(allocator_.Take(extent).error(), free ? 0 : EUCLEAN);
    if (!free) return;
    model_.Set(extent, false);
    owned_.push_back(extent);
  }

  void FreeAnything() {
    const Extent extent = RandomExtent();
    // What is wholly taken belongs to someone in owned_: only wrong ones here.
    if (model_.AllAre(extent, false)) return;
    ASSERT_EQ(allocator_.Free(extent).error(), EUCLEAN);
  }

  void Allocate() {
    const uint64_t want = 1 + Below(Below(4) == 0 ? kBlocks : 60);
    const uint64_t need = 1 + Below(want);
    const uint64_t reserve = Below(3) == 0 ? Below(kBlocks) : 0;
    const uint64_t free = model_.free_blocks();
    const uint64_t usable = free > reserve ? free - reserve : 0;
    const std::map<uint64_t, uint64_t> before = model_.Runs();
    Extents got;
    const Result result = allocator_.Allocate(want, need, reserve, &got);
    if (usable < need) {
      ASSERT_EQ(result.error(), ENOSPC);
      ASSERT_TRUE(got.empty());
      return;
    }
    ASSERT_TRUE(result.ok());
    ASSERT_EQ(Sum(got), std::min(want, usable));
    ASSERT_EQ(got.size(), FewestPieces(before, Sum(got)));
    ExpectBestFit(before, got);
    for (const Extent& extent : got) {
      ASSERT_TRUE(model_.AllAre(extent, true));
      model_.Set(extent, false);
      owned_.push_back(extent);
    }
  }

  static size_t FewestPieces(const std::map<uint64_t, uint64_t>& runs,
                             uint64_t blocks) {
    std::vector<uint64_t> sizes;
    sizes.reserve(runs.size());
    for (const auto& run : runs) sizes.push_back(run.second);
    std::sort(sizes.rbegin(), sizes.rend());
    size_t pieces = 0;
    for (uint64_t sum = 0; sum < blocks; ++pieces) sum += sizes[pieces];
    return pieces;
  }

  // No run that would hold the first piece is a tighter or a lower fit.
  static void ExpectBestFit(const std::map<uint64_t, uint64_t>& runs,
                            const Extents& got) {
    if (got.size() != 1) return;
    const uint64_t chosen = runs.at(got[0].start);
    for (const auto& [start, count] : runs) {
      if (count < got[0].count) continue;
      ASSERT_TRUE(count > chosen || (count == chosen && start >= got[0].start));
    }
  }

  std::mt19937_64 random_{TestSeed()};
  ExtentAllocator allocator_;
  BitsetModel model_{kBlocks};
  Extents owned_;
};

TEST_F(ExtentAllocatorProperty, RandomAgainstBitset) {
  for (uint64_t step = 0; step < ScaledRounds(8000); ++step) {
    switch (Below(8)) {
      case 0:
        TakeExactly();
        break;
      case 1:
        FreeAnything();
        break;
      case 2:
      case 3:
      case 4:
        Allocate();
        break;
      default:
        FreeSome();
    }
    ASSERT_NO_FATAL_FAILURE(ExpectSame(allocator_, model_)) << "step " << step;
    ASSERT_FALSE(HasFatalFailure()) << "step " << step;
  }
  while (!owned_.empty()) {
    FreeSome();
    ASSERT_FALSE(HasFatalFailure());
  }
  EXPECT_EQ(allocator_.runs(), (std::map<uint64_t, uint64_t>{{0, kBlocks}}));
}

}  // namespace
}  // namespace diofs
