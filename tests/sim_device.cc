#include "tests/sim_device.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "dio/dio.h"
#include "tests/allocation_scope.h"
#include "tests/gauges.h"

namespace diofs {
namespace {

std::string MakePoison(uint64_t offset, uint64_t bytes,
                       uint32_t logical_block_bytes) {
  std::string poison;
  poison.reserve(bytes);
  while (poison.size() < bytes) {
    poison.append(logical_block_bytes, SimDevice::Poison(offset + poison.size(),
                                                         logical_block_bytes));
  }
  return poison;
}

}  // namespace

Geometry SimDevice::MakeGeometry(uint64_t device_bytes,
                                 uint32_t logical_block_bytes,
                                 uint32_t physical_block_bytes) {
  Geometry geometry;
  geometry.device_bytes = device_bytes;
  geometry.logical_block_bytes = logical_block_bytes;
  geometry.physical_block_bytes = physical_block_bytes;
  geometry.memory_align_bytes = 512;
  geometry.offset_align_bytes = logical_block_bytes;
  geometry.discard = true;
  return geometry;
}

char SimDevice::Poison(uint64_t offset, uint32_t logical_block_bytes) {
  const uint64_t lba = offset / logical_block_bytes;
  return static_cast<char>(0xA5 ^ (lba & 0xFF));
}

SimDevice::SimDevice(const Geometry& geometry, size_t max_bios)
    : SimDevice(
          MakePoison(0, geometry.device_bytes, geometry.logical_block_bytes),
          geometry, max_bios) {}

SimDevice::SimDevice(std::string image, const Geometry& geometry,
                     size_t max_bios)
    : BlockDevice("sim", geometry, max_bios), image_(std::move(image)) {
  image_.resize(geometry.device_bytes);
}

SimDevice::~SimDevice() {
  if (on_destroy) on_destroy(*this);
  ExpectNothingHeld(this);
}

void SimDevice::Wait(Dio* dio, uint32_t /*wait_nr*/) {
  const AllocationScope not_counted(false);
  while (!dio->done()) {
    if (Bio* const bio = TakePending(); bio != nullptr) {
      Complete(bio, Move(bio));
    } else {
      sched_yield();
    }
  }
}

// Some of what is pending, at least one.
void SimDevice::Poll() {
  const AllocationScope not_counted(false);
  if (stale()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (behavior_.unpolled) return;
  }
  for (bool more = true; more;) {
    Bio* const bio = TakePending();
    if (bio == nullptr) return;
    Complete(bio, Move(bio));
    const std::lock_guard<std::mutex> lock(mutex_);
    more = Chance(500);
  }
}

int64_t SimDevice::DoMove(Bio* bio) { return Move(bio); }

Bio* SimDevice::TakePending() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pending_.empty()) return nullptr;
  const auto next = pending_.begin() +
                    static_cast<std::ptrdiff_t>(
                        behavior_.reordered ? rng_() % pending_.size() : 0);
  Bio* const bio = *next;
  pending_.erase(next);
  return bio;
}

bool SimDevice::Chance(uint32_t per_mille) {
  return per_mille > 0 && rng_() % 1000 < per_mille;
}

void SimDevice::FailNth(SimOp op, uint64_t nth, int error, bool forever) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto index = static_cast<size_t>(op);
  faults_[index] = {arrived_[index] + nth, error, forever};
}

void SimDevice::ClearFaults() {
  const std::lock_guard<std::mutex> lock(mutex_);
  faults_ = {};
}

void SimDevice::SetUnreadable(uint64_t offset, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  unreadable_[offset] = bytes;
}

void SimDevice::Behave(const SimBehavior& behavior) {
  const std::lock_guard<std::mutex> lock(mutex_);
  behavior_ = behavior;
  rng_.seed(behavior.seed);
}

size_t SimDevice::pending() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pending_.size();
}

size_t SimDevice::most_pending() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return most_pending_;
}

std::vector<SimEvent> SimDevice::Submissions() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return submissions_;
}

std::vector<SimEvent> SimDevice::Moves() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return moves_;
}

std::vector<SimEvent> SimDevice::Events() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return events_;
}

void SimDevice::ClearEvents() {
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.clear();
  moves_.clear();
  submissions_.clear();
}

std::string SimDevice::Image() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return image_;
}

std::string SimDevice::DurableImage() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string image = image_;
  for (const auto& [offset, versions] : unflushed_) {
    image.replace(offset, versions.front().size(), versions.front());
  }
  return image;
}

std::string SimDevice::CrashImage(std::mt19937_64* rng) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::string image = image_;
  for (const auto& [offset, versions] : unflushed_) {
    const std::string& left = versions[(*rng)() % versions.size()];
    image.replace(offset, left.size(), left);
  }
  const uint32_t block_bytes = geometry().logical_block_bytes;
  for (const Bio* bio : pending_) {
    if (bio->direction() == IoDirection::kRead) continue;
    std::string written;
    for (uint32_t i = 0; i < bio->segment_count(); ++i) {
      const iovec& segment = bio->segments()[i];
      written.append(static_cast<const char*>(segment.iov_base),
                     segment.iov_len);
    }
    for (uint64_t at = 0; at < written.size(); at += block_bytes) {
      if ((*rng)() % 2 == 0) continue;
      image.replace(bio->device_offset() + at, block_bytes, written, at,
                    block_bytes);
    }
  }
  return image;
}

bool SimDevice::HasUnflushedWrites() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !unflushed_.empty();
}

