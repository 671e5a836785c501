// dio_walk_bench: what the engine itself costs, without any device: a request
// is mapped, cut into bios, completed at once and waited for.
//
//   dio_walk_bench --benchmark_filter=Read
//
// Counters: time per block that was mapped and per bio, bios and allocations
// per request (0.00 in the steady state).

#include <benchmark/benchmark.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>

#include "dio/bio.h"
#include "dio/block_device.h"
#include "dio/block_mapper.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/geometry.h"
#include "dio/plug.h"

namespace {

std::atomic<uint64_t> g_allocations{0};

void* CountedAllocation(std::size_t bytes, std::size_t alignment) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  // aligned_alloc wants whole multiples; nothing may be asked for, too.
  bytes =
      (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) std::terminate();
  return memory;
}

}  // namespace

// Every allocation of this program passes here.
void* operator new(std::size_t bytes) {
  return CountedAllocation(bytes, alignof(std::max_align_t));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return CountedAllocation(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*bytes*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t /*bytes*/,
                     std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

namespace diofs {

namespace {

constexpr uint32_t kBlockBytes = 4096;
constexpr uint64_t kDeviceBytes = uint64_t{1} << 40;

Geometry MakeGeometry() {
  Geometry geometry;
  geometry.device_bytes = kDeviceBytes;
  return geometry;
}

// Completes every bio inside Submit and moves nothing. Thread-safe.
class InstantDevice final : public BlockDevice {
 public:
  InstantDevice() : BlockDevice("instant", MakeGeometry()) {}

  // Nothing is in flight once Submit has returned.
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

// Written blocks in runs of a fixed length, none of which follows the one
// before on the device. A constant; any thread.
class RunMapper final : public BlockMapper {
 public:
  explicit RunMapper(uint64_t run_blocks) : run_blocks_(run_blocks) {}

  Result GetBlocks(uint64_t first, uint64_t count, bool /*create*/,
                   BlockMapping* mapping) const override {
    const uint64_t run = first / run_blocks_;
    mapping->state = BlockState::kMapped;
    mapping->device_block = first + run;
    mapping->count = std::min(count, (run + 1) * run_blocks_ - first);
    return Result::Ok();
  }

 private:
  const uint64_t run_blocks_;
};

uint64_t Bios(BlockDevice* device) {
  const IoCounters& counters = device->stats().by_class[0];
  return counters.reads.load() + counters.writes.load();
}

void Walk(benchmark::State& state, IoDirection direction) {
  const auto blocks = static_cast<uint64_t>(state.range(0));
  const RunMapper mapper(static_cast<uint64_t>(state.range(1)));
  InstantDevice device;
  AlignedBuffer buffer = BufferPool::Get(blocks * kBlockBytes);
  if (!buffer) return state.SkipWithError("no memory");
  const iovec segment = {buffer.data(), blocks * kBlockBytes};
  DioRequest request;
  request.direction = direction;
  request.segments = &segment;
  request.segment_count = 1;
  request.file_size = kDeviceBytes / 2;
  request.mapper = &mapper;
  request.block_bytes = kBlockBytes;

  Plug plug(&device);
  std::optional<Dio> dio;
  const auto move = [&] {
    dio.emplace(&device);
    dio->Submit(request, &plug);
    plug.Finish();
    return dio->Wait().ok();
  };
  // The first request fills the pool of bios.
  if (!move()) return state.SkipWithError("the request failed");
  const uint64_t allocations = g_allocations.load(std::memory_order_relaxed);
  const uint64_t bios = Bios(&device);
  bool ok = true;
  for (auto _ : state) ok = move() && ok;
  const uint64_t allocated =
      g_allocations.load(std::memory_order_relaxed) - allocations;
  const auto requests = static_cast<double>(state.iterations());
  const double bios_done = static_cast<double>(Bios(&device) - bios);
  if (!ok) state.SkipWithError("a request failed");

  const auto time_per =
      benchmark::Counter::kIsRate | benchmark::Counter::kInvert;
  state.counters["time_per_block"] =
      benchmark::Counter(requests * static_cast<double>(blocks), time_per);
  state.counters["time_per_bio"] = benchmark::Counter(bios_done, time_per);
  state.counters["bios_per_request"] = bios_done / requests;
  state.counters["allocations_per_request"] =
      static_cast<double>(allocated) / requests;
}

void Read(benchmark::State& state) { Walk(state, IoDirection::kRead); }
void Write(benchmark::State& state) { Walk(state, IoDirection::kWrite); }

// Blocks of the request, and of each of its mappings: one block; a large
// request in one piece; the same in pieces down to single blocks.
void Shapes(benchmark::internal::Benchmark* walk) {
  walk->ArgNames({"blocks", "run"});
  walk->Args({1, 1});
  walk->Args({16, 16});
  walk->Args({128, 128});
  walk->Args({128, 16});
  walk->Args({128, 1});
}

BENCHMARK(Read)->Apply(Shapes);
BENCHMARK(Write)->Apply(Shapes);

}  // namespace

}  // namespace diofs

BENCHMARK_MAIN();
