#include "tests/crash_device.h"

#include <sched.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "dio/dio.h"
#include "tests/allocation_scope.h"

namespace diofs {

CrashDevice::CrashDevice(CowImage image, const Geometry& geometry,
                         Recording* recording)
    : BlockDevice("crash", geometry),
      image_(std::move(image)),
      recording_(recording) {}

void CrashDevice::Wait(Dio* dio, uint32_t /*wait_nr*/) {
  while (!dio->done()) {
    if (!CompleteOldest()) sched_yield();
  }
}

void CrashDevice::Poll() { CompleteOldest(); }

void CrashDevice::FailNth(SimOp op, uint64_t nth, int error, bool forever) {
  const std::lock_guard<std::mutex> lock(mutex_);
  fault_op_ = op;
  until_fault_ = nth;
  fault_error_ = error;
  fault_forever_ = forever;
}

bool CrashDevice::failed() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return failed_;
}

// The errno that an operation fails with, or 0.
int CrashDevice::Arrive(SimOp op) {
  if (op != fault_op_ || until_fault_ == 0) return 0;
  if (--until_fault_ > 0) return 0;
  if (fault_forever_) until_fault_ = 1;
  failed_ = true;
  return fault_error_;
}

void CrashDevice::Note(uint64_t id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  recording_->events.push_back({CrashEvent::Kind::kNote, id});
}

CowImage CrashDevice::image() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return image_;
}

void CrashDevice::RecordWrite(const Bio& bio) {
  if (recording_ == nullptr || bio.direction() == IoDirection::kRead) return;
  CrashWrite write;
  write.offset = bio.device_offset();
  write.fua = bio.fua();
  for (uint32_t i = 0; i < bio.segment_count(); ++i) {
    const iovec& segment = bio.segments()[i];
    write.data.append(static_cast<const char*>(segment.iov_base),
                      segment.iov_len);
  }
  const uint64_t id = recording_->writes.size();
  recording_->writes.push_back(std::move(write));
  recording_->events.push_back({CrashEvent::Kind::kSubmit, id});
  writes_[&bio] = id;
}

void CrashDevice::DoSubmit(Bio* const* bios, size_t count) {
  const AllocationScope not_counted(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t i = 0; i < count; ++i) {
    RecordWrite(*bios[i]);
    pending_.push_back(bios[i]);
  }
}

bool CrashDevice::CompleteOldest() {
  Bio* next = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (pending_.empty()) return false;
    next = pending_.front();
    pending_.pop_front();
  }
  Complete(next, DoMove(next));
  return true;
}

// Also called for one that was interrupted and is tried again.
int64_t CrashDevice::DoMove(Bio* bio) {
  const AllocationScope not_counted(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  const bool write = bio->direction() == IoDirection::kWrite;
  if (const int error = Arrive(write ? SimOp::kWrite : SimOp::kRead);
      error != 0) {
    return -error;
  }
  const int count = bio->FillRemainder();
  uint64_t offset = bio->device_offset() + bio->done_bytes;
  uint64_t left = bio->limit_bytes - bio->done_bytes;
  const auto bytes = static_cast<int64_t>(left);
  for (int i = 0; i < count && left > 0; ++i) {
    const iovec& segment = bio->remainder[static_cast<size_t>(i)];
    const uint64_t length = std::min<uint64_t>(segment.iov_len, left);
    auto* const memory = static_cast<char*>(segment.iov_base);
    if (write) {
      image_.Write(offset, memory, length);
    } else {
      image_.Read(offset, length, memory);
    }
    offset += length;
    left -= length;
  }
  if (const auto id = writes_.find(bio); id != writes_.end()) {
    // The rest of one that was cut short is not written through.
    if (!bio->written_through) recording_->writes[id->second].fua = false;
    recording_->events.push_back({CrashEvent::Kind::kComplete, id->second});
    writes_.erase(id);
  }
  return bytes;
}

Result CrashDevice::DoFlush() {
  const AllocationScope not_counted(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (const int error = Arrive(SimOp::kFlush); error != 0) {
    return Result::Error(error);
  }
  if (recording_ != nullptr) {
    recording_->events.push_back({CrashEvent::Kind::kFlushBegin, 0});
    recording_->events.push_back({CrashEvent::Kind::kFlushEnd, 0});
  }
  return Result::Ok();
}

Result CrashDevice::DoDiscard(uint64_t offset, uint64_t bytes) {
  const AllocationScope not_counted(false);
  const std::lock_guard<std::mutex> lock(mutex_);
  CrashWrite write;
  write.offset = offset;
  write.discard = true;
  const uint32_t block_bytes = geometry().logical_block_bytes;
  for (uint64_t at = offset; at < offset + bytes; at += block_bytes) {
    write.data.append(block_bytes, SimDevice::Poison(at, block_bytes));
  }
  image_.Write(offset, write.data.data(), bytes);
  if (recording_ != nullptr) {
    recording_->events.push_back(
        {CrashEvent::Kind::kDiscard, recording_->writes.size()});
    recording_->writes.push_back(std::move(write));
  }
  return Result::Ok();
}

}  // namespace diofs
