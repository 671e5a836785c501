#include "tests/sim_device.h"

#include <sched.h>

#include <cstring>
#include <utility>

#include "dio/dio.h"

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

SimDevice::SimDevice(const Geometry& geometry)
    : SimDevice(
          MakePoison(0, geometry.device_bytes, geometry.logical_block_bytes),
          geometry) {}

SimDevice::SimDevice(std::string image, const Geometry& geometry)
    : BlockDevice("sim", geometry), image_(std::move(image)) {
  image_.resize(geometry.device_bytes);
}

void SimDevice::Wait(Dio* dio) {
  while (!dio->done()) sched_yield();
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

std::vector<SimEvent> SimDevice::Events() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return events_;
}

void SimDevice::ClearEvents() {
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.clear();
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
  return image;
}

bool SimDevice::HasUnflushedWrites() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return !unflushed_.empty();
}

void SimDevice::DoSubmit(Bio* const* bios, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const int64_t result = Move(*bios[i]);
    if (bios[i]->direction() == IoDirection::kWrite) NoteWriteCompleted();
    bios[i]->End(result);
  }
}

int64_t SimDevice::Move(const Bio& bio) {
  const bool write = bio.direction() == IoDirection::kWrite;
  const SimOp op = write ? SimOp::kWrite : SimOp::kRead;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(op); error != 0) return -error;
  if (write) KeepOld(bio.device_offset(), bio.bytes());
  char* position = image_.data() + bio.device_offset();
  for (uint32_t i = 0; i < bio.segment_count(); ++i) {
    const iovec& segment = bio.segments()[i];
    if (write) {
      std::memcpy(position, segment.iov_base, segment.iov_len);
    } else {
      std::memcpy(segment.iov_base, position, segment.iov_len);
    }
    position += segment.iov_len;
  }
  if (write) {
    KeepNew(bio.device_offset(), bio.bytes());
    Record(op, bio.device_offset(), bio.bytes(), bio.segment_count(),
           bio.io_class());
  }
  return bio.bytes();
}

Result SimDevice::DoFlush() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(SimOp::kFlush); error != 0) {
    return Result::Error(error);
  }
  unflushed_.clear();
  Record(SimOp::kFlush, 0, 0, 0, 0);
  return Result::Ok();
}

// Leaves poison: nobody may rely on what a discarded block holds.
Result SimDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(SimOp::kDiscard); error != 0) {
    return Result::Error(error);
  }
  KeepOld(offset, bytes);
  image_.replace(offset, bytes,
                 MakePoison(offset, bytes, geometry().logical_block_bytes));
  KeepNew(offset, bytes);
  Record(SimOp::kDiscard, offset, bytes, 0, 0);
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
                       uint32_t segments, IoClass io_class) {
  events_.push_back({op, ++sequence_, offset, bytes, segments, io_class});
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

}  // namespace diofs
