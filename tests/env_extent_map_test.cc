#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <random>
#include <vector>

#include "env/extent_map.h"
#include "tests/test_seed.h"

namespace diofs {

// For gtest's messages.
static std::ostream& operator<<(std::ostream& out, const Extent& extent) {
  return out << extent.start << "+" << extent.count;
}

namespace {

using Extents = std::vector<Extent>;

// The device block of every file block, one by one: what a map must mean.
using Blocks = std::vector<uint64_t>;

Blocks Expand(const Extents& extents) {
  Blocks blocks;
  for (const Extent& extent : extents) {
    for (uint64_t i = 0; i < extent.count; ++i) {
      blocks.push_back(extent.start + i);
    }
  }
  return blocks;
}

ExtentMap MapOf(const Extents& extents) {
  ExtentMap map;
  for (const Extent& extent : extents) map.Append(extent);
  return map;
}

TEST(ExtentMap, Empty) {
  const ExtentMap map;
  Extent extent;
  EXPECT_EQ(map.blocks(), 0u);
  EXPECT_EQ(map.CountExtents(7), 0u);
  EXPECT_FALSE(map.Lookup(0, &extent));
  EXPECT_TRUE(map.Slice(0, 5).empty());
}

TEST(ExtentMap, MergesNeighboursOnly) {
  ExtentMap map = MapOf({{10, 2}, {12, 3}, {20, 1}, {19, 1}});
  EXPECT_EQ(map.extents(), (Extents{{10, 5}, {20, 1}, {19, 1}}));
  map.Append({50, 0});
  EXPECT_EQ(map.extents().size(), 3u);
  EXPECT_EQ(map.blocks(), 7u);
}

TEST(ExtentMap, TruncateInsideAndAtTheEdgeOfAnExtent) {
  const Extents all{{10, 5}, {30, 4}, {50, 3}};
  Extents dropped{{99, 1}};  // what is there stays
  ExtentMap map = MapOf(all);
  map.Truncate(7, &dropped);
  EXPECT_EQ(map.extents(), (Extents{{10, 5}, {30, 2}}));
  EXPECT_EQ(dropped, (Extents{{99, 1}, {32, 2}, {50, 3}}));
  EXPECT_EQ(map.blocks(), 7u);

  dropped.clear();
  map = MapOf(all);
  map.Truncate(5, &dropped);
  EXPECT_EQ(map.extents(), (Extents{{10, 5}}));
  EXPECT_EQ(dropped, (Extents{{30, 4}, {50, 3}}));

  dropped.clear();
  map.Truncate(5, &dropped);
  map.Truncate(UINT64_MAX, &dropped);
  EXPECT_TRUE(dropped.empty());
  map.Truncate(0, &dropped);
  EXPECT_EQ(dropped, (Extents{{10, 5}}));
  EXPECT_EQ(map.blocks(), 0u);
  map.Append({70, 1});
  EXPECT_EQ(map.extents(), (Extents{{70, 1}}));
}

TEST(ExtentMap, RandomAgainstBlockList) {
  std::mt19937_64 random(TestSeed());
  for (int round = 0; round < 50; ++round) {
    ExtentMap map;
    Blocks model;
    for (int step = 0; step < 60; ++step) {
      if (random() % 8 == 0) {
        const uint64_t keep = random() % (model.size() + 3);
        Extents dropped;
        map.Truncate(keep, &dropped);
        const size_t kept = std::min<size_t>(keep, model.size());
        EXPECT_EQ(Expand(dropped), Blocks(model.begin() + kept, model.end()));
        model.resize(kept);
      } else {
        // Often right behind the last block.
        const uint64_t start = random() % 3 == 0 && !model.empty()
                                   ? model.back() + 1
                                   : random() % 1000;
        const Extent extent{start, 1 + random() % 9};
        map.Append(extent);
        const Blocks more = Expand({extent});
        model.insert(model.end(), more.begin(), more.end());
      }
      ASSERT_EQ(map.blocks(), model.size());
      ASSERT_EQ(Expand(map.extents()), model);
      const uint64_t first = random() % (model.size() + 1);
      const uint64_t count = random() % (model.size() - first + 1);
      ASSERT_EQ(Expand(map.Slice(first, count)),
                Blocks(model.begin() + first, model.begin() + first + count));
      ASSERT_EQ(map.CountExtents(first), map.Slice(0, first).size());
      Extent found;
      ASSERT_EQ(map.Lookup(first, &found), first < model.size());
      if (first < model.size()) {
        ASSERT_GE(found.count, 1u);
        const Blocks run = Expand({found});
        ASSERT_LE(first + run.size(), model.size());
        ASSERT_TRUE(std::equal(run.begin(), run.end(), model.begin() + first));
      }
    }
  }
}

BlockMapping MappingOf(const ExtentMapper& mapper, uint64_t first,
                       uint64_t count) {
  BlockMapping mapping;
  EXPECT_TRUE(mapper.GetBlocks(first, count, false, &mapping).ok());
  return mapping;
}

TEST(ExtentMapper, MappedThenUnwrittenThenHole) {
  const ExtentMapper mapper(
      std::make_shared<ExtentMap>(MapOf({{100, 4}, {200, 4}})), 6);

  BlockMapping mapping = MappingOf(mapper, 1, 100);
  EXPECT_EQ(mapping.state, BlockState::kMapped);
  EXPECT_EQ(mapping.device_block, 101u);
  EXPECT_EQ(mapping.count, 3u);
  EXPECT_FALSE(mapping.boundary);

  mapping = MappingOf(mapper, 4, 100);  // ends where the written blocks end
  EXPECT_EQ(mapping.state, BlockState::kMapped);
  EXPECT_EQ(mapping.device_block, 200u);
  EXPECT_EQ(mapping.count, 2u);

  mapping = MappingOf(mapper, 6, 1);
  EXPECT_EQ(mapping.state, BlockState::kUnwritten);
  EXPECT_EQ(mapping.device_block, 202u);
  EXPECT_EQ(mapping.count, 1u);
  EXPECT_EQ(MappingOf(mapper, 6, 100).count, 2u);

  mapping = MappingOf(mapper, 8, 100);
  EXPECT_EQ(mapping.state, BlockState::kHole);
  EXPECT_EQ(mapping.count, 100u);
  EXPECT_EQ(MappingOf(mapper, UINT64_MAX, 1).state, BlockState::kHole);
}

TEST(ExtentMapper, AWriteFillsNoHole) {
  const ExtentMapper mapper(std::make_shared<ExtentMap>(), 0);
  BlockMapping mapping;
  EXPECT_TRUE(mapper.GetBlocks(0, 3, true, &mapping).ok());
  EXPECT_EQ(mapping.state, BlockState::kHole);
  EXPECT_EQ(mapper.GetBlocks(0, 0, true, &mapping).error(), EINVAL);
}

TEST(ExtentMapper, WrittenBeyondTheMapIsAHole) {
  const ExtentMapper mapper(std::make_shared<ExtentMap>(MapOf({{5, 2}})), 9);
  EXPECT_EQ(MappingOf(mapper, 0, 9).count, 2u);
  EXPECT_EQ(MappingOf(mapper, 2, 9).state, BlockState::kHole);
}

}  // namespace
}  // namespace diofs
