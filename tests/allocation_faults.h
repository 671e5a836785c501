#ifndef DIOFS_TESTS_ALLOCATION_FAULTS_H_
#define DIOFS_TESTS_ALLOCATION_FAULTS_H_

// Stands between a test program and the heap: the n-th allocation fails.
// Defines operator new for the whole program; so it belongs into one source
// file of a program, that of the test.

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "dio/out_of_memory.h"
#include "dio/result.h"
#include "tests/allocation_scope.h"

namespace diofs {

class AllocationFaults {
 public:
  // The `nth` allocation that counts from now on fails; with `forever` all that
  // follow do so too.
  static void FailNth(uint64_t nth, bool forever) {
    forever_ = forever;
    met_ = false;
    left_ = nth;
  }
  // From now on none fails. Has one?
  static bool Stop() {
    left_ = 0;
    return met_;
  }

  // What `body` returns where its `nth` allocation fails; *met: it had so many.
  template <typename Body>
  static Result WithoutNth(uint64_t nth, bool* met, Body&& body) {
    const AllocationScope counted(true);
    FailNth(nth, /*forever=*/false);
    Result result = CatchBadAlloc(std::forward<Body>(body));
    *met = Stop();
    return result;
  }

  static bool Fails() {
    if (left_ == 0 || !AllocationScope::counted()) return false;
    uint64_t left = left_;
    while (left > 0 && !left_.compare_exchange_weak(
                           left, left == 1 && forever_ ? 1 : left - 1)) {
    }
    if (left != 1) return false;
    met_ = true;
    return true;
  }

 private:
  static inline std::atomic<uint64_t> left_{0};
  static inline std::atomic<bool> forever_{false};
  static inline std::atomic<bool> met_{false};
};

}  // namespace diofs

// Not inlined: gcc would see malloc and free meet operator delete and new.
[[gnu::noinline]] void* operator new(size_t bytes) {
  void* const memory =
      diofs::AllocationFaults::Fails() ? nullptr : std::malloc(bytes | 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

[[gnu::noinline]] void* operator new(size_t bytes,
                                     const std::nothrow_t&) noexcept {
  return diofs::AllocationFaults::Fails() ? nullptr : std::malloc(bytes | 1);
}

[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  void* memory = nullptr;
  if (diofs::AllocationFaults::Fails() ||
      posix_memalign(&memory, static_cast<size_t>(alignment), bytes | 1) != 0) {
    throw std::bad_alloc();
  }
  return memory;
}

[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t,
                                       std::align_val_t) noexcept {
  std::free(memory);
}

#endif  // DIOFS_TESTS_ALLOCATION_FAULTS_H_
