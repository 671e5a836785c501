#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "dio/iov_cursor.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

// Segments over a buffer in which every byte tells its place, in the order of
// the buffer but with gaps; some are empty.
struct Split {
  explicit Split(std::mt19937_64* rng) {
    size_t at = 0;
    const size_t count = (*rng)() % 20;
    for (size_t i = 0; i < count; ++i) {
      at += (*rng)() % 3;  // 0: next to the one before
      const size_t length = (*rng)() % 4 == 0 ? 0 : (*rng)() % 200;
      starts.push_back(at);
      lengths.push_back(length);
      at += length;
      total += length;
    }
    memory.resize(at + 1);
    for (size_t i = 0; i < starts.size(); ++i) {
      segments.push_back({memory.data() + starts[i], lengths[i]});
    }
  }

  std::string memory;
  std::vector<size_t> starts;
  std::vector<size_t> lengths;
  std::vector<iovec> segments;
  size_t total = 0;
};

// The pieces, one after the other, are the segments' bytes in order: each piece
// lies in one segment, is as long as that and the caller allow, and nothing is
// left out or given twice.
TEST(IovCursor, RandomSplitsAreWalkedByteByByte) {
  std::mt19937_64 rng(TestSeed());
  for (int round = 0; round < 20000; ++round) {
    const Split split(&rng);
    IovCursor cursor(split.segments.data(),
                     static_cast<int>(split.segments.size()));
    size_t index = 0;
    size_t used = 0;
    size_t walked = 0;
    while (walked < split.total) {
      while (used == split.lengths[index]) {
        ++index;
        used = 0;
      }
      const uint64_t max_bytes = 1 + rng() % (rng() % 8 == 0 ? 1000 : 60);
      const iovec piece = cursor.Next(max_bytes);
      ASSERT_EQ(split.memory.data() + split.starts[index] + used,
                piece.iov_base);
      const size_t left = split.lengths[index] - used;
      ASSERT_EQ(max_bytes < left ? max_bytes : left, piece.iov_len);
      used += piece.iov_len;
      walked += piece.iov_len;
    }
    for (const uint64_t max_bytes : {uint64_t{1}, UINT64_MAX}) {
      const iovec end = cursor.Next(max_bytes);
      ASSERT_EQ(0u, end.iov_len);
    }
  }
}

TEST(IovCursor, NothingAskedIsNothingTaken) {
  char memory[8] = {};
  const iovec segment = {memory, sizeof(memory)};
  IovCursor cursor(&segment, 1);
  EXPECT_EQ(0u, cursor.Next(0).iov_len);
  EXPECT_EQ(3u, cursor.Next(3).iov_len);
  EXPECT_EQ(0u, cursor.Next(0).iov_len);
  const iovec rest = cursor.Next(UINT64_MAX);
  EXPECT_EQ(memory + 3, rest.iov_base);
  EXPECT_EQ(5u, rest.iov_len);
}

TEST(IovCursor, NoSegmentsHaveNoBytes) {
  IovCursor none(nullptr, 0);
  EXPECT_EQ(0u, none.Next(1).iov_len);
  const iovec segment = {nullptr, 4096};
  IovCursor negative(&segment, -1);
  EXPECT_EQ(0u, negative.Next(1).iov_len);
}

}  // namespace
}  // namespace diofs
