#include "dio/plug.h"

#include "dio/block_device.h"

namespace diofs {

void Plug::Add(Bio* bio) {
  bios_[count_++] = bio;
  if (count_ < kMaxBios) return;
  Finish();
  // A long request must not pile up what has completed meanwhile.
  device_->Poll();
}

void Plug::Finish() {
  if (count_ == 0) return;
  device_->Submit(bios_.data(), count_);
  count_ = 0;
}

}  // namespace diofs
