// ctest: one-thread

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "env/log_frame.h"
#include "env/log_state.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = kBlockBytes;

class LogStateTest : public testing::Test {
 protected:
  LogStateTest() { Begin({0, 0, 1}); }
  void Begin(const LogSegment& segment) {
    ASSERT_TRUE(log_.Fits(segment));
    log_.Begin(segment);
  }
  uint64_t Mark(uint64_t logical) {
    std::vector<LogSegment> segments;
    return log_.FindMark(logical, &segments).logical;
  }

  LogState log_;
};

TEST_F(LogStateTest, ASegmentBeginsWhereItSays) {
  const LogState::Journaled journaled = log_.journaled();
  EXPECT_EQ(journaled.segments, (std::vector<LogSegment>{{0, 0, 1}}));
  EXPECT_EQ(journaled.known, (LogPosition{0, 0, LogChain(1)}));
  EXPECT_FALSE(journaled.closed);
  EXPECT_FALSE(log_.sized());
}

TEST_F(LogStateTest, ANewSegmentVoidsWhatLiesBehindItsFirstByte) {
  EXPECT_EQ(log_.Begin({100, kBlock, 2}), 1);
  EXPECT_EQ(log_.Begin({200, 2 * kBlock, 3}), 1);
  log_.SetKnown({250, 2 * kBlock + 80, 77}, true);
  EXPECT_EQ(log_.Begin({150, 3 * kBlock, 4}), 0);
  const LogState::Journaled journaled = log_.journaled();
  EXPECT_EQ(journaled.segments,
            (std::vector<LogSegment>{
                {0, 0, 1}, {100, kBlock, 2}, {150, 3 * kBlock, 4}}));
  EXPECT_EQ(journaled.known, (LogPosition{150, 3 * kBlock, LogChain(4)}));
  EXPECT_FALSE(journaled.closed);
  EXPECT_EQ(log_.Begin({0, 0, 5}), -2);
}

TEST_F(LogStateTest, OnlySegmentsBehindTheOthersFit) {
  Begin({100, 2 * kBlock, 2});
  EXPECT_TRUE(log_.Fits(LogSegment{100, kBlock, 3}));
  EXPECT_TRUE(log_.Fits(LogSegment{0, 0, 3}));
  EXPECT_FALSE(log_.Fits(LogSegment{101, 2 * kBlock, 3}));
  EXPECT_FALSE(log_.Fits(LogSegment{200, 3 * kBlock + 8, 3}));
  EXPECT_FALSE(log_.Fits(LogSegment{kMaxLogBytes + 1, 3 * kBlock, 3}));
  EXPECT_FALSE(log_.Fits(LogSegment{200, kMaxLogBytes + kBlock, 3}));
  EXPECT_FALSE(LogState().Fits(LogSegment{1, 0, 3}));
}

TEST_F(LogStateTest, TheKnownEndLiesInTheLastSegment) {
  Begin({100, kBlock, 2});
  EXPECT_TRUE(log_.Fits(LogPosition{100, kBlock, 0}));
  EXPECT_TRUE(log_.Fits(LogPosition{140, kBlock + 80, 0}));
  EXPECT_FALSE(log_.Fits(LogPosition{99, kBlock + 80, 0}));
  EXPECT_FALSE(log_.Fits(LogPosition{140, kBlock - 8, 0}));
  EXPECT_FALSE(log_.Fits(LogPosition{140, kBlock + 81, 0}));
  // More bytes than there is room for.
  EXPECT_FALSE(log_.Fits(LogPosition{200, kBlock + 80, 0}));
  EXPECT_FALSE(LogState().Fits(LogPosition{0, 0, 0}));
}

TEST_F(LogStateTest, MarksAreKeptSparsely) {
  for (uint64_t i = 1; i <= 100; ++i) {
    log_.AddMark({i * 1000, i * 16384, 0}, 1);
  }
  EXPECT_EQ(Mark(0), 0u);
  EXPECT_EQ(Mark(3999), 0u);
  EXPECT_EQ(Mark(4000), 4000u);
  EXPECT_EQ(Mark(7999), 4000u);
  EXPECT_EQ(Mark(UINT64_MAX), 100000u);
  // Found later, between two of them: too near to both.
  log_.AddMark({5000, uint64_t{5} * 16384, 0}, 1);
  EXPECT_EQ(Mark(5000), 4000u);
}

TEST_F(LogStateTest, MarksOfAnEarlierSegmentAreForgotten) {
  log_.AddMark({1000, 100000, 0}, 1);
  log_.AddMark({2000, 200000, 0}, 1);
  Begin({1500, 300 * kBlock, 2});
  EXPECT_EQ(Mark(1499), 1000u);
  EXPECT_EQ(Mark(3000), 1500u);
  // Whoever still walked the void part.
  log_.AddMark({2000, 200000, 0}, 1);
  EXPECT_EQ(Mark(3000), 1500u);
  // It went on further behind the place that the new segment begins at.
  log_.AddMark({2000, 4000 * kBlock, 0}, 1);
  EXPECT_EQ(Mark(3000), 1500u);
}

TEST_F(LogStateTest, DamageEndsWithTheBytesThatAreDamaged) {
  EXPECT_EQ(log_.damaged_from(), UINT64_MAX);
  log_.SetDamage(100, "gone");
  std::string why;
  EXPECT_EQ(log_.damaged_from(&why), 100u);
  EXPECT_EQ(why, "gone");
  Begin({100, kBlock, 2});
  EXPECT_EQ(log_.damaged_from(), UINT64_MAX);
}

TEST_F(LogStateTest, FreshnessIsTakenOnce) {
  EXPECT_FALSE(log_.TakeSegment());
  log_.LeaveSegment();
  EXPECT_TRUE(log_.TakeSegment());
  EXPECT_FALSE(log_.TakeSegment());
}

}  // namespace
}  // namespace diofs