void SimDevice::DoSubmit(Bio* const* bios, size_t count) {
  const AllocationScope not_counted(false);
  bool delayed = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (size_t i = 0; i < count; ++i) {
      const Bio& bio = *bios[i];
      const bool write = bio.direction() == IoDirection::kWrite;
      submissions_.push_back({write ? SimOp::kWrite : SimOp::kRead,
                              ++submission_, bio.device_offset(), bio.bytes(),
                              bio.segment_count(), bio.io_class(), bio.fua(),
                              bio.ioprio()});
    }
    delayed = behavior_.delayed;
    if (delayed) {
      pending_.insert(pending_.end(), bios, bios + count);
      most_pending_ = std::max(most_pending_, pending_.size());
    }
  }
  if (delayed) return;
  for (size_t i = 0; i < count; ++i) Complete(bios[i], Move(bios[i]));
}

// Moves what is left of `bio`, or some of it.
int64_t SimDevice::Move(Bio* bio) {
  const AllocationScope not_counted(false);
  const bool write = bio->direction() == IoDirection::kWrite;
  const SimOp op = write ? SimOp::kWrite : SimOp::kRead;
  if (write && on_write) on_write();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(op); error != 0) return -error;
  if (Chance(behavior_.transient_chance)) {
    constexpr int kTransient[] = {EAGAIN, EINTR, ECANCELED};
    return -kTransient[rng_() % 3];
  }
  const int count = bio->FillRemainder();
  const uint64_t offset = bio->device_offset() + bio->done_bytes;
  uint64_t bytes = bio->limit_bytes - bio->done_bytes;
  for (const auto& [bad, bad_bytes] : unreadable_) {
    if (!write && bad < offset + bytes && offset < bad + bad_bytes) {
      return -ENODATA;
    }
  }
  if (Chance(behavior_.short_chance)) bytes = 1 + rng_() % bytes;
  if (write) KeepOld(offset, bytes);
  uint64_t moved = 0;
  for (int i = 0; i < count && moved < bytes; ++i) {
    const iovec& segment = bio->remainder[static_cast<size_t>(i)];
    const uint64_t length = std::min<uint64_t>(segment.iov_len, bytes - moved);
    if (write) {
      std::memcpy(&image_[offset + moved], segment.iov_base, length);
    } else {
      std::memcpy(segment.iov_base, &image_[offset + moved], length);
    }
    moved += length;
  }
  moves_.push_back({op, moves_.size() + 1, offset, bytes, bio->segment_count(),
                    bio->io_class(), bio->fua(), bio->ioprio()});
  if (write) {
    KeepNew(offset, bytes);
    if (bio->written_through) MakeDurable(offset, bytes);
    Record(op, offset, bytes, bio->segment_count(), bio->io_class(),
           bio->fua());
  }
  return static_cast<int64_t>(bytes);
}

Result SimDevice::DoFlush() {
  const AllocationScope not_counted(false);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const int error = Arrive(SimOp::kFlush); error != 0) {
      return Result::Error(error);
    }
    unflushed_.clear();
    Record(SimOp::kFlush, 0, 0, 0, 0, false);
  }
  if (on_flush) on_flush();
  return Result::Ok();
}

// Leaves poison: nobody may rely on what a discarded block holds.
Result SimDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  const AllocationScope not_counted(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(SimOp::kDiscard); error != 0) {
    return Result::Error(error);
  }
  KeepOld(offset, bytes);
  image_.replace(offset, bytes,
                 MakePoison(offset, bytes, geometry().logical_block_bytes));
  KeepNew(offset, bytes);
  Record(SimOp::kDiscard, offset, bytes, 0, 0, false);
  return Result::Ok();
}

int SimDevice::Arrive(SimOp op) {
  const auto index = static_cast<size_t>(op);
  const uint64_t arrival = ++arrived_[index];
  const Fault& fault = faults_[index];
  if (fault.at == 0 || arrival < fault.at) return 0;
  return arrival == fault.at || fault.forever ? fault.error : 0;
}

uint64_t SimDevice::Arrived(SimOp op) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return arrived_[static_cast<size_t>(op)];
}

void SimDevice::Record(SimOp op, uint64_t offset, uint64_t bytes,
                       uint32_t segments, IoClass io_class, bool fua) {
  events_.push_back(
      {op, ++sequence_, offset, bytes, segments, io_class, fua, 0});
}

void SimDevice::KeepOld(uint64_t offset, uint64_t bytes) {
  const uint32_t block_bytes = geometry().logical_block_bytes;
  for (uint64_t at = offset; at < offset + bytes; at += block_bytes) {
    Versions& versions = unflushed_[at];
    if (versions.empty()) versions.push_back(image_.substr(at, block_bytes));
  }
}

void SimDevice::KeepNew(uint64_t offset, uint64_t bytes) {
  const uint32_t block_bytes = geometry().logical_block_bytes;
  for (uint64_t at = offset; at < offset + bytes; at += block_bytes) {
    unflushed_[at].push_back(image_.substr(at, block_bytes));
  }
}

// What a block holds now, and nothing it held before.
void SimDevice::MakeDurable(uint64_t offset, uint64_t bytes) {
  const uint32_t block_bytes = geometry().logical_block_bytes;
  // A block of which only a part was moved is written once more.
  for (uint64_t at = offset; at + block_bytes <= offset + bytes;
       at += block_bytes) {
    unflushed_.erase(at);
  }
}

}  // namespace diofs
