#include "dio/bio.h"

#include <algorithm>
#include <mutex>

#include "dio/dio.h"
#include "dio/fork_guard.h"

namespace diofs {
namespace {

// Needs neither construction nor destruction: a bio may end while statics are
// being torn down.
struct FreeBios {
  std::mutex mutex;
  Bio* first = nullptr;  // guarded by mutex
  uint64_t in_use = 0;   // guarded by mutex
};

FreeBios g_free_bios;
[[maybe_unused]] const bool g_registered =
    RegisterForkMutex(&g_free_bios.mutex);

}  // namespace

void Bio::Reset(Dio* dio, IoDirection direction, IoClass io_class,
                uint64_t device_offset, uint32_t max_bytes,
                uint32_t max_segments) {
  dio_ = dio;
  direction_ = direction;
  io_class_ = io_class;
  device_offset_ = device_offset;
  bytes_ = 0;
  max_bytes_ = max_bytes;
  max_segments_ = std::min(max_segments, kMaxSegments);
  segment_count_ = 0;
  done_bytes = 0;
  retries = 0;
}

uint32_t Bio::Append(void* memory, uint32_t length) {
  const uint32_t taken = std::min(length, max_bytes_ - bytes_);
  if (taken == 0) return 0;
  if (segment_count_ > 0) {
    iovec& last = segments_[segment_count_ - 1];
    if (static_cast<char*>(last.iov_base) + last.iov_len == memory) {
      last.iov_len += taken;
      bytes_ += taken;
      return taken;
    }
  }
  if (segment_count_ == max_segments_) return 0;
  segments_[segment_count_++] = iovec{memory, taken};
  bytes_ += taken;
  return taken;
}

void Bio::End(int64_t result) {
  Dio* const dio = dio_;
  const uint32_t expected = bytes_;
  // Back to the pool first: once the Dio has been told, its owner may go on to
  // check that nothing is in use.
  BioPool::Put(this);
  dio->BioDone(result, expected);
}

Bio* BioPool::Get() {
  {
    const std::lock_guard<std::mutex> lock(g_free_bios.mutex);
    ++g_free_bios.in_use;
    if (Bio* bio = g_free_bios.first; bio != nullptr) {
      g_free_bios.first = bio->next_free_;
      bio->next_free_ = nullptr;
      return bio;
    }
  }
  // Not value-initialised: 2 KiB of segments need no zeroing.
  return new Bio;
}

void BioPool::Put(Bio* bio) {
  const std::lock_guard<std::mutex> lock(g_free_bios.mutex);
  bio->next_free_ = g_free_bios.first;
  g_free_bios.first = bio;
  --g_free_bios.in_use;
}

uint64_t BioPool::in_use() {
  const std::lock_guard<std::mutex> lock(g_free_bios.mutex);
  return g_free_bios.in_use;
}

}  // namespace diofs
