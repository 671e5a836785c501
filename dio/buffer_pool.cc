#include "dio/buffer_pool.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include "dio/align.h"
#include "dio/annotate.h"
#include "dio/fork_guard.h"

namespace diofs {
namespace {

constexpr size_t kMaxSize = BufferArena::kMaxBytes;

// Free buffers of one size, linked through their first bytes.
struct FreeBuffer {
  FreeBuffer* next;
};
static_assert(sizeof(FreeBuffer) == kAnnotatedLinkBytes);

// Needs neither construction nor destruction: buffers may outlive the statics
// of their users.
struct FreeBuffers {
  std::mutex mutex;
  std::array<FreeBuffer*, BufferArena::kOrders> first{};  // guarded by mutex
  size_t cached_bytes = 0;                                // guarded by mutex
  std::atomic<uint64_t> bytes_in_use{0};
};

FreeBuffers g_pool;

// Guarded by g_pool.mutex. Never destroyed, for the same reason.
BufferArena& Arena() {
  static BufferArena* const arena = new BufferArena;
  return *arena;
}

// The arena is made while the program is loaded: a fork in the middle of it
// would leave it half made in the child for ever.
[[maybe_unused]] const bool g_registered =
    RegisterForkMutex(&g_pool.mutex) && Arena().base() != nullptr;

// The order of the smallest size that holds `bytes`, at most kMaxSize.
int OrderOf(size_t bytes) {
  int order = 0;
  while (BufferArena::kMinBytes << order < bytes) ++order;
  return order;
}

// Of size kMinBytes << order; null where only the system can help.
char* TakeFree(int order) {
  BufferArena& arena = Arena();
  const std::lock_guard<std::mutex> lock(g_pool.mutex);
  if (char* const data = arena.Allocate(order); data != nullptr) return data;
  FreeBuffer* const buffer = g_pool.first[order];
  if (buffer == nullptr) return nullptr;
  g_pool.first[order] = buffer->next;
  g_pool.cached_bytes -= BufferArena::kMinBytes << order;
  return reinterpret_cast<char*>(buffer);
}

// False where the pool has no use for it.
bool KeepFree(char* data, int order) {
  BufferArena& arena = Arena();
  const size_t size = BufferArena::kMinBytes << order;
  const std::lock_guard<std::mutex> lock(g_pool.mutex);
  if (arena.Contains(data)) {
    AnnotateBufferReturned(data, size);
    arena.Free(data, order);
    return true;
  }
  if (g_pool.cached_bytes + size > BufferPool::kMaxCachedBytes) return false;
  auto* const buffer = reinterpret_cast<FreeBuffer*>(data);
  buffer->next = g_pool.first[order];
  g_pool.first[order] = buffer;
  g_pool.cached_bytes += size;
  AnnotateBufferReturned(data, size);
  return true;
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
  void* data = nullptr;
  if (bytes <= kMaxSize) {
    const int order = OrderOf(bytes);
    size = BufferArena::kMinBytes << order;
    data = TakeFree(order);
  }
  if (data == nullptr) data = std::aligned_alloc(kAlignment, size);
  if (data == nullptr) return AlignedBuffer();
  AnnotateBufferTaken(data, size);
  g_pool.bytes_in_use.fetch_add(size, std::memory_order_relaxed);
  return AlignedBuffer(static_cast<char*>(data), size);
}

void BufferPool::Put(char* data, size_t size) {
  g_pool.bytes_in_use.fetch_sub(size, std::memory_order_relaxed);
  if (size <= kMaxSize && KeepFree(data, OrderOf(size))) return;
  std::free(data);
}

const BufferArena& BufferPool::arena() { return Arena(); }

uint64_t BufferPool::bytes_in_use() {
  return g_pool.bytes_in_use.load(std::memory_order_relaxed);
}

}  // namespace diofs
