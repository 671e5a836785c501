// ctest: one-thread

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "env/log_walker.h"
#include "tests/sim_device.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = kBlockBytes;
constexpr uint64_t kDeviceBytes = 4 << 20;
constexpr uint64_t kGeneration = 0x1234567890abcdef;

// A stream of three runs of blocks, none beside another, written frame by frame
// where a test says.
class LogWalkerTest : public testing::Test {
 protected:
  LogWalkerTest() : image_(kDeviceBytes, '\xae') {
    map_.Append({10, 4});
    map_.Append({20, 2});
    map_.Append({30, 100});
    segments_ = {{0, 0, kGeneration}};
    next_ = {0, 0, LogChain(kGeneration)};
  }

  uint64_t DeviceOffset(uint64_t position) const {
    Extent extent;
    EXPECT_TRUE(map_.Lookup(position / kBlock, &extent));
    return extent.start * kBlock + position % kBlock;
  }
  // Writes the next frame, at `position` or where the one before ends.
  LogFrameHeader Put(const std::string& payload) {
    return PutAt(next_.position, payload);
  }
  LogFrameHeader PutAt(uint64_t position, const std::string& payload,
                       uint64_t durable_upto = 0) {
    LogFrameHeader header;
    header.payload_bytes = static_cast<uint32_t>(payload.size());
    header.generation = segments_.back().generation;
    header.logical = next_.logical;
    header.durable_upto = durable_upto;
    header.chain = next_.chain;
    std::string frame(LogFrameBytes(payload.size()), '?');
    frame.replace(kLogFrameHeaderBytes, payload.size(), payload);
    header.Encode(frame.data());
    image_.replace(DeviceOffset(position), frame.size(), frame);
    next_ = {header.end(), position + frame.size(), header.crc};
    return header;
  }
  void BeginSegment(uint64_t logical, uint64_t position, uint64_t generation) {
    segments_.push_back({logical, position, generation});
    next_ = {logical, position, LogChain(generation)};
  }

  // All that a walk from the start gives.
  std::string Walk() {
    device_ = std::make_unique<SimDevice>(
        image_, SimDevice::MakeGeometry(kDeviceBytes));
    LogWalker::Stream stream;
    stream.device = device_.get();
    stream.map = std::make_shared<ExtentMap>(map_);
    stream.segments = segments_;
    stream.window_bytes = window_bytes_;
    walker_ = std::make_unique<LogWalker>(
        std::move(stream), LogPosition{0, 0, LogChain(kGeneration)});
    std::string content;
    LogWalker::Frame frame;
    bool found = true;
    while (true) {
      EXPECT_TRUE(walker_->Next(&frame, &found).ok());
      if (!found) return content;
      EXPECT_EQ(frame.header.logical, content.size());
      content += frame.payload;
    }
  }

  std::string image_;
  ExtentMap map_;
  std::vector<LogSegment> segments_;
  LogPosition next_;
  uint64_t window_bytes_ = 1 << 20;
  std::unique_ptr<SimDevice> device_;
  std::unique_ptr<LogWalker> walker_;
};

TEST_F(LogWalkerTest, FramesFollowEachOther) {
  EXPECT_EQ(Walk(), "");
  Put("one ");
  Put("two ");
  Put(std::string(5000, 'x'));
  EXPECT_EQ(Walk(), "one two " + std::string(5000, 'x'));
  EXPECT_EQ(walker_->position(), next_);
  EXPECT_EQ(walker_->end_reason(), "no frame header");
  EXPECT_FALSE(walker_->unreadable());
}

// Whatever a read brings at once.
TEST_F(LogWalkerTest, WindowsOfAnySizeAreWalked) {
  std::mt19937_64 rng(TestSeed());
  std::string content;
  PutAt(6 * kBlock, "first");
  content = "first";
  for (int i = 0; i < 100; ++i) {
    const std::string more(rng() % 4000 + 1, static_cast<char>('a' + i % 26));
    if (next_.position + LogFrameBytes(more.size()) > 100 * kBlock) break;
    Put(more);
    content += more;
  }
  for (const uint64_t window : {1u, 512u, 4096u, 5000u, 65536u}) {
    window_bytes_ = window;
    EXPECT_EQ(Walk(), content) << window;
  }
}

TEST_F(LogWalkerTest, AFrameMayBeginAtTheNextBlock) {
  Put("one ");
  PutAt(kBlock, "two ");
  Put("three");
  EXPECT_EQ(Walk(), "one two three");
}

TEST_F(LogWalkerTest, AFrameMayBeginAtAnyLaterRun) {
  Put("one ");
  // The second run is too short for it.
  const std::string large(3 * kBlock, 'l');
  PutAt(6 * kBlock, large);
  EXPECT_EQ(Walk(), "one " + large);
}

// Whatever else it says.
TEST_F(LogWalkerTest, AFrameOfAnotherGenerationDoesNotCount) {
  Put("one ");
  segments_.back().generation = kGeneration + 1;
  Put("two");
  segments_.back().generation = kGeneration;
  EXPECT_EQ(Walk(), "one ");
  EXPECT_EQ(walker_->end_reason(), "a frame of another segment");
}

TEST_F(LogWalkerTest, AFrameMustContinueTheOneBeforeItInEachWay) {
  Put("one ");
  const LogPosition behind = next_;
  next_.chain ^= 1;
  Put("two");
  EXPECT_EQ(Walk(), "one ");
  EXPECT_EQ(walker_->end_reason(), "a frame that continues another one");
  next_ = behind;
  ++next_.logical;
  Put("two");
  EXPECT_EQ(Walk(), "one ");
  next_ = behind;
  Put("two");
  EXPECT_EQ(Walk(), "one two");
}

