#ifndef DIOFS_DIO_BUFFER_ARENA_H_
#define DIOFS_DIO_BUFFER_ARENA_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace diofs {

// One region of huge pages from which aligned buffers are cut, in powers of two
// from 4 KiB to 1 MiB, lowest address first. Rings register it once, so that
// the kernel need not look up and pin the pages of each request; and a request
// from huge pages has fewer segments. One per process, owned by BufferPool,
// whose lock guards it; base() and bytes() never change.
//
// Buddies: a free run of each size is a bit in that size's map, and its buddy's
// bit is its neighbour's.
//   1 MiB   | 1 |     0     | ...   64 KiB wanted: the first free run of at
//   512 KiB |   | 0 |   1   | ...   least that size is halved down, and the
//   256 KiB |   |0|1|       | ...   other halves become free
class BufferArena {
 public:
  // Enough for the write windows of a few SSTs and for compaction's readahead;
  // all of it is resident once a ring has registered it.
  static constexpr size_t kBytes = 32 << 20;
  static constexpr size_t kMinBytes = 4 << 10;
  static constexpr int kOrders = 9;
  static constexpr size_t kMaxBytes = kMinBytes << (kOrders - 1);

  // Reserves the region; memory is taken as it is touched. Without it (no
  // address space) every Allocate fails.
  BufferArena();
  BufferArena(const BufferArena&) = delete;
  BufferArena& operator=(const BufferArena&) = delete;
  ~BufferArena();

  char* base() const { return base_; }
  size_t bytes() const { return base_ == nullptr ? 0 : kBytes; }
  bool Contains(const void* memory) const {
    const auto distance = reinterpret_cast<uintptr_t>(memory) -
                          reinterpret_cast<uintptr_t>(base_);
    return base_ != nullptr && distance < kBytes;
  }

  // A buffer of kMinBytes << order, aligned to its size; null where none is
  // left.
  char* Allocate(int order);
  void Free(char* memory, int order);
  size_t free_bytes() const;

 private:
  static constexpr size_t kRuns = kBytes / kMinBytes;
  using Map = std::array<uint64_t, kRuns / 64>;

  bool IsFree(int order, size_t run) const {
    return (free_[order][run / 64] >> (run % 64) & 1) != 0;
  }
  void Flip(int order, size_t run) {
    free_[order][run / 64] ^= uint64_t{1} << (run % 64);
  }
  // Takes the first free run of that order; kRuns where there is none.
  size_t TakeFirst(int order);

  char* base_ = nullptr;
  std::array<Map, kOrders> free_{};
};

}  // namespace diofs

#endif  // DIOFS_DIO_BUFFER_ARENA_H_
