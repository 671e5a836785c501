#ifndef DIOFS_DIO_BUFFER_POOL_H_
#define DIOFS_DIO_BUFFER_POOL_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "dio/buffer_arena.h"

namespace diofs {

// Memory a device can be handed: aligned to 4096 bytes, a multiple of it long.
// Move-only; goes back to the pool when it dies, on any thread.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  char* data() { return data_; }
  const char* data() const { return data_; }
  // At least what was asked for; what lies in it is undefined.
  size_t size() const { return size_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  friend class BufferPool;
  AlignedBuffer(char* data, size_t size) : data_(data), size_(size) {}

  char* data_ = nullptr;
  size_t size_ = 0;
};

// Hands out aligned buffers in power-of-two sizes from 4 KiB to 1 MiB: from the
// arena of huge pages while that lasts, then from the heap, of which it keeps
// at most kMaxCachedBytes. Larger ones come from the system and go back to it.
// One per process; thread-safe.
class BufferPool {
 public:
  static constexpr size_t kAlignment = 4096;
  static constexpr size_t kMaxCachedBytes = 64 << 20;

  // An empty buffer (false) where memory is exhausted.
  static AlignedBuffer Get(size_t bytes);
  // Bytes handed out and not yet returned.
  static uint64_t bytes_in_use();
  // The region a ring may register; null base() where there is none.
  static const BufferArena& arena();

 private:
  friend class AlignedBuffer;
  static void Put(char* data, size_t size);
};

}  // namespace diofs

#endif  // DIOFS_DIO_BUFFER_POOL_H_
