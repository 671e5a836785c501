#include "dio/plug.h"

#include "dio/block_device.h"

namespace diofs {
namespace {

// What one ring takes in one io_uring_enter.
constexpr size_t kMaxPluggedBios = 128;

}  // namespace

void Plug::Add(Bio* bio) {
  bios_.push_back(bio);
  if (bios_.size() >= kMaxPluggedBios) Finish();
}

void Plug::Finish() {
  if (bios_.empty()) return;
  device_->Submit(bios_.data(), bios_.size());
  bios_.clear();
}

}  // namespace diofs
