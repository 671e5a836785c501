#include "dio/bio.h"

#include <algorithm>
#include <new>
#include <utility>

#include "dio/dio.h"

namespace diofs {

void Bio::Reset(const BioHead& head) {
  head_ = head;
  head_.max_segments = std::min(head.max_segments, kMaxSegments);
  bytes_ = 0;
  segment_count_ = 0;
  depth_ = 0;
  done_bytes = 0;
  limit_bytes = 0;
  written_through = head.fua;
}

uint32_t Bio::TryAppend(uint64_t file_offset, uint64_t device_offset,
                        void* memory, uint32_t length) {
  if (device_offset != device_end() ||
      file_offset != head_.file_offset + bytes_) {
    return 0;
  }
  const uint32_t taken = std::min(length, head_.max_bytes - bytes_);
  if (taken == 0) return 0;
  iovec* const last =
      segment_count_ == 0 ? nullptr : &segments_[segment_count_ - 1];
  if (last != nullptr &&
      static_cast<char*>(last->iov_base) + last->iov_len == memory) {
    last->iov_len += taken;
  } else if (segment_count_ < head_.max_segments) {
    segments_[segment_count_++] = iovec{memory, taken};
  } else {
    return 0;
  }
  bytes_ += taken;
  limit_bytes = bytes_;
  return taken;
}

int Bio::FillRemainder() {
  uint64_t skip = done_bytes;
  uint64_t left = limit_bytes - done_bytes;
  int count = 0;
  for (uint32_t i = 0; i < segment_count_ && left > 0; ++i) {
    iovec segment = segments_[i];
    if (skip >= segment.iov_len) {
      skip -= segment.iov_len;
      continue;
    }
    segment.iov_base = static_cast<char*>(segment.iov_base) + skip;
    segment.iov_len = std::min<uint64_t>(segment.iov_len - skip, left);
    left -= segment.iov_len;
    skip = 0;
    remainder[count++] = segment;
  }
  return count;
}

void Bio::End(int64_t result) { dio()->BioDone(this, result); }

bool Bio::Push(BlockDevice* device) {
  if (depth_ == kMaxDepth) return false;
  devices_[depth_++] = device;
  return true;
}

BlockDevice* Bio::Pop() {
  --depth_;
  return top();
}

BioPool::BioPool(size_t capacity) : capacity_(capacity), reserve_(new Bio) {
  reserve_->pool_ = this;
}

BioPool::~BioPool() {
  while (Bio* const bio = TakeFromShards()) delete bio;
  while (Bio* const bio = first_free_) {
    first_free_ = bio->next_;
    delete bio;
  }
  delete reserve_;
}

Bio* BioPool::TryGet() {
  if (Bio* const bio = shards_[ThreadShard()].free.exchange(
          nullptr, std::memory_order_acquire)) {
    return bio;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (Bio* const bio = first_free_; bio != nullptr) {
    first_free_ = bio->next_;
    --free_count_;
    return bio;
  }
  if (made_ < capacity_) {
    // Not value-initialised: 2 KiB of segments need no zeroing.
    if (Bio* const bio = new (std::nothrow) Bio; bio != nullptr) {
      ++made_;
      bio->pool_ = this;
      return bio;
    }
  }
  // Those of other threads, where it is that or nothing.
  if (Bio* const bio = TakeFromShards(); bio != nullptr) return bio;
  return std::exchange(reserve_free_, false) ? reserve_ : nullptr;
}

Bio* BioPool::TakeFromShards() {
  for (Shard& shard : shards_) {
    if (Bio* const bio =
            shard.free.exchange(nullptr, std::memory_order_acquire)) {
      return bio;
    }
  }
  return nullptr;
}

void BioPool::Put(Bio* bio) {
  if (IsReserve(bio)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    reserve_free_ = true;
    return;
  }
  Bio* none = nullptr;
  if (shards_[ThreadShard()].free.compare_exchange_strong(
          none, bio, std::memory_order_release, std::memory_order_relaxed)) {
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  bio->next_ = first_free_;
  first_free_ = bio;
  ++free_count_;
}

size_t BioPool::FreeInShards() const {
  size_t count = 0;
  for (const Shard& shard : shards_) {
    if (shard.free.load(std::memory_order_relaxed) != nullptr) ++count;
  }
  return count;
}

size_t BioPool::in_use() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  // One that wanders between shards just now may be counted twice.
  return made_ - std::min(made_, free_count_ + FreeInShards() +
                                     (reserve_free_ ? 1 : 0));
}

}  // namespace diofs
