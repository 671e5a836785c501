#ifndef DIOFS_TESTS_COUNTED_NEW_H_
#define DIOFS_TESTS_COUNTED_NEW_H_

// Counts every allocation of a program. Include it once per program, in the
// file that asks.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>

namespace diofs {

inline std::atomic<uint64_t> allocation_count{0};

inline void* CountedAllocation(std::size_t bytes, std::size_t alignment) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  // aligned_alloc wants whole multiples; nothing may be asked for, too.
  bytes =
      (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
  void* const memory = std::aligned_alloc(alignment, bytes);
  if (memory == nullptr) std::terminate();
  return memory;
}

}  // namespace diofs

// Not inlined, for gcc would see free() take what `new` gave, and warn.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  return diofs::CountedAllocation(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t bytes,
                                     std::align_val_t alignment) {
  return diofs::CountedAllocation(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void* operator new(std::size_t bytes,
                                     const std::nothrow_t&) noexcept {
  return diofs::CountedAllocation(bytes, alignof(std::max_align_t));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::size_t /*bytes*/) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(
    void* memory, std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(
    void* memory, std::size_t /*bytes*/,
    std::align_val_t /*alignment*/) noexcept {
  std::free(memory);
}

#endif  // DIOFS_TESTS_COUNTED_NEW_H_
