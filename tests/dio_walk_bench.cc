// dio_walk_bench: what the engine itself costs, without any device: a request
// is mapped, cut into bios, completed at once and waited for.
//
//   dio_walk_bench --benchmark_filter=Read
//
// Counters: time per block that was mapped and per bio, bios and allocations
// per request (0.00 in the steady state).

#include <benchmark/benchmark.h>
#include <sys/uio.h>

#include <cstdint>
#include <optional>

#include "dio/block_device.h"
#include "dio/buffer_pool.h"
#include "dio/dio.h"
#include "dio/plug.h"
#include "tests/counted_new.h"
#include "tests/instant_device.h"

namespace diofs {

namespace {

constexpr uint32_t kBlockBytes = 4096;

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
  request.file_size = InstantDevice::kBytes / 2;
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
  const uint64_t allocations = allocation_count.load();
  const uint64_t bios = Bios(&device);
  bool ok = true;
  for (auto _ : state) ok = move() && ok;
  const uint64_t allocated = allocation_count.load() - allocations;
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
