// What a walk costs, counted instead of timed: allocations, and calls of the
// mapper. (dio_walk_bench measures nanoseconds per block.)

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <type_traits>

#include "dio/dio_submit.h"
#include "tests/engine_io.h"
#include "tests/sim_device.h"

namespace {

std::atomic<uint64_t> g_allocations{0};

}  // namespace

// Every ordinary allocation of this program passes here. Not inlined, for gcc
// would see free() take what `new` gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(std::max<std::size_t>(bytes, 1));
  if (memory == nullptr) std::terminate();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::size_t /*bytes*/) noexcept {
  std::free(memory);
}

namespace diofs {
namespace {

constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = 2048;

// Completes every bio inside Submit and moves nothing. Of one thread.
class InstantDevice final : public BlockDevice {
 public:
  InstantDevice()
      : BlockDevice("instant", SimDevice::MakeGeometry(4 * kBlocks * kBlock)) {}

  void Wait(Dio* /*dio*/) override {}
  int64_t MoveNow(Bio* bio) override { return bio->bytes(); }
  const char* backend_name() const override { return "instant"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i) Complete(bios[i], bios[i]->bytes());
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t /*offset*/, uint64_t /*bytes*/) override {
    return Result::Ok();
  }
};

// Written blocks in runs of a fixed length, with gaps between them; counts how
// often it is asked. Of one thread.
class RunMapper final : public BlockMapper {
 public:
  explicit RunMapper(uint64_t run_blocks) : run_blocks_(run_blocks) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                   BlockMapping* mapping) const override {
    ++calls;
    const uint64_t run = first / run_blocks_;
    mapping->state = BlockState::kMapped;
    mapping->device_block = first + run;
    mapping->count = std::min(count, (run + 1) * run_blocks_ - first);
    return Result::Ok();
  }

  mutable uint64_t calls = 0;

 private:
  const uint64_t run_blocks_;
};

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
        const uint64_t before = g_allocations;
        Dio dio(&device);
        Plug plug(&device);
        (void)dio.Submit(io.get(), &plug);
        plug.Finish();
        const Result result = dio.Wait();
        const uint64_t allocations = g_allocations - before;
        ASSERT_EQ(kBlocks * kBlock, result.bytes());
        EXPECT_EQ(0u, warm ? allocations : 0) << run;
        EXPECT_EQ(kBlocks / run, mapper.calls);
      }
    }
  }
}

}  // namespace
}  // namespace diofs
