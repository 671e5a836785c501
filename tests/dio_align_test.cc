#include <gtest/gtest.h>

#include "dio/align.h"

namespace diofs {
namespace {

TEST(Align, PowersOfTwo) {
  EXPECT_FALSE(IsPowerOfTwo(0));
  EXPECT_TRUE(IsPowerOfTwo(1));
  EXPECT_TRUE(IsPowerOfTwo(4096));
  EXPECT_FALSE(IsPowerOfTwo(4097));
  EXPECT_TRUE(IsPowerOfTwo(uint64_t{1} << 63));
}

TEST(Align, AgreesWithDivision) {
  for (const uint64_t alignment : {1, 2, 512, 4096}) {
    for (uint64_t value = 0; value < 10000; value += 7) {
      EXPECT_EQ(value / alignment * alignment, AlignDown(value, alignment));
      EXPECT_EQ(DivideRoundUp(value, alignment) * alignment,
                AlignUp(value, alignment));
      EXPECT_EQ(value % alignment == 0, IsAligned(value, alignment));
    }
  }
}

TEST(Align, Pointers) {
  alignas(512) static char memory[1024];
  EXPECT_TRUE(IsAligned(memory, 512));
  EXPECT_FALSE(IsAligned(memory + 1, 2));
}

TEST(Align, CheckedAddStopsAtTheEnd) {
  uint64_t sum = 42;
  EXPECT_TRUE(CheckedAdd(UINT64_MAX - 1, 1, &sum));
  EXPECT_EQ(UINT64_MAX, sum);
  sum = 42;
  EXPECT_FALSE(CheckedAdd(UINT64_MAX, 1, &sum));
  EXPECT_FALSE(CheckedAdd(1, UINT64_MAX, &sum));
  EXPECT_EQ(42u, sum);
}

TEST(Align, DivideRoundUpDoesNotOverflow) {
  EXPECT_EQ(0u, DivideRoundUp(0, 4096));
  EXPECT_EQ(1u, DivideRoundUp(1, 4096));
  EXPECT_EQ(UINT64_MAX / 4096 + 1, DivideRoundUp(UINT64_MAX, 4096));
}

}  // namespace
}  // namespace diofs
