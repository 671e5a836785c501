// What a walk costs, counted instead of timed: allocations, and calls of the
// mapper. (dio_walk_bench measures nanoseconds per block.)

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/dio_submit.h"
#include "dio/iov_cursor.h"
#include "dio/plug.h"
#include "tests/counted_new.h"
#include "tests/engine_io.h"
#include "tests/gauges.h"
#include "tests/instant_device.h"

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 2048;

TEST(WalkCost, TheCursorIsAPlainValueOfAFewCacheLines) {
  EXPECT_LE(sizeof(DioSubmit), 160u);
  // Nothing it would have to give back, nobody who would call it indirectly.
  EXPECT_TRUE(std::is_trivially_destructible_v<DioSubmit>);
  EXPECT_FALSE(std::is_polymorphic_v<DioSubmit>);
  EXPECT_LE(sizeof(IovCursor), 24u);
}

// Requests of any number of blocks, mappings and bios allocate nothing, and
// call the mapper once for each mapping, however many blocks it has.
TEST(WalkCost, NoAllocationAndOneCallForEachMapping) {
  InstantDevice device;
  AlignedBuffer memory = BufferPool::Get(kBlocks * kBlock);
  for (const uint64_t run : {uint64_t{1}, uint64_t{16}, kBlocks}) {
    const RunMapper mapper(run);
    for (const IoDirection direction :
         {IoDirection::kRead, IoDirection::kWrite}) {
      std::fill_n(memory.data(), memory.size(), 'm');
      IoRequest io(direction, mapper, 0, memory.data(), kBlocks * kBlock,
                   kBlocks * kBlock);
      // The first one fills the pool of bios.
      for (const bool warm : {false, true}) {
        mapper.calls = 0;
        const uint64_t before = allocation_count;
        Dio dio(&device);
        Plug plug(&device);
        (void)dio.Submit(io.get(), &plug);
        plug.Finish();
        const Result result = dio.Wait();
        const uint64_t allocations = allocation_count - before;
        ASSERT_EQ(kBlocks * kBlock, result.bytes());
        EXPECT_EQ(0u, warm ? allocations : 0) << run;
        EXPECT_EQ(kBlocks / run, mapper.calls);
      }
    }
  }
  ExpectNothingHeld(&device);
}

}  // namespace
}  // namespace diofs
