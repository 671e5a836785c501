#ifndef DIOFS_TESTS_GATE_DEVICE_H_
#define DIOFS_TESTS_GATE_DEVICE_H_

#include <sched.h>

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

#include "dio/block_device.h"
#include "dio/dio.h"
#include "tests/gauges.h"

namespace diofs {

// A device in memory whose writes can be held up, so that a test can look at
// the moment between a submission and its completion. Thread-safe.
class GateDevice final : public BlockDevice {
 public:
  GateDevice(std::string image, const Geometry& geometry)
      : BlockDevice("gate", geometry), image_(std::move(image)) {}
  ~GateDevice() override { ExpectNothingHeld(this); }

  // Writes that arrive from now on wait, on the thread that submits them.
  void CloseForWrites() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  void Open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = false;
    changed_cv_.notify_all();
  }
  // Returns when `count` writes are waiting.
  void AwaitBlocked(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_cv_.wait(lock, [&] { return blocked_ >= count; });
  }
  std::string Image() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return image_;
  }

  void Wait(Dio* dio, uint32_t /*wait_nr*/) override {
    while (!dio->done()) sched_yield();
  }
  // It moves everything at once.
  int64_t DoMove(Bio* /*bio*/) override { return 0; }
  const char* backend_name() const override { return "gate"; }

 private:
  void DoSubmit(Bio* const* bios, size_t count) override {
    for (size_t i = 0; i < count; ++i) {
      Move(*bios[i]);
      Complete(bios[i], bios[i]->bytes());
    }
  }
  Result DoFlush() override { return Result::Ok(); }
  Result DoDiscard(uint64_t, uint64_t) override { return Result::Ok(); }

  void Move(const Bio& bio) {
    const bool write = bio.direction() == IoDirection::kWrite;
    std::unique_lock<std::mutex> lock(mutex_);
    if (write && closed_) {
      ++blocked_;
      changed_cv_.notify_all();
      changed_cv_.wait(lock, [&] { return !closed_; });
      --blocked_;
    }
    char* at = &image_[bio.device_offset()];
    for (uint32_t i = 0; i < bio.segment_count(); ++i) {
      const iovec& segment = bio.segments()[i];
      if (write) {
        std::memcpy(at, segment.iov_base, segment.iov_len);
      } else {
        std::memcpy(segment.iov_base, at, segment.iov_len);
      }
      at += segment.iov_len;
    }
  }

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_cv_;
  bool closed_ = false;
  int blocked_ = 0;
  std::string image_;
};

}  // namespace diofs

#endif  // DIOFS_TESTS_GATE_DEVICE_H_