// But it must be the one that continues the last.
TEST_F(LogWalkerTest, AFrameElsewhereThatContinuesAnotherDoesNotCount) {
  Put("one ");
  const LogPosition here = next_;
  Put("lost");
  PutAt(4 * kBlock, "two ");
  image_[DeviceOffset(here.position) + kLogFrameHeaderBytes] ^= 1;
  EXPECT_EQ(Walk(), "one ");
  EXPECT_EQ(walker_->end_reason(), "a frame with a wrong checksum");
}

TEST_F(LogWalkerTest, AFrameEndsInsideItsRun) {
  // Its header is in the first run, and its payload would go on in the second.
  next_.position = 4 * kBlock - 48;
  segments_[0].position = 0;
  PutAt(0, std::string(4 * kBlock - 48 - kLogFrameHeaderBytes, 'x'));
  LogFrameHeader header;
  header.payload_bytes = 100;
  header.generation = kGeneration;
  header.logical = next_.logical;
  header.chain = next_.chain;
  std::string frame(LogFrameBytes(100), 'y');
  header.Encode(frame.data());
  image_.replace(DeviceOffset(4 * kBlock - 48), 48, frame, 0, 48);
  image_.replace(DeviceOffset(4 * kBlock), frame.size() - 48, frame, 48);
  EXPECT_EQ(Walk().size(), 4 * kBlock - 48 - kLogFrameHeaderBytes);
  EXPECT_EQ(walker_->end_reason(), "a frame longer than its blocks");
}

TEST_F(LogWalkerTest, SegmentsEndWhereTheNextBegin) {
  Put("one ");
  const uint64_t end = next_.logical;
  Put("void");
  BeginSegment(end, kBlock, 77);
  Put("two ");
  BeginSegment(next_.logical, 2 * kBlock, 78);
  BeginSegment(next_.logical + 0, 3 * kBlock, 79);
  segments_.erase(segments_.end() - 2);
  Put("three");
  EXPECT_EQ(Walk(), "one two three");
}

TEST_F(LogWalkerTest, AFrameAcrossTheEndOfItsSegmentIsDamage) {
  Put("one two");
  BeginSegment(4, kBlock, 77);
  Put("three");
  EXPECT_EQ(Walk(), "");
  EXPECT_EQ(walker_->end_reason(), "a frame across the end of its segment");
}

TEST_F(LogWalkerTest, OnlyAFrameThatNamesItDurableProvesTheMissingOne) {
  Put("one ");
  const LogPosition missing = next_;
  Put("two ");
  const LogPosition third = next_;
  for (const uint64_t upto : {missing.logical, missing.logical + 1}) {
    next_ = third;
    PutAt(third.position, "three", upto);
    const std::string whole = image_;
    image_[DeviceOffset(missing.position) + kLogFrameHeaderBytes] ^= 1;
    EXPECT_EQ(Walk(), "one ");
    bool found = false;
    uint64_t proven = 0;
    ASSERT_TRUE(walker_->FindProof(&found, &proven).ok());
    EXPECT_EQ(found, upto > missing.logical);
    EXPECT_EQ(proven, found ? upto : 0);
    EXPECT_EQ(walker_->end_reason(), "a frame with a wrong checksum");
    // A proof that is damaged itself proves nothing.
    image_[DeviceOffset(third.position) + kLogFrameHeaderBytes] ^= 1;
    Walk();
    ASSERT_TRUE(walker_->FindProof(&found, &proven).ok());
    EXPECT_FALSE(found);
    image_ = whole;
  }
}

TEST_F(LogWalkerTest, WhatCannotBeReadIsSaid) {
  Put("one ");
  PutAt(kBlock, "two ");
  Walk();
  device_->SetUnreadable(DeviceOffset(kBlock), 512);
  LogWalker::Stream stream;
  stream.device = device_.get();
  stream.map = std::make_shared<ExtentMap>(map_);
  stream.segments = segments_;
  LogWalker walker(std::move(stream), LogPosition{0, 0, LogChain(kGeneration)});
  LogWalker::Frame frame;
  bool found = false;
  ASSERT_TRUE(walker.Next(&frame, &found).ok());
  EXPECT_TRUE(found);
  ASSERT_TRUE(walker.Next(&frame, &found).ok());
  EXPECT_FALSE(found);
  EXPECT_TRUE(walker.unreadable());
}

// Headers that claim a MiB each, as close as they can lie: no checksum is
// computed for more than the stream holds.
TEST_F(LogWalkerTest, ForgedFramesCostNoMoreThanTheStreamIsLong) {
  Put("one ");
  LogFrameHeader forged;
  forged.payload_bytes = 100000;
  forged.generation = kGeneration;
  forged.logical = 1000;
  forged.durable_upto = 1000;
  std::string frame(LogFrameBytes(forged.payload_bytes), 'f');
  forged.Encode(frame.data());
  frame[kLogFrameHeaderBytes] ^= 1;
  for (uint64_t at = 6 * kBlock; at < 90 * kBlock; at += 40) {
    image_.replace(DeviceOffset(at), kLogFrameHeaderBytes, frame, 0,
                   kLogFrameHeaderBytes);
  }
  EXPECT_EQ(Walk(), "one ");
  bool found = false;
  uint64_t upto = 0;
  EXPECT_EQ(walker_->FindProof(&found, &upto).error(), EUCLEAN);
  EXPECT_FALSE(found);
}

}  // namespace
}  // namespace diofs
