#include "dio/dio.h"

#include <cerrno>

#include "dio/block_device.h"
#include "dio/dio_submit.h"

namespace diofs {

// The memory belongs to the device until the last bio has ended, whether or
// not anybody asks for the result.
Dio::~Dio() {
  if (!done() && !device_->stale()) device_->Wait(this);
}

void Dio::Submit(const DioRequest& request, Plug* plug) {
  if (device_->stale()) {
    SetError(ESTALE);
    return;
  }
  async_ = request.async;
  refs_.store(1, std::memory_order_relaxed);
  DioSubmit(this, request, plug).Walk();
  Unref();
}

Result Dio::Wait() {
  if (device_->stale()) {
    return Result::Error(ESTALE, device_->name() + ": opened before a fork");
  }
  if (!done()) device_->Wait(this);
  const int error = error_.load(std::memory_order_relaxed);
  if (error != 0) return Result::Error(error, device_->name());
  return Result::Bytes(bytes_);
}

void Dio::BioDone(int64_t result, uint32_t expected) {
  if (result < 0) {
    SetError(static_cast<int>(-result));
  } else if (result != expected) {
    // Backends finish what is short; one that does not has lost bytes.
    SetError(EIO);
  }
  Unref();
}

void Dio::SetError(int error) {
  int none = 0;
  error_.compare_exchange_strong(none, error, std::memory_order_relaxed);
}

// Releases what this reference's holder did (its error among it) to whoever
// sees 0.
void Dio::Unref() { refs_.fetch_sub(1, std::memory_order_acq_rel); }

}  // namespace diofs
