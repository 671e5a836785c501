#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>
#include <string>

#include "env/metadata_op.h"
#include "env/staged_tails.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

std::string SizeOp(uint64_t ino, uint64_t size) {
  MetadataOp op;
  op.type = OpType::kSize;
  op.ino = ino;
  op.size = size;
  std::string encoded;
  op.EncodeTo(&encoded);
  return encoded;
}

std::string SegmentOp(uint64_t ino, uint64_t logical) {
  MetadataOp op;
  op.type = OpType::kSegment;
  op.ino = ino;
  op.segment = {logical, 4096, 7};
  std::string encoded;
  op.EncodeTo(&encoded);
  return encoded;
}

TEST(StagedTails, PiecesThatMeetAreOne) {
  StagedTails tails;
  tails.Add(1, 100, "abc");
  tails.Add(2, 0, "other");
  tails.Add(1, 103, "def");
  tails.Add(3, 5, "");
  ASSERT_EQ(tails.tails().size(), 2u);
  EXPECT_EQ(tails.tails().at(1).offset, 100u);
  EXPECT_EQ(tails.tails().at(1).bytes, "abcdef");
  EXPECT_EQ(tails.tails().at(2).bytes, "other");
}

TEST(StagedTails, BehindAGapAllBeforeItIsOnTheDevice) {
  StagedTails tails;
  tails.Add(1, 100, "abc");
  tails.Add(1, 200, "def");
  EXPECT_EQ(tails.tails().at(1).offset, 200u);
  EXPECT_EQ(tails.tails().at(1).bytes, "def");
}

TEST(StagedTails, WhatIsCutOffIsReplaced) {
  StagedTails tails;
  tails.Add(1, 100, "abcdef");
  tails.Add(9, 100, "abcdef");
  ASSERT_TRUE(tails.Cut(SizeOp(1, 103) + SegmentOp(9, 101)).ok());
  EXPECT_EQ(tails.tails().at(1).bytes, "abc");
  EXPECT_EQ(tails.tails().at(9).bytes, "a");
  tails.Add(1, 103, "xyz");
  EXPECT_EQ(tails.tails().at(1).bytes, "abcxyz");
  ASSERT_TRUE(tails.Cut(SizeOp(1, 106) + SizeOp(7, 0)).ok());
  EXPECT_EQ(tails.tails().at(1).bytes, "abcxyz");
  ASSERT_TRUE(tails.Cut(SizeOp(1, 100) + SegmentOp(9, 20)).ok());
  EXPECT_TRUE(tails.tails().empty());
}

TEST(StagedTails, WhatIsNoTransactionIsRefused) {
  StagedTails tails;
  EXPECT_EQ(tails.Cut(SizeOp(1, 3).substr(1)).error(), EUCLEAN);
  EXPECT_EQ(tails.Cut(SizeOp(1, 3) + "x").error(), EUCLEAN);
  EXPECT_TRUE(tails.Cut("").ok());
}

// A file that is appended to and cut at random, parts of which went to the
// device: the device's part and the tail together are the file.
TEST(StagedTails, WithTheDevicesPartTheyMakeTheFile) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 200; ++round) {
    StagedTails tails;
    std::string file;
    uint64_t on_device = 0;
    for (int step = 0; step < 50; ++step) {
      switch (rng() % 5) {
        case 0:  // all of it is written
          on_device = file.size();
          break;
        case 1:  // cut, and what is kept of it written
          file.resize(rng() % (file.size() + 1));
          on_device = file.size();
          ASSERT_TRUE(tails.Cut(SizeOp(1, file.size())).ok());
          break;
        case 2: {  // no room: it goes to the device at once
          file.append(rng() % 20, static_cast<char>(rng()));
          on_device = file.size();
          break;
        }
        default: {
          const std::string more(rng() % 20, static_cast<char>(rng()));
          tails.Add(1, file.size(), more);
          file += more;
        }
      }
      std::string found = file.substr(0, on_device);
      for (const auto& [ino, tail] : tails.tails()) {
        ASSERT_EQ(ino, 1u);
        if (tail.end() <= found.size()) continue;
        ASSERT_LE(tail.offset, found.size());
        found += tail.bytes.substr(found.size() - tail.offset);
      }
      ASSERT_EQ(found, file);
    }
  }
}

}  // namespace
}  // namespace diofs
