#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "dio/align.h"
#include "dio/buffer_arena.h"
#include "tests/child_process.h"
#include "tests/test_seed.h"

namespace diofs {
namespace {

constexpr size_t BytesOf(int order) { return BufferArena::kMinBytes << order; }

// An arena of its own: that of the process belongs to the pool.
class BufferArenaTest : public testing::Test {
 protected:
  BufferArena arena_;
};

TEST_F(BufferArenaTest, StartsAtAHugePageAndIsWhole) {
  ASSERT_NE(nullptr, arena_.base());
  EXPECT_TRUE(IsAligned(arena_.base(), 2 << 20));
  EXPECT_EQ(BufferArena::kBytes, arena_.bytes());
  EXPECT_EQ(BufferArena::kBytes, arena_.free_bytes());
  // All of it can be touched.
  std::memset(arena_.base(), 1, arena_.bytes());
}

TEST_F(BufferArenaTest, ContainsItselfAndNothingElse) {
  EXPECT_TRUE(arena_.Contains(arena_.base()));
  EXPECT_TRUE(arena_.Contains(arena_.base() + BufferArena::kBytes - 1));
  EXPECT_FALSE(arena_.Contains(arena_.base() + BufferArena::kBytes));
  EXPECT_FALSE(arena_.Contains(arena_.base() - 1));
  EXPECT_FALSE(arena_.Contains(nullptr));
  EXPECT_FALSE(arena_.Contains(this));
}

TEST_F(BufferArenaTest, TheLowestAddressFirst) {
  EXPECT_EQ(arena_.base(), arena_.Allocate(0));
  EXPECT_EQ(arena_.base() + 4096, arena_.Allocate(0));
  // The rest of the first 16 KiB stays free for small ones.
  EXPECT_EQ(arena_.base() + 16384, arena_.Allocate(2));
  EXPECT_EQ(arena_.base() + 8192, arena_.Allocate(1));
  EXPECT_EQ(arena_.base() + 32768, arena_.Allocate(0));
}

TEST_F(BufferArenaTest, EverySizeUntilNothingIsLeft) {
  for (int order = 0; order < BufferArena::kOrders; ++order) {
    std::vector<char*> buffers;
    while (char* const buffer = arena_.Allocate(order)) {
      ASSERT_TRUE(IsAligned(buffer, BytesOf(order)));
      ASSERT_TRUE(arena_.Contains(buffer));
      buffers.push_back(buffer);
    }
    EXPECT_EQ(BufferArena::kBytes / BytesOf(order), buffers.size());
    EXPECT_EQ(0u, arena_.free_bytes());
    for (char* buffer : buffers) arena_.Free(buffer, order);
    EXPECT_EQ(BufferArena::kBytes, arena_.free_bytes());
  }
}

// Against a map of what is out: no overlap, nothing lost, and the halves of a
// large buffer grow together again.
TEST_F(BufferArenaTest, RandomSizes) {
  std::mt19937_64 rng(TestSeed());
  std::map<char*, int> out;  // order by address
  size_t bytes_out = 0;
  for (int i = 0; i < 50000; ++i) {
    if (rng() % 3 != 0) {
      const int order = static_cast<int>(rng() % BufferArena::kOrders);
      char* const buffer = arena_.Allocate(order);
      if (buffer == nullptr) continue;
      const auto next = out.lower_bound(buffer);
      ASSERT_TRUE(next == out.end() || buffer + BytesOf(order) <= next->first);
      if (next != out.begin()) {
        const auto before = std::prev(next);
        ASSERT_LE(before->first + BytesOf(before->second), buffer);
      }
      out[buffer] = order;
      bytes_out += BytesOf(order);
    } else if (!out.empty()) {
      auto victim = out.lower_bound(arena_.base() + rng() % arena_.bytes());
      if (victim == out.end()) victim = out.begin();
      arena_.Free(victim->first, victim->second);
      bytes_out -= BytesOf(victim->second);
      out.erase(victim);
    }
    ASSERT_EQ(BufferArena::kBytes - bytes_out, arena_.free_bytes());
  }
  for (const auto& [buffer, order] : out) arena_.Free(buffer, order);
  for (size_t i = 0; i < BufferArena::kBytes / BufferArena::kMaxBytes; ++i) {
    EXPECT_NE(nullptr, arena_.Allocate(BufferArena::kOrders - 1));
  }
}

// No address space: an arena without memory, which gives none.
TEST_F(BufferArenaTest, WithoutMemoryItIsEmpty) {
  ChildProcess child([](const ChildProcess::Parent&) {
    const rlimit nothing_more = {1, 1};
    if (setrlimit(RLIMIT_AS, &nothing_more) != 0) return false;
    BufferArena arena;
    return arena.base() == nullptr && arena.bytes() == 0 &&
           arena.free_bytes() == 0 && arena.Allocate(0) == nullptr &&
           arena.Allocate(BufferArena::kOrders - 1) == nullptr &&
           !arena.Contains(nullptr) && !arena.Contains(&arena);
  });
  EXPECT_EQ(0, child.Wait());
}

}  // namespace
}  // namespace diofs
