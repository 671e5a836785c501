#include "dio/buffer_arena.h"

#include <sys/mman.h>

#include "dio/align.h"

namespace diofs {
namespace {

constexpr size_t kHugePageBytes = 2 << 20;

// `bytes` of address space that starts at a huge page; null where there is
// none.
char* ReserveHugePages(size_t bytes) {
  const size_t reserved = bytes + kHugePageBytes;
  void* const memory = mmap(nullptr, reserved, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(memory);
  char* const base = reinterpret_cast<char*>(
      AlignUp(reinterpret_cast<uintptr_t>(start), kHugePageBytes));
  // In front of it may be nothing, which is only refused; behind it there is a
  // rest always.
  (void)munmap(start, static_cast<size_t>(base - start));
  (void)munmap(base + bytes,
               static_cast<size_t>(start + reserved - (base + bytes)));
  // A wish, which the kernel need not grant.
  (void)madvise(base, bytes, MADV_HUGEPAGE);
  return base;
}

}  // namespace

BufferArena::BufferArena() : base_(ReserveHugePages(kBytes)) {
  if (base_ == nullptr) return;
  for (size_t run = 0; run < kBytes / kMaxBytes; ++run) Flip(kOrders - 1, run);
}

BufferArena::~BufferArena() {
  if (base_ != nullptr) munmap(base_, kBytes);
}

size_t BufferArena::TakeFirst(int order) {
  Map& map = free_[order];
  const size_t words = DivideRoundUp(kRuns >> order, 64);
  for (size_t i = 0; i < words; ++i) {
    if (map[i] == 0) continue;
    const size_t run = i * 64 + static_cast<size_t>(__builtin_ctzll(map[i]));
    Flip(order, run);
    return run;
  }
  return kRuns;
}

char* BufferArena::Allocate(int order) {
  for (int from = order; from < kOrders; ++from) {
    size_t run = TakeFirst(from);
    if (run == kRuns) continue;
    for (; from > order; --from) {
      run *= 2;
      Flip(from - 1, run + 1);
    }
    return base_ + (run * kMinBytes << order);
  }
  return nullptr;
}

void BufferArena::Free(char* memory, int order) {
  size_t run = static_cast<size_t>(memory - base_) / (kMinBytes << order);
  while (order + 1 < kOrders && IsFree(order, run ^ 1)) {
    Flip(order, run ^ 1);
    run /= 2;
    ++order;
  }
  Flip(order, run);
}

size_t BufferArena::free_bytes() const {
  size_t bytes = 0;
  for (int order = 0; order < kOrders; ++order) {
    for (const uint64_t word : free_[order]) {
      bytes += static_cast<size_t>(__builtin_popcountll(word)) * kMinBytes
               << order;
    }
  }
  return bytes;
}

}  // namespace diofs
