#ifndef DIOFS_DIO_THREAD_SHARD_H_
#define DIOFS_DIO_THREAD_SHARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace diofs {

// What many threads touch with every request is laid out in shards, a cache
// line each, so that they do not take it from each other: on a device of a few
// microseconds one shared line costs as much as all the rest of a request.
inline constexpr size_t kThreadShards = 16;
inline constexpr size_t kCacheLineBytes = 64;

// The calling thread's shard. Two threads may have the same one.
inline size_t ThreadShard() {
  static std::atomic<size_t> threads{0};
  thread_local const size_t shard =
      threads.fetch_add(1, std::memory_order_relaxed) % kThreadShards;
  return shard;
}

// A relaxed counter that any thread adds to and few read. Thread-safe.
class ShardedCounter {
 public:
  void Add(uint64_t count) {
    shards_[ThreadShard()].value.fetch_add(count, std::memory_order_relaxed);
  }
  uint64_t load() const {
    uint64_t sum = 0;
    for (const Shard& shard : shards_) {
      sum += shard.value.load(std::memory_order_relaxed);
    }
    return sum;
  }
  // As std::atomic has it. NOLINTNEXTLINE(google-explicit-constructor)
  operator uint64_t() const { return load(); }

 private:
  struct alignas(kCacheLineBytes) Shard {
    std::atomic<uint64_t> value{0};
  };
  std::array<Shard, kThreadShards> shards_;
};

}  // namespace diofs

#endif  // DIOFS_DIO_THREAD_SHARD_H_
