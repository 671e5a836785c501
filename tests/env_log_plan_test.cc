// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "dio/align.h"
#include "env/log_frame.h"
#include "env/log_plan.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = kBlockBytes;

// Runs of so many blocks, none beside another.
ExtentMap Runs(const std::vector<uint64_t>& counts) {
  ExtentMap map;
  uint64_t start = 1000;
  for (const uint64_t count : counts) {
    map.Append({start, count});
    start += count + 1;
  }
  return map;
}

struct Planned {
  bool ok;
  std::vector<PlannedFrame> frames;
};

Planned Plan(const ExtentMap& map, uint64_t position, uint64_t bytes) {
  Planned planned;
  planned.ok = PlanLogFrames(map, position, bytes, &planned.frames);
  return planned;
}

TEST(LogPlan, OneFrameWhereTheRunHasRoom) {
  const ExtentMap map = Runs({4});
  for (const uint64_t position : {uint64_t{0}, uint64_t{48}, kBlock}) {
    const Planned planned = Plan(map, position, 5000);
    ASSERT_TRUE(planned.ok);
    ASSERT_EQ(planned.frames.size(), 1u);
    EXPECT_EQ(planned.frames[0].position, position);
    EXPECT_EQ(planned.frames[0].payload_bytes, 5000u);
  }
}

TEST(LogPlan, AFrameGoesToTheNextRunThatHoldsItWhole) {
  const ExtentMap map = Runs({1, 1, 3});
  const Planned planned = Plan(map, 48, 2 * kBlock);
  ASSERT_TRUE(planned.ok);
  ASSERT_EQ(planned.frames.size(), 1u);
  EXPECT_EQ(planned.frames[0].position, 2 * kBlock);
}

TEST(LogPlan, WithoutSuchARunItIsCut) {
  const ExtentMap map = Runs({1, 1, 1});
  const Planned planned = Plan(map, 0, 2 * kBlock);
  ASSERT_TRUE(planned.ok);
  ASSERT_EQ(planned.frames.size(), 3u);
  EXPECT_EQ(planned.frames[0].payload_bytes, kBlock - kLogFrameHeaderBytes);
  EXPECT_EQ(planned.frames[1].position, kBlock);
  EXPECT_EQ(planned.frames[2].payload_bytes, 2 * kLogFrameHeaderBytes);
}

TEST(LogPlan, LongOnesBecomeSeveralFrames) {
  const ExtentMap map = Runs({1000});
  const Planned planned = Plan(map, 8, 2 * uint64_t{kMaxLogPayload} + 1);
  ASSERT_TRUE(planned.ok);
  ASSERT_EQ(planned.frames.size(), 3u);
  EXPECT_EQ(planned.frames[1].position, 8 + LogFrameBytes(kMaxLogPayload));
  EXPECT_EQ(planned.frames[2].payload_bytes, 1u);
}

TEST(LogPlan, ThereMayBeTooLittleRoom) {
  const ExtentMap map = Runs({1});
  EXPECT_TRUE(Plan(map, 0, kBlock - kLogFrameHeaderBytes).ok);
  EXPECT_FALSE(Plan(map, 0, kBlock - kLogFrameHeaderBytes + 1).ok);
  EXPECT_FALSE(Plan(map, kBlock, 1).ok);
  EXPECT_FALSE(Plan(ExtentMap(), 0, 1).ok);
}

// Whatever the runs: frames lie inside of them, one behind the other, and carry
// every byte; and what BlocksForLog asks for suffices.
TEST(LogPlan, FramesFollowEachOtherInsideOfRuns) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> counts(rng() % 8 + 1);
    for (uint64_t& count : counts) count = rng() % 40 + 1;
    ExtentMap map = Runs(counts);
    const uint64_t position =
        AlignDown(rng() % (map.blocks() * kBlock), uint64_t{8});
    const uint64_t bytes = rng() % (200 * kBlock) + 1;
    Planned planned = Plan(map, position, bytes);
    if (!planned.ok) {
      // Each block a run of its own.
      uint64_t start = 100000;
      for (uint64_t i = BlocksForLog(bytes); i > 0; --i) {
        map.Append({start, 1});
        start += 2;
      }
      planned = Plan(map, position, bytes);
    }
    ASSERT_TRUE(planned.ok);
    uint64_t at = position;
    uint64_t sum = 0;
    for (const PlannedFrame& frame : planned.frames) {
      ASSERT_GE(frame.position, at);
      ASSERT_GT(frame.payload_bytes, 0u);
      at = frame.position + LogFrameBytes(frame.payload_bytes);
      Extent run;
      ASSERT_TRUE(map.Lookup(frame.position / kBlock, &run));
      ASSERT_LE(at, (frame.position / kBlock + run.count) * kBlock);
      sum += frame.payload_bytes;
    }
    ASSERT_EQ(sum, bytes);
  }
}

// What fills a frame leaves before the rest of an append has been taken: the
// room found for all must suffice for its parts.
TEST(LogPlan, AFullFrameIsPlannedAsIfNothingFollowed) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 500; ++round) {
    std::vector<uint64_t> counts(rng() % 40 + 1);
    for (uint64_t& count : counts) count = rng() % 300 + 1;
    const ExtentMap map = Runs(counts);
    uint64_t bytes = rng() % (4 << 20) + 1;
    const Planned whole = Plan(map, 0, bytes);
    if (!whole.ok) continue;
    std::vector<PlannedFrame> parts;
    uint64_t at = 0;
    while (bytes > 0) {
      const uint64_t part = std::min<uint64_t>(bytes, kMaxLogPayload);
      const Planned planned = Plan(map, at, part);
      ASSERT_TRUE(planned.ok);
      parts.insert(parts.end(), planned.frames.begin(), planned.frames.end());
      at = parts.back().position + LogFrameBytes(parts.back().payload_bytes);
      bytes -= part;
    }
    ASSERT_EQ(parts.size(), whole.frames.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      ASSERT_EQ(parts[i].position, whole.frames[i].position);
      ASSERT_EQ(parts[i].payload_bytes, whole.frames[i].payload_bytes);
    }
  }
}

}  // namespace
}  // namespace diofs
