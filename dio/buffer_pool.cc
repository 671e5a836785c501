#include "dio/buffer_pool.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include "dio/align.h"
#include "dio/fork_guard.h"

namespace diofs {
namespace {

constexpr size_t kMinSize = 4096;
constexpr size_t kMaxSize = 1 << 20;
constexpr size_t kSizes = 9;  // 4 KiB, 8 KiB, … 1 MiB
static_assert(kMinSize << (kSizes - 1) == kMaxSize);

// Free buffers of one size, linked through their first bytes.
struct FreeBuffer {
  FreeBuffer* next;
};

// Needs neither construction nor destruction: buffers may outlive the statics
// of their users.
struct FreeBuffers {
  std::mutex mutex;
  std::array<FreeBuffer*, kSizes> first{};  // guarded by mutex
  size_t cached_bytes = 0;                  // guarded by mutex
  std::atomic<uint64_t> bytes_in_use{0};
};

FreeBuffers g_pool;
[[maybe_unused]] const bool g_registered = RegisterForkMutex(&g_pool.mutex);

// Index of the smallest size that holds `bytes`, at most kMaxSize.
size_t SizeIndex(size_t bytes) {
  size_t index = 0;
  while (kMinSize << index < bytes) ++index;
  return index;
}

}  // namespace

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this == &other) return *this;
  if (data_ != nullptr) BufferPool::Put(data_, size_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) BufferPool::Put(data_, size_);
}

AlignedBuffer BufferPool::Get(size_t bytes) {
  if (bytes > SIZE_MAX - kAlignment) return AlignedBuffer();
  size_t size = AlignUp(bytes, kAlignment);
  if (bytes <= kMaxSize) {
    const size_t index = SizeIndex(bytes);
    size = kMinSize << index;
    const std::lock_guard<std::mutex> lock(g_pool.mutex);
    if (FreeBuffer* buffer = g_pool.first[index]; buffer != nullptr) {
      g_pool.first[index] = buffer->next;
      g_pool.cached_bytes -= size;
      g_pool.bytes_in_use.fetch_add(size, std::memory_order_relaxed);
      return AlignedBuffer(reinterpret_cast<char*>(buffer), size);
    }
  }
  void* const data = std::aligned_alloc(kAlignment, size);
  if (data == nullptr) return AlignedBuffer();
  g_pool.bytes_in_use.fetch_add(size, std::memory_order_relaxed);
  return AlignedBuffer(static_cast<char*>(data), size);
}

void BufferPool::Put(char* data, size_t size) {
  g_pool.bytes_in_use.fetch_sub(size, std::memory_order_relaxed);
  if (size <= kMaxSize) {
    const std::lock_guard<std::mutex> lock(g_pool.mutex);
    if (g_pool.cached_bytes + size <= kMaxCachedBytes) {
      const size_t index = SizeIndex(size);
      auto* const buffer = reinterpret_cast<FreeBuffer*>(data);
      buffer->next = g_pool.first[index];
      g_pool.first[index] = buffer;
      g_pool.cached_bytes += size;
      return;
    }
  }
  std::free(data);
}

uint64_t BufferPool::bytes_in_use() {
  return g_pool.bytes_in_use.load(std::memory_order_relaxed);
}

}  // namespace diofs
