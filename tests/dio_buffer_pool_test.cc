#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "dio/align.h"
#include "dio/buffer_pool.h"

namespace diofs {
namespace {

TEST(BufferPool, SizesAndAlignment) {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{4097},
                             size_t{1} << 20, (size_t{1} << 20) + 1}) {
    AlignedBuffer buffer = BufferPool::Get(bytes);
    ASSERT_TRUE(buffer);
    EXPECT_GE(buffer.size(), bytes);
    EXPECT_TRUE(IsAligned(buffer.size(), 4096));
    EXPECT_TRUE(IsAligned(buffer.data(), BufferPool::kAlignment));
    std::memset(buffer.data(), 0xFF, buffer.size());
  }
}

TEST(BufferPool, ImpossibleSizesGiveAnEmptyBuffer) {
  EXPECT_FALSE(BufferPool::Get(SIZE_MAX));
  EXPECT_FALSE(AlignedBuffer());
}

TEST(BufferPool, MoreThanThereIsGivesAnEmptyBuffer) {
  const uint64_t before = BufferPool::bytes_in_use();
  EXPECT_FALSE(BufferPool::Get(size_t{1} << 45));
  EXPECT_EQ(before, BufferPool::bytes_in_use());
}

// Once the arena is used up the system's memory serves, and is kept for the
// next one up to a bound.
TEST(BufferPool, BeyondTheArena) {
  constexpr size_t kBytes = BufferArena::kMaxBytes;
  constexpr size_t kKept = BufferPool::kMaxCachedBytes / kBytes;
  const uint64_t before = BufferPool::bytes_in_use();
  std::vector<AlignedBuffer> arena;
  std::vector<AlignedBuffer> others;
  while (others.empty()) {
    AlignedBuffer buffer = BufferPool::Get(kBytes);
    ASSERT_TRUE(buffer);
    const bool inside = BufferPool::arena().Contains(buffer.data());
    (inside ? arena : others).push_back(std::move(buffer));
  }
  EXPECT_EQ(BufferArena::kBytes / kBytes, arena.size());
  while (others.size() < kKept + 3) others.push_back(BufferPool::Get(kBytes));
  std::set<char*> kept;
  for (size_t i = 0; i < others.size(); ++i) {
    ASSERT_TRUE(IsAligned(others[i].data(), BufferPool::kAlignment));
    std::memset(others[i].data(), 'o', kBytes);
    if (i < kKept) kept.insert(others[i].data());
    others[i] = AlignedBuffer();
  }
  for (size_t i = 0; i < kKept; ++i) {
    others[i] = BufferPool::Get(kBytes);
    EXPECT_EQ(1u, kept.erase(others[i].data())) << i;
  }
  EXPECT_EQ(before + (arena.size() + kKept) * kBytes,
            BufferPool::bytes_in_use());
  others.clear();
  arena.clear();
  EXPECT_EQ(before, BufferPool::bytes_in_use());
  // And the arena comes first again.
  EXPECT_TRUE(BufferPool::arena().Contains(BufferPool::Get(kBytes).data()));
}

TEST(BufferPool, ABufferMovedIntoItselfStays) {
  AlignedBuffer buffer = BufferPool::Get(4096);
  char* const data = buffer.data();
  AlignedBuffer& same = buffer;
  buffer = std::move(same);
  EXPECT_EQ(data, buffer.data());
  std::memset(buffer.data(), 's', 4096);
}

TEST(BufferPool, CountsWhatIsHandedOut) {
  const uint64_t before = BufferPool::bytes_in_use();
  {
    const AlignedBuffer small = BufferPool::Get(5000);
    EXPECT_EQ(before + 8192, BufferPool::bytes_in_use());
    const AlignedBuffer large = BufferPool::Get(3 << 20);
    EXPECT_EQ(before + 8192 + (3 << 20), BufferPool::bytes_in_use());
  }
  EXPECT_EQ(before, BufferPool::bytes_in_use());
}

TEST(BufferPool, Recycles) {
  char* data = nullptr;
  {
    AlignedBuffer buffer = BufferPool::Get(64 << 10);
    data = buffer.data();
  }
  AlignedBuffer again = BufferPool::Get(64 << 10);
  EXPECT_EQ(data, again.data());
}

TEST(BufferPool, MovesHandTheMemoryOver) {
  const uint64_t before = BufferPool::bytes_in_use();
  AlignedBuffer first = BufferPool::Get(4096);
  char* const data = first.data();
  AlignedBuffer second = std::move(first);
  EXPECT_EQ(data, second.data());
  second = BufferPool::Get(8192);
  EXPECT_EQ(before + 8192, BufferPool::bytes_in_use());
  second = AlignedBuffer();
  EXPECT_EQ(before, BufferPool::bytes_in_use());
}

// Buffers change hands between threads all the time: Poll on one thread, the
// buffer's death on another.
TEST(BufferPool, ManyThreads) {
  const uint64_t before = BufferPool::bytes_in_use();
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 1000; ++i) {
        AlignedBuffer buffer = BufferPool::Get(size_t{4096} << (i % 4));
        std::memset(buffer.data(), t, buffer.size());
        EXPECT_EQ(t, buffer.data()[buffer.size() - 1]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(before, BufferPool::bytes_in_use());
}

}  // namespace
}  // namespace diofs
